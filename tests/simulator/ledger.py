"""Owns what really happened in a run, as nodes and readers are judged by it. Must not share a rule with oscd.

It is told of every event when the node that wrote it commits it, and merges them by itself: all events, sorted by
stamp, the last one of each entry wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from oscd.events.event import Event
from oscd.events.position import Mark, Position

Place = tuple[str, str]
"""Environment and key of an entry."""

Number = tuple[str, int]
"""Incarnation and seq of an event."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One event as it was committed first.

    Attributes:
        before: Chain digest of the event before it of its origin.
    """

    event: Event
    digest: bytes
    before: bytes


class Ledger:
    """Every event that was ever committed, by chain digest.

    Attributes:
        lost: Those that no node can know any more: their node was wiped or restored while it alone had them.
    """

    def __init__(self) -> None:
        self.facts: dict[bytes, Fact] = {}
        self.lost: dict[bytes, None] = {}
        self._numbers: dict[Number, list[bytes]] = {}

    def committed(self, event: Event, digest: bytes, before: bytes) -> None:
        """A node has written an event."""
        number = (event.origin.incarnation, event.seq)
        issued = self._numbers.setdefault(number, [])
        for other in issued:
            assert other in self.lost, f"{number} was issued twice while a node knew the first one"
        issued.append(digest)
        self.facts[digest] = Fact(event, digest, before)

    def lose(self, digests: Iterable[bytes]) -> None:
        """No node has these any more."""
        self.lost.update(dict.fromkeys(digests))

    def surviving(self) -> Iterator[Fact]:
        """What every node must hold in the end."""
        return (fact for digest, fact in self.facts.items() if digest not in self.lost)

    def at(self, position: Position) -> list[Event]:
        """The events that a position covers."""
        covered: list[Event] = []
        for incarnation, mark in position.marks.items():
            last = self._marked(incarnation, mark)
            assert last.event.seq == last.event.last_seq, "a position covers half a write"
            covered += self._chain(last)
        return covered

    def _chain(self, fact: Fact | None) -> Iterator[Event]:
        while fact is not None:
            yield fact.event
            fact = self.facts.get(fact.before)

    def _marked(self, incarnation: str, mark: Mark) -> Fact:
        for digest in self._numbers.get((incarnation, mark.seq), ()):
            if digest.startswith(mark.check):
                return self.facts[digest]
        raise AssertionError(f"a position covers event {mark.seq} of {incarnation}, which never was")


def winners(events: Iterable[Event]) -> Mapping[Place, Event]:
    """By entry, the event that wins once all are merged; deletes, too."""
    found: dict[Place, Event] = {}
    ordered = sorted(events, key=lambda event: (event.stamp, event.origin.node_id, event.origin.incarnation))
    for event in ordered:
        if event.key:
            found[event.environment, event.key] = event
    return found
