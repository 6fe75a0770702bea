"""Owns the rule by which an event counts as superseded. Pure.

An event names the one it was decided against (`replaces`). What is on the chain from an entry's winner back to its
first event has shaped the entry; what is not lost a merge, or was taken over by an import that knew nothing of it.
An event is always stamped later than what it replaces, so one walk from the greatest stamp down tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from oscd.events.event import Event, EventRef


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a walk down the events of one entry stands.

    Attributes:
        expected: The next event of the chain; None where there is none left, or none was met yet.
        has_begun: Whether the winner was met.
    """

    expected: EventRef | None = None
    has_begun: bool = False

    def holds(self, event: Event) -> bool:
        """Whether an event, the next one down, is on the chain."""
        return not self.has_begun or event.ref == self.expected

    def past(self, event: Event) -> Lineage:
        """The walk after an event."""
        return Lineage(event.replaces, has_begun=True) if self.holds(event) else self
