"""Owns the SQL of the log: reading events, and appending them inside a transaction somebody else opened.

Must not begin, commit or lock (the writer does), nor touch a projection's table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import Body, Change, Draft, Event, Origin, Recorded, life_number
from oscd.events.log import Found, MicrosecondClock, Projections
from oscd.events.position import Mark, Position, mark
from oscd.events.sqlite import cuts
from oscd.events.sqlite.schema import read_meta, write_meta

# A page of events ends past this many bytes of bodies, whatever number was asked for.
MAX_PAGE_BYTES = 4 * 1024 * 1024
# Events of one write that are in memory at a time, and reach the projections together.
APPEND_PAGE = 500

_EVENT = '"offset", header, body, events.digest, previous, entry_id'

# The index delivers an entry's events by stamp; only where two origins stamped the same microsecond is there
# anything left to sort, and then the origin's name decides, as `Event.precedence` does.
_FROM_WINNER = (
    "FROM events JOIN origins ON origins.id = events.origin"
    ' WHERE environment = ? AND key = ? AND "offset" <= ?'
    " ORDER BY events.stamp DESC, node_id DESC, incarnation DESC LIMIT 1"
)


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


@dataclass(frozen=True, slots=True)
class Tip:
    """Where an append continues: this log's head, and the end of the origin it appends to."""

    offset: int
    seq: int
    digest: bytes
    origin_stamp: int
    greatest_stamp: int
    last_entry_id: int


class SqliteWriting(SqliteReading):
    """A view that appends to one origin; see `oscd.events.log.Writing`. Lives for one transaction.

    Attributes:
        tip: What the next append continues from. Whoever rolls a savepoint back puts the older tip back.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        origin: Origin,
        projections: Projections[sqlite3.Connection],
        clock: MicrosecondClock,
    ) -> None:
        super().__init__(connection)
        self.origin = origin
        self._projections = projections
        self._clock = clock
        self._other_marks: dict[str, Mark] | None = None
        row = connection.execute(
            "SELECT id, seq, digest, stamp, (SELECT max(stamp) FROM origins) FROM origins WHERE incarnation = ?",
            (origin.incarnation,),
        ).fetchone()
        self._origin_id: int = row[0]
        last_entry_id = read_meta(connection, "last_entry_id")
        self.tip = Tip(self.head(), row[1], row[2], row[3], row[4], int(last_entry_id or 0))

    def position(self) -> Position:
        """Where a reader of everything stands, what was appended so far included."""
        # Only this transaction writes, and only to its own origin: the others are read once.
        if self._other_marks is None:
            marks = dict(super().position().marks)
            marks.pop(self.origin.incarnation, None)
            self._other_marks = marks
        if not self.tip.seq:
            return Position(self._other_marks)
        return Position({**self._other_marks, self.origin.incarnation: mark(self.tip.seq, self.tip.digest)})

    def append(self, drafts: Sequence[Draft]) -> Sequence[Recorded]:
        """Append the events of one write, in order, and apply each to the projections."""
        before = self.tip
        recorded = self._append_page(drafts, before.seq + len(drafts))
        self._note_tip(before)
        return recorded

    def append_many(self, drafts: Iterable[Draft], count: int) -> None:
        """Append the events of one write, a page of them in memory.

        Raises:
            ValueError: There are not `count` of them.
        """
        before = self.tip
        coming = iter(drafts)
        while page := list(islice(coming, APPEND_PAGE)):
            self._append_page(page, before.seq + count)
        if self.tip.seq != before.seq + count:
            raise ValueError(f"{self.tip.seq - before.seq} drafts were given for a write of {count}")
        self._note_tip(before)

    def _append_page(self, drafts: Sequence[Draft], last_seq: int) -> list[Recorded]:
        recorded = [self._append_one(draft, last_seq) for draft in drafts]
        self._projections.apply_all(self.store, recorded)
        return recorded

    def _note_tip(self, before: Tip) -> None:
        self.store.execute(
            "UPDATE origins SET seq = ?, digest = ?, stamp = ? WHERE id = ?",
            (self.tip.seq, self.tip.digest, self.tip.origin_stamp, self._origin_id),
        )
        if self.tip.last_entry_id != before.last_entry_id:
            write_meta(self.store, "last_entry_id", self.tip.last_entry_id)

    def _append_one(self, draft: Draft, last_seq: int) -> Recorded:
        tip = self.tip
        body = codec.encode_body(draft.body)
        event = codec.event_from_draft(
            draft,
            origin=self.origin,
            seq=tip.seq + 1,
            last_seq=last_seq,
            stamp=self._stamp(draft.stamp),
            body=body,
        )
        header = codec.encode_header(event)
        previous, previous_id = self._met(event)
        recorded = Recorded(
            offset=tip.offset + 1,
            event=event,
            digest=codec.chain_digest(tip.digest, header),
            body=draft.body,
            previous=previous,
            entry_id=life_number(draft, previous_id, tip.last_entry_id),
        )
        self._insert(recorded, header, body)
        self.tip = Tip(
            offset=recorded.offset,
            seq=event.seq,
            digest=recorded.digest,
            origin_stamp=event.stamp,
            greatest_stamp=max(tip.greatest_stamp, event.stamp),
            last_entry_id=max(tip.last_entry_id, recorded.entry_id or 0),
        )
        return recorded

    def _met(self, event: Event) -> tuple[int | None, int | None]:
        """Offset and entry id of the entry's winner so far."""
        if not event.is_of_entry:
            return (None, None)
        row: tuple[int, int | None] | None = self.store.execute(
            f'SELECT "offset", entry_id {_FROM_WINNER}', (event.environment, event.key, self.tip.offset)
        ).fetchone()
        return (None, None) if row is None else row

    def _stamp(self, imported: int | None) -> int:
        if imported is not None:
            return max(imported, self.tip.origin_stamp + 1)
        return max(self._clock(), self.tip.greatest_stamp + 1)

    def _insert(self, recorded: Recorded, header: bytes, body: bytes) -> None:
        event = recorded.event
        self.store.execute(
            'INSERT INTO events ("offset", origin, seq, stamp, environment, key, previous, entry_id, digest,'
            " header, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                recorded.offset,
                self._origin_id,
                event.seq,
                event.stamp,
                event.environment,
                event.key,
                recorded.previous,
                recorded.entry_id,
                recorded.digest,
                header,
                body,
            ),
        )


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
