"""Owns sessions that a page shows: their commands, and whether one printed what is shown. Must not run anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ONLY_ON_A_TERMINAL: Final = "NODE "
"""The heads of a table, which a pipe is not shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session.

    Attributes:
        machine: Whose prompt it is typed at; empty where the page knows one machine only.
        shown: The lines that the page shows below it; none where what it prints does not matter.
    """

    machine: str
    command: str
    shown: tuple[str, ...]


Session = tuple[Step, ...]


def sessions_of(text: str) -> list[Session]:
    """The sessions of a page, or of a part of one, in order."""
    return [_session(one) for one in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def _session(text: str) -> Session:
    steps = re.findall(r"^(\w*)\$ ([^\n]*)\n((?:(?!\w*\$ )[^\n]*\n)*)", text, re.MULTILINE)
    assert steps, text
    return tuple(
        Step(
            machine,
            command,
            tuple(line for line in shown.splitlines() if not line.startswith(_ONLY_ON_A_TERMINAL)),
        )
        for machine, command, shown in steps
    )


def is_shown(printed: str, shown: tuple[str, ...]) -> bool:
    """Whether a command printed these lines: `…` is anything within one, alone it is any number of lines."""
    if not shown:
        return True
    pattern = "".join(r"(?:[^\n]*\n)*" if line == "…" else f"{_pattern(line)}\n" for line in shown)
    return re.fullmatch(pattern, printed if printed.endswith("\n") else f"{printed}\n") is not None


def _pattern(line: str) -> str:
    # Columns are parted by tabs in a pipe.
    return re.sub(r"(\\ )+", r"[ \\t]+", re.escape(line)).replace("…", r"[^\n]*")
