"""Owns what a check says: one verdict, in one line, with what to do. Must not know a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; the worse one is the greater."""

    OK = 0
    WARN = 1
    FAIL = 2

    @property
    def word(self) -> str:
        """As a line begins with it; what fails shall be seen at a glance."""
        return "FAIL" if self is Level.FAIL else self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict. No secret is in it.

    Attributes:
        name: Of what was looked at; the same for every verdict on it.
        verdict: What is so.
        advice: What to do; empty where there is nothing to do, or the verdict says it.
    """

    level: Level
    name: str
    verdict: str
    advice: str = ""

    def __str__(self) -> str:
        """The line: level, name, verdict, and after a dash what to do."""
        line = f"{self.level.word:<4}  {self.name:<20}  {self.verdict}"
        return f"{line} — {self.advice}" if self.advice else line


def ok(name: str, verdict: str) -> Finding:
    """All is well with this."""
    return Finding(Level.OK, name, verdict)


def warn(name: str, verdict: str, advice: str = "") -> Finding:
    """It works, and somebody should look at it."""
    return Finding(Level.WARN, name, verdict, advice)


def fail(name: str, verdict: str, advice: str = "") -> Finding:
    """It does not work, or will not at the next start."""
    return Finding(Level.FAIL, name, verdict, advice)
