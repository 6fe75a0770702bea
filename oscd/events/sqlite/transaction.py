"""Owns the SQL of appending: own events and those of other logs, inside a transaction somebody else opened.

Must not begin, commit or lock (the writer does), nor touch a projection's table.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from oscd.errors import Unavailable
from oscd.events import codec
from oscd.events.event import (
    EVENT_ID_BYTES,
    Draft,
    EventRef,
    Origin,
    Recorded,
    origin_began,
)
from oscd.events.foreign import Foreign
from oscd.events.log import MicrosecondClock, Projections
from oscd.events.origins import require_place
from oscd.events.position import Mark, Position, mark
from oscd.events.sqlite import own, schema
from oscd.events.sqlite.page import End, Page
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.standing import Standing

# Events of one write that are in memory at a time, and reach the projections together.
APPEND_PAGE = 500


@dataclass(frozen=True, slots=True)
class Tip:
    """Where an append continues: this log's head, and the end of the origin it appends to.

    Attributes:
        origin_id: Of the origin's row.
        standing: Whether it may be appended to.
        held: Why nothing may be appended now; None where it may.
        greatest_stamp: Of any origin's events.
    """

    origin: Origin
    origin_id: int
    standing: Standing
    held: str | None
    offset: int
    seq: int
    digest: bytes
    origin_stamp: int
    greatest_stamp: int
    last_entry_id: int


class SqliteWriting(SqliteReading):
    """A view that appends to one origin; see `oscd.events.log.Writing`. Lives for one transaction.

    Args:
        origin: Whose events it appends; None: the log's own, as its standing allows.

    Attributes:
        tip: What the next append continues from.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        projections: Projections[sqlite3.Connection],
        clock: MicrosecondClock,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(connection)
        self._projections = projections
        self._clock = clock
        self._other_marks: dict[str, Mark] | None = None
        row = connection.execute(
            "SELECT id, node_id, incarnation, seq, digest, stamp, (SELECT max(stamp) FROM origins) FROM origins"
            " WHERE incarnation = :incarnation"
            " OR (:incarnation IS NULL AND id = (SELECT value FROM meta WHERE name = 'own_origin'))",
            {"incarnation": None if origin is None else origin.incarnation},
        ).fetchone()
        last_entry_id = schema.read_meta(connection, "last_entry_id")
        self.tip = Tip(
            origin=Origin(row[1], row[2]),
            origin_id=row[0],
            standing=own.read_standing(connection) if origin is None else Standing.CONTINUES,
            held=own.writes_held(connection),
            offset=self.head(),
            seq=row[3],
            digest=row[4],
            origin_stamp=row[5],
            greatest_stamp=row[6],
            last_entry_id=int(last_entry_id or 0),
        )

    @property
    def origin(self) -> Origin:
        """The origin whose events this log writes itself."""
        return self.tip.origin

    def rewind(self, tip: Tip) -> None:
        """Go back to an older tip, as the savepoint it was taken in was rolled back."""
        self.tip = tip
        self._other_marks = None

    def position(self) -> Position:
        """Where a reader of everything stands, what was appended so far included."""
        # Only this transaction writes, and seldom to another origin than its own: the others are read once.
        if self._other_marks is None:
            marks = dict(super().position().marks)
            marks.pop(self.origin.incarnation, None)
            self._other_marks = marks
        if not self.tip.seq:
            return Position(self._other_marks)
        return Position({**self._other_marks, self.origin.incarnation: mark(self.tip.seq, self.tip.digest)})

    def append(self, drafts: Sequence[Draft]) -> Sequence[Recorded]:
        """Append the events of one write, in order, and apply each to the projections.

        Raises:
            Unavailable: Writes are held, it is not known yet where this log's origin ended, or it would have to begin
                an origin too many.
        """
        self._require_may_append()
        before = self.tip
        recorded = self._append_page(drafts, before.seq + len(drafts))
        self._note_tip(before)
        return recorded

    def append_many(self, drafts: Iterable[Draft], count: int) -> None:
        """Append the events of one write, a page of them in memory.

        Raises:
            ValueError: There are not `count` of them.
            Unavailable: As `append`.
        """
        self._require_may_append()
        before = self.tip
        coming = iter(drafts)
        while page := list(islice(coming, APPEND_PAGE)):
            self._append_page(page, before.seq + count)
        if self.tip.seq != before.seq + count:
            raise ValueError(f"{self.tip.seq - before.seq} drafts were given for a write of {count}")
        self._note_tip(before)

    def ingest(self, events: Iterable[Foreign]) -> int:
        """Take in whole writes that other logs wrote first; a page of them in memory.

        Raises:
            ValueError: One is not the next of its origin here; nothing may be committed then.
        """
        before = self.tip
        ends: dict[str, End] = {}
        coming = iter(events)
        while page := list(islice(coming, APPEND_PAGE)):
            self._ingest_page(page, ends)
        for end in ends.values():
            self._note_end(end)
        self._note_last_entry_id(before)
        self._other_marks = None
        return self.tip.offset - before.offset

    def settle(self, standing: Standing) -> None:
        """Say whether this log may append to its origin."""
        own.write_standing(self.store, standing)
        self.tip = replace(self.tip, standing=standing)

    def fence(self, node_id: str, run: str, members: Collection[str] = ()) -> None:
        """Note the latest run of another node.

        Raises:
            Unavailable: The log remembers as many nodes as it may, and none of them may be forgotten.
        """
        own.fence(self.store, node_id, run, members)

    def hold_writes(self, reason: str | None) -> None:
        """Refuse appends with that reason until it is None again."""
        own.hold_writes(self.store, reason)
        self.tip = replace(self.tip, held=reason)

    def _require_may_append(self) -> None:
        if self.tip.held is not None:
            raise Unavailable(self.tip.held)
        if self.tip.standing is Standing.ASKING:
            raise Unavailable("This node has just started and asks its peers where its log ended.")
        if self.tip.standing is Standing.BEGINS:
            require_place(self.origin_count())
            self._begin_anew()
        elif not self.tip.seq:
            require_place(self.origin_count() - 1)

    def _begin_anew(self) -> None:
        """Begin a new incarnation that follows the one so far (invariant 9)."""
        ended = EventRef(self.origin, self.tip.seq)
        origin = schema.begin_own_origin(self.store, self.origin.node_id)
        (row_id,) = self.store.execute(
            "SELECT id FROM origins WHERE incarnation = ?", (origin.incarnation,)
        ).fetchone()
        digest = codec.genesis_digest(origin)
        self.settle(Standing.CONTINUES)
        self.tip = before = replace(
            self.tip, origin=origin, origin_id=row_id, seq=0, digest=digest, origin_stamp=0
        )
        self._other_marks = None
        if ended.seq:
            self._append_page([origin_began(ended, secrets.token_bytes(EVENT_ID_BYTES))], 1)
            self._note_tip(before)

    def _append_page(self, drafts: Sequence[Draft], last_seq: int) -> list[Recorded]:
        page, end = self._page(), self._own_end()
        page.look_up(self.store, drafts)
        for draft in drafts:
            self._add_own(draft, last_seq, page, end)
        self._end_page(page, end)
        return page.recorded

    def _ingest_page(self, events: Sequence[Foreign], ends: dict[str, End]) -> None:
        page = self._page()
        page.look_up(self.store, [foreign.event for foreign in events])
        for foreign in events:
            self._add_foreign(foreign, page, ends)
        self._end_page(page, ends.get(self.origin.incarnation) or self._own_end())

    def _page(self) -> Page:
        tip = self.tip
        return Page(tip.offset, tip.greatest_stamp, tip.last_entry_id)

    def _own_end(self) -> End:
        tip = self.tip
        return End(tip.origin_id, tip.seq, tip.digest, tip.origin_stamp)

    def _end_page(self, page: Page, own_end: End) -> None:
        """Put a page into the log and its projections, and go on from where it ends."""
        page.insert(self.store)
        self._projections.apply_all(self.store, page.recorded)
        self.tip = replace(
            self.tip,
            offset=page.offset,
            seq=own_end.seq,
            digest=own_end.digest,
            origin_stamp=own_end.stamp,
            greatest_stamp=page.greatest_stamp,
            last_entry_id=page.last_entry_id,
        )

    def _note_tip(self, before: Tip) -> None:
        self._note_end(self._own_end())
        self._note_last_entry_id(before)

    def _note_end(self, end: End) -> None:
        self.store.execute(
            "UPDATE origins SET seq = ?, digest = ?, stamp = ? WHERE id = ?",
            (end.seq, end.digest, end.stamp, end.row_id),
        )

    def _note_last_entry_id(self, before: Tip) -> None:
        if self.tip.last_entry_id != before.last_entry_id:
            schema.write_meta(self.store, "last_entry_id", self.tip.last_entry_id)

    def _add_own(self, draft: Draft, last_seq: int, page: Page, end: End) -> None:
        body = codec.encode_body(draft.body)
        event = codec.event_from_draft(
            draft,
            origin=self.origin,
            seq=end.seq + 1,
            last_seq=last_seq,
            stamp=self._stamp(draft.stamp, page, end),
            body=body,
        )
        header = codec.encode_header(event)
        digest = codec.chain_digest(end.digest, header)
        page.add(end, event, digest, (header, body), draft.body, draft.entry_id)

    def _add_foreign(self, foreign: Foreign, page: Page, ends: dict[str, End]) -> None:
        event = foreign.event
        end = ends.get(event.origin.incarnation)
        if end is None:
            end = ends[event.origin.incarnation] = self._end_of(event.origin)
        if event.seq != end.seq + 1 or event.stamp <= end.stamp:
            raise ValueError(f"event {event.seq} is taken in after event {end.seq} of its origin")
        # What a projection makes of an event is in its header; the body is read where somebody asks for it.
        page.add(end, event, foreign.digest, (foreign.header, foreign.body))

    def _end_of(self, origin: Origin) -> End:
        row = self.store.execute(
            "SELECT id, seq, digest, stamp, node_id FROM origins WHERE incarnation = ?", (origin.incarnation,)
        ).fetchone()
        if row is None:
            row_id = schema.note_origin(self.store, origin)
            return End(row_id, 0, codec.genesis_digest(origin), 0)
        if row[4] != origin.node_id:
            raise ValueError("an incarnation is known under the name of another node")
        return End(*row[:4])

    def _stamp(self, imported: int | None, page: Page, end: End) -> int:
        if imported is not None:
            return max(imported, end.stamp + 1)
        return max(self._clock(), page.greatest_stamp + 1)
