"""Owns the SQL that reads the log, in a view somebody else opened. Must not write, nor touch a projection's table."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import Body, Change, Event, Origin, Recorded
from oscd.events.foreign import OriginTip, Raw
from oscd.events.log import Found
from oscd.events.position import Position, mark
from oscd.events.sqlite import cuts, own
from oscd.events.standing import Own

# A page of events ends past this many bytes of bodies, whatever number was asked for.
MAX_PAGE_BYTES = 4 * 1024 * 1024

_EVENT = '"offset", header, body, events.digest, previous, entry_id'


class SqliteReading:
    """A view of the log on one connection; see `oscd.events.log.Reading`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.store = connection

    def head(self) -> int:
        """Offset of the last event, 0 in an empty log."""
        (head,) = self.store.execute('SELECT max("offset") FROM events').fetchone()
        return int(head or 0)

    def position(self) -> Position:
        """Where a reader of everything stands."""
        rows = self.store.execute("SELECT incarnation, seq, digest FROM origins WHERE seq > 0")
        return Position({incarnation: mark(seq, digest) for incarnation, seq, digest in rows})

    def find(self, incarnation: str, seq: int) -> Found | None:
        """Where the `seq`-th event of an origin stands; None where this log has not got it."""
        row = self.store.execute(
            'SELECT e."offset", e.digest FROM origins o JOIN events e ON e.origin = o.id AND e.seq = ?'
            " WHERE o.incarnation = ?",
            (seq, incarnation),
        ).fetchone()
        return None if row is None else Found(*row)

    def events(self, after: int, limit: int) -> Sequence[Recorded]:
        """The events with `offset > after`, in order, at most `limit` of them; fewer where they are large."""
        events: list[Recorded] = []
        size = 0
        for row in self.store.execute(
            f'SELECT {_EVENT} FROM events WHERE "offset" > ? ORDER BY "offset" LIMIT ?', (after, limit)
        ):
            events.append(_recorded(row))
            size += len(row[2] or b"")
            if size >= MAX_PAGE_BYTES:
                break
        return events

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """The events with `offset > after`, in order, at most `limit` of them, each with the one it met."""
        rows = self.store.execute(
            'SELECT e."offset", e.header, e.digest, met.header FROM events e'
            ' LEFT JOIN events met ON met."offset" = e.previous'
            ' WHERE e."offset" > ? ORDER BY e."offset" LIMIT ?',
            (after, limit),
        )
        return [
            Change(
                offset, codec.decode_header(header), digest, None if met is None else codec.decode_header(met)
            )
            for offset, header, digest, met in rows
        ]

    def met(self, environment: str, key: str, before: int, ahead: Mapping[str, int]) -> Event | None:
        """The greatest-stamped event of an entry among those a reader has been told."""
        rows = self.store.execute(
            'SELECT "offset", events.seq, incarnation, header FROM events JOIN origins ON origins.id = events.origin'
            " WHERE environment = ? AND key = ? ORDER BY events.stamp DESC, node_id DESC, incarnation DESC",
            (environment, key),
        )
        for offset, seq, incarnation, header in rows:
            if offset < before or seq <= ahead.get(incarnation, 0):
                return codec.decode_header(header)
        return None

    def event_at(self, offset: int) -> Recorded | None:
        """The event at `offset`."""
        row = self.store.execute(f'SELECT {_EVENT} FROM events WHERE "offset" = ?', (offset,)).fetchone()
        return None if row is None else _recorded(row)

    def body_at(self, offset: int, *, at_most: int | None = None) -> Body | None:
        """The body of the event at `offset`; None where it is not there, or has more than `at_most` bytes."""
        # length() reads the row's header only, so a body that is too large is not read at all.
        row = self.store.execute(
            "SELECT CASE WHEN :most IS NULL OR length(body) <= :most THEN body END FROM events"
            ' WHERE "offset" = :offset',
            {"offset": offset, "most": at_most},
        ).fetchone()
        return None if row is None or row[0] is None else codec.decode_body(row[0])

    def winner(self, environment: str, key: str, cut: Cut) -> Recorded | None:
        """The greatest-stamped event of an entry among those the cut covers."""
        row = self.store.execute(
            *cuts.of_entry(self.store, _EVENT, environment, key, cut, limit=1)
        ).fetchone()
        return None if row is None else _recorded(row)

    def versions(
        self, environment: str, key: str, cut: Cut, before: Event | None, limit: int
    ) -> Sequence[tuple[int, Event]]:
        """The events of an entry that the cut covers with their offsets, the greatest-stamped first."""
        rows = self.store.execute(
            *cuts.of_entry(self.store, '"offset", header', environment, key, cut, limit=limit, before=before)
        )
        return [(offset, codec.decode_header(header)) for offset, header in rows]

    def cut_at_head(self) -> Cut:
        """What covers every event of this log."""
        return cuts.at_head(self.store)

    def cut_of(self, position: Position) -> Cut | None:
        """What a position covers; None where this log does not hold all of it, or it stands within a write."""
        return cuts.of_position(self.store, position)

    def cut_upto(self, stamp: int) -> Cut:
        """What covers the events stamped up to then, without a write whose last event is stamped later."""
        return cuts.upto(self.store, stamp)

    def cut_naming(self, event: Event) -> Cut:
        """What covers an event, the rest of its write, and what stands before it in precedence."""
        return cuts.naming(self.store, event)

    def raw(self, after: int, limit: int) -> Sequence[Raw]:
        """The events with `offset > after` as they are stored, at most `limit`; fewer where they are large."""
        page: list[Raw] = []
        size = 0
        for row in self.store.execute(
            'SELECT "offset", incarnation, events.seq, events.digest, header, body FROM events'
            ' JOIN origins ON origins.id = events.origin WHERE "offset" > ? ORDER BY "offset" LIMIT ?',
            (after, limit),
        ):
            page.append(Raw(*row))
            size += len(row[5] or b"")
            if size >= MAX_PAGE_BYTES:
                break
        return page

    def tip_of(self, incarnation: str) -> OriginTip | None:
        """Where the chain of an origin ends here; None where this log has never heard of it."""
        row = self.store.execute(
            "SELECT node_id, seq, digest, stamp FROM origins WHERE incarnation = ?", (incarnation,)
        ).fetchone()
        return None if row is None else OriginTip(Origin(row[0], incarnation), *row[1:])

    def origin_count(self) -> int:
        """How many origins this log knows, its own among them."""
        (count,) = self.store.execute("SELECT count(*) FROM origins").fetchone()
        return int(count)

    def own(self) -> Own:
        """What this log knows of the origin it appends to."""
        return own.read_own(self.store)

    def runs(self) -> Mapping[str, str]:
        """By node id, the latest run of other nodes that this log has noted."""
        return own.runs(self.store)

    def writes_held(self) -> str | None:
        """Why every append is refused now; None where none is for that reason."""
        return own.writes_held(self.store)


def _recorded(row: tuple[Any, ...]) -> Recorded:
    offset, header, body, digest, previous, entry_id = row
    return Recorded(
        offset=offset,
        event=codec.decode_header(header),
        digest=digest,
        body=None if body is None else codec.decode_body(body),
        previous=previous,
        entry_id=entry_id,
    )
