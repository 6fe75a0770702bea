"""Owns counting what a node says and takes while nothing is asked of it. Must not judge it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.node import RunningNode


@dataclass(frozen=True, slots=True)
class Tally:
    """What one node did for a while.

    Attributes:
        lines: What it logged.
        cpu_seconds: Processor time of all its processes.
    """

    lines: tuple[str, ...]
    cpu_seconds: float


def tally(nodes: Sequence[RunningNode], seconds: float) -> list[Tally]:
    """Watch nodes for so long; what was before does not count."""
    said = [len(node.output) for node in nodes]
    spent = [_cpu_seconds(node) for node in nodes]
    time.sleep(seconds)
    return [
        Tally(tuple(node.output[begin:].splitlines()), _cpu_seconds(node) - before)
        for node, begin, before in zip(nodes, said, spent, strict=True)
    ]


def _cpu_seconds(node: RunningNode) -> float:
    ticks = 0
    for pid in node.processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            # proc(5): the name in parentheses may hold anything; of what follows it, utime and stime are 11 and 12.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
