"""Owns what the position of a peer says beside this log: what is missing here, and where the two contradict.

Must not know where a position comes from.
"""

from __future__ import annotations

from oscd.events import codec
from oscd.events.event import EventRef
from oscd.events.log import Reading, Store
from oscd.events.position import Position, mark


def lag(own: Position, other: Position) -> int:
    """How many events another position covers that this one does not, up to `codec.MAX_NUMBER`.

    A peer may claim that number of each of many origins, and more than twice it cannot be written as JSON.
    """
    missing = 0
    for incarnation, theirs in other.marks.items():
        ours = own.marks.get(incarnation)
        missing += max(0, theirs.seq - (0 if ours is None else ours.seq))
    return min(missing, codec.MAX_NUMBER)


def contradictions(reading: Reading[Store], position: Position) -> list[EventRef]:
    """The events a position names by another digest than they have here: forks (invariant 8).

    A digest covers all that came before, so a fork further back shows at the end as well.
    """
    forks = []
    for incarnation, wanted in position.marks.items():
        found = reading.find(incarnation, wanted.seq)
        tip = reading.tip_of(incarnation)
        if found is not None and tip is not None and mark(wanted.seq, found.digest) != wanted:
            forks.append(EventRef(tip.origin, wanted.seq))
    return forks
