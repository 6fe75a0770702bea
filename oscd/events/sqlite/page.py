"""Owns the rows of a page of events as it is appended: offset, the event each one meets, entry id.

What the page's entries hold so far is read at once, and what changes with each event is kept here until the page
ends: a statement, or an object made anew, for each of them would cost as much as its row. Must not decide what may be
appended, nor touch a projection's table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from oscd.events.event import Body, Draft, Event, Origin, Recorded, life_number
from oscd.events.sqlite import rows

# Every SQLite binds 999 values; a place is two of them.
_PLACES_AT_ONCE: Final = 250

# The index delivers an entry's events by stamp; only where two origins stamped the same microsecond is there
# anything left to sort, and then the origin's name decides, as `Event.precedence` does.
_WINNERS: Final = (
    'SELECT place.environment, place.key, won."offset", won.entry_id, won.stamp, node_id, incarnation'
    ' FROM place CROSS JOIN events won ON won."offset" = ('
    'SELECT "offset" FROM events JOIN origins ON origins.id = events.origin'
    " WHERE events.environment = place.environment AND events.key = place.key"
    " ORDER BY events.stamp DESC, node_id DESC, incarnation DESC LIMIT 1"
    ") JOIN origins ON origins.id = won.origin"
)

_INTO_EVENTS: Final = (
    'INSERT INTO events ("offset", origin, seq, stamp, environment, key,'
    " previous, entry_id, digest, header, body)"
)


@dataclass(slots=True)
class End:
    """Where an origin ends, while events of it are appended."""

    row_id: int
    seq: int
    digest: bytes
    stamp: int


class _Winner(NamedTuple):
    """The greatest-stamped event of an entry that is in the log already."""

    offset: int
    entry_id: int | None
    stamp: int
    node_id: str
    incarnation: str

    @property
    def precedence(self) -> tuple[int, Origin]:
        return (self.stamp, Origin(self.node_id, self.incarnation))


@dataclass(slots=True)
class Page:
    """Events that follow each other in a log, and how far they lead.

    Attributes:
        offset: Of the last event of the log.
        greatest_stamp: Of any origin's events.
        last_entry_id: The greatest ever given.
        recorded: The events, in order.
    """

    offset: int
    greatest_stamp: int
    last_entry_id: int
    recorded: list[Recorded] = field(default_factory=list)
    _winners: dict[tuple[str, str], _Winner | Recorded] = field(default_factory=dict)
    _rows: list[tuple[Any, ...]] = field(default_factory=list)

    def look_up(self, store: sqlite3.Connection, coming: Sequence[Draft] | Sequence[Event]) -> None:
        """See what the log holds of the entries that are to change; before any of them is added."""
        places = list({(one.environment, one.key): None for one in coming})
        for at in range(0, len(places), _PLACES_AT_ONCE):
            some = places[at : at + _PLACES_AT_ONCE]
            values = ",".join(["(?, ?)"] * len(some))
            bound = [name for place in some for name in place]
            for environment, key, *winner in store.execute(
                f"WITH place (environment, key) AS (VALUES {values}) {_WINNERS}", bound
            ):
                self._winners[environment, key] = _Winner(*winner)

    def add(
        self,
        end: End,
        event: Event,
        digest: bytes,
        stored: tuple[bytes, bytes | None],
        body: Body | None = None,
        wanted_id: int | None = None,
    ) -> None:
        """Add the next event, which the end of its origin moves on to.

        Args:
            stored: The bytes of its header and of its body.
            body: As the projections are to see it.
            wanted_id: The entry id an imported row had.
        """
        place = (event.environment, event.key)
        is_of_entry = event.is_of_entry
        met = self._winners.get(place) if is_of_entry else None
        previous, previous_id = (None, None) if met is None else (met.offset, met.entry_id)
        entry_id = life_number(event.type, previous_id, self.last_entry_id, wanted_id)
        self.offset += 1
        self.greatest_stamp = max(self.greatest_stamp, event.stamp)
        if entry_id is not None:
            self.last_entry_id = max(self.last_entry_id, entry_id)
        end.seq, end.digest, end.stamp = event.seq, digest, event.stamp
        recorded = Recorded(self.offset, event, digest, body, previous, entry_id)
        self.recorded.append(recorded)
        if is_of_entry and (met is None or event.precedence > _precedence(met)):
            self._winners[place] = recorded
        self._rows.append(
            (
                *(self.offset, end.row_id, event.seq, event.stamp, *place),
                *(previous, entry_id, digest, *stored),
            )
        )

    def insert(self, store: sqlite3.Connection) -> None:
        """Put the events into the log."""
        rows.insert(store, _INTO_EVENTS, self._rows)
        self._rows.clear()


def _precedence(winner: _Winner | Recorded) -> tuple[int, Origin]:
    return winner.precedence if isinstance(winner, _Winner) else winner.event.precedence
