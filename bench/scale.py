"""Owns how much is measured: enough to be believed, or just enough to see that all of it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of one run.

    Attributes:
        rounds: Samples per figure.
        seconds: Length of one load, without its warm-up.
        calls: Calls per sample of what is measured without HTTP.
        few: Entries of the small log.
        many: Entries of the large one.
        events: Events of the log in which the past is read.
    """

    rounds: int = 5
    seconds: float = 2.0
    calls: int = 2000
    few: int = 100
    many: int = 100_000
    events: int = 1_000_000


FULL = Scale()
QUICK = Scale(rounds=3, seconds=1.0, calls=500, many=10_000, events=50_000)
