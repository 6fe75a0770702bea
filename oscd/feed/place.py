"""Owns where a reader stands in this node's log, and how a position becomes such a place.

Must not wait, nor know what a reader does with what it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from oscd.events.log import Reading, Store
from oscd.events.position import Position, mark


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands.

    Attributes:
        offset: It has been told, or told elsewhere, everything in this log up to here.
        at: Its position as text, which covers whole writes only; a reader may resume from it.
        ahead: What it was told elsewhere of what comes after: by incarnation, up to which seq.
    """

    offset: int
    at: str
    ahead: Mapping[str, int] = field(default_factory=dict)


class NoPlace(Enum):
    """Why a position is no place in this log."""

    NOT_YET = "not yet"
    """It covers events that this log has not got, and may still get."""

    CONTRADICTED = "contradicted"
    """This log holds other events under the same numbers: it never was, or is no more, what the position tells."""


def place_at_head(reading: Reading[Store]) -> Place:
    """Where a reader of everything stands."""
    return Place(reading.head(), reading.position().encode())


def place_of(reading: Reading[Store], position: Position) -> Place | NoPlace:
    """The place in this log where a reader with that position stands."""
    found = {}
    is_missing = False
    for incarnation, wanted in position.marks.items():
        here = reading.find(incarnation, wanted.seq)
        if here is None:
            is_missing = True
        elif mark(wanted.seq, here.digest) != wanted:
            return NoPlace.CONTRADICTED
        else:
            found[incarnation] = here.offset
    if is_missing:
        return NoPlace.NOT_YET
    offset = _first_untold(reading, position) - 1
    ahead = {name: position.marks[name].seq for name, last in found.items() if last > offset}
    return Place(offset, position.encode(), ahead)


def _first_untold(reading: Reading[Store], position: Position) -> int:
    """Offset of the first event that the position does not cover; one past the head where it covers all."""
    first = reading.head() + 1
    for incarnation in reading.position().marks:
        told = position.marks.get(incarnation)
        following = reading.find(incarnation, 1 if told is None else told.seq + 1)
        if following is not None:
            first = min(first, following.offset)
    return first
