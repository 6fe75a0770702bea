"""Owns what a position means to a log that reads the past: which events are there, which came later.

A position says how far each origin has been read; a log that looks for an entry's winner among those events goes
by stamp, because stamps of one origin strictly rise (invariant 2). A cut holds both. Must not know how events are
stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oscd.events.event import EventRef
from oscd.events.position import Position


@dataclass(frozen=True, slots=True)
class Cut:
    """The events that a position covers, in a log that holds them all. Later events of the log do not change it.

    Attributes:
        position: How far each origin is covered.
        stamps: By incarnation, the stamp of its last event that is.
    """

    position: Position
    stamps: Mapping[str, int]

    def covers(self, event: EventRef) -> bool:
        """Whether an event is among them."""
        mark = self.position.marks.get(event.origin.incarnation)
        return mark is not None and event.seq <= mark.seq
