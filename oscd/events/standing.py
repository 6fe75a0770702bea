"""Owns the words for whether a log may go on with its own numbers (invariant 9). Must not decide it.

A node cannot know that its file was put back from an older copy, so in a cluster it asks before its first append. The
answer is kept in the log, where every worker finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from oscd.events.event import Origin


class Standing(StrEnum):
    """Whether a log may append to its origin."""

    CONTINUES = "continues"
    """Nobody knows of more events of this origin than the log holds."""

    ASKING = "asking"
    """Not yet: peers are being asked for what they know. Appends are refused with `Unavailable`."""

    BEGINS = "begins"
    """Not everybody answered: the next append begins a new incarnation, and the log continues with that."""


@dataclass(frozen=True, slots=True)
class Own:
    """What a log knows of the origin it appends to.

    Attributes:
        seq: Of the last event of it that the log holds; 0 where there is none.
    """

    origin: Origin
    seq: int
    standing: Standing
