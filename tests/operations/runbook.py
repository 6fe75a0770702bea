"""Owns docs/operations.md as tests read it: its sections, their sessions, and whether a command printed what it shows.

Must not run anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "operations.md"

_ONLY_ON_A_TERMINAL: Final = "NODE "
"""The heads of a table, which a pipe is not shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session.

    Attributes:
        machine: Whose prompt it is typed at.
        shown: The lines that the page shows below it; none where what it prints does not matter.
    """

    machine: str
    command: str
    shown: tuple[str, ...]


Session = tuple[Step, ...]


def block(language: str, holding: str) -> str:
    """The code block of that language with that text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [one for one in blocks if holding in one]
    return str(found)


def sections() -> dict[str, list[Session]]:
    """The sessions of each section that has any, in the order of the page."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {
        title: [
            _session(one) for one in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        ]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {title: sessions for title, sessions in found.items() if sessions}


def _session(text: str) -> Session:
    steps = re.findall(r"^(\w+)\$ ([^\n]*)\n((?:(?!\w+\$ )[^\n]*\n)*)", text, re.MULTILINE)
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
