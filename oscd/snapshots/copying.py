"""Owns copying a log, or the part of it that a cut covers, into another file, and proving it on the way.

Rows are copied as bytes; only what is the log's own, and not the events', is set anew where events are left out:
offsets, which have no gaps, and which event each one met. Reads page by page, so that a serving node goes on, and its
checkpoints too (invariant 10). SQLite's own backup would hold one view for as long as it takes.

Must not know where the files are, or what is done with them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import ORIGIN_BEGAN, EventRef, Origin
from oscd.events.sqlite import schema
from oscd.events.sqlite.noted import noted_digest
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.stored import PAGE_ROWS, StoredEvent, stored_events, stored_origins
from oscd.events.sqlite.verify import Chains
from oscd.snapshots.errors import SnapshotRefused

CutOf = Callable[[SqliteReading], Cut]

_DAMAGED = "what is to be copied is damaged; run `oscd verify` on it."
_INSERT = (
    'INSERT INTO events ("offset", origin, seq, stamp, environment, key, previous, entry_id, digest, header, body)'
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be copied of a log: a fact of one short view of it.

    Attributes:
        head: Offset of the last event that may be copied. Commits hold whole writes, so it ends one.
        cut: What is covered; None: everything up to the head.
        origins: The origins as they were then, by the ids of their rows.
        own: Rows of the origins that the log has appended to one after the other, the last one first.
        salt_digest: SHA-256 of the salt its values are sealed under.
        left_out: Whether events were left out when it was copied itself.
    """

    head: int
    cut: Cut | None
    origins: dict[int, Origin]
    own: tuple[int, ...]
    salt_digest: bytes | None
    left_out: bool


def extent_of(log: sqlite3.Connection, cut: CutOf | None) -> Extent:
    """Look once at what there is to copy.

    Raises:
        MomentUnknown: What `cut` raises.
        SnapshotRefused: The source is damaged.
    """
    log.execute("BEGIN")
    try:
        return _extent_of(log, cut)
    except (LogCorrupt, TypeError) as error:
        # What looks a moment up takes events for what oscd wrote, in a file that somebody may have changed.
        raise SnapshotRefused(_DAMAGED) from error
    finally:
        log.execute("ROLLBACK")


def _extent_of(log: sqlite3.Connection, cut: CutOf | None) -> Extent:
    origins = stored_origins(log)
    own = schema.read_meta(log, "own_origin") or schema.read_meta(log, "ended_origin")
    if any(row.mistyped() for row in origins) or own not in {None, *(row.id for row in origins)}:
        raise SnapshotRefused(_DAMAGED)
    reading = SqliteReading(log)
    return Extent(
        head=reading.head(),
        cut=None if cut is None else cut(reading),
        origins={row.id: Origin(row.node_id, row.incarnation) for row in origins},
        own=tuple(_own_origins(log)),
        salt_digest=noted_digest(reading),
        left_out=schema.read_meta(log, "left_out") is not None,
    )


def _own_origins(log: sqlite3.Connection) -> Iterator[int]:
    """The origin that the log appends to, or did before it was copied, and those it followed."""
    row_id = schema.read_meta(log, "own_origin") or schema.read_meta(log, "ended_origin")
    seen: set[int] = set()
    while isinstance(row_id, int) and row_id not in seen:
        seen.add(row_id)
        yield row_id
        first = log.execute("SELECT header FROM events WHERE origin = ? AND seq = 1", (row_id,)).fetchone()
        event = None if first is None else codec.decode_header(first[0])
        if event is None or event.type != ORIGIN_BEGAN or event.replaces is None:
            return
        row = log.execute(
            "SELECT id FROM origins WHERE incarnation = ?", (event.replaces.origin.incarnation,)
        ).fetchone()
        row_id = None if row is None else row[0]


def copy_log(
    source: sqlite3.Connection, extent: Extent, target: sqlite3.Connection, progress: Callable[[int], None]
) -> None:
    """Copy events and origins into an empty log, with what the new one must know of itself.

    Args:
        target: Its layout is made; the caller has opened a write transaction.
        progress: Told the offset after each event of the source.

    Raises:
        SnapshotRefused: The source is damaged.
    """
    copy = _Copy(extent, target)
    for row_id, origin in extent.origins.items():
        target.execute(
            "INSERT INTO origins (id, node_id, incarnation, seq, digest, stamp) VALUES (?, ?, ?, 0, ?, 0)",
            (row_id, origin.node_id, origin.incarnation, codec.genesis_digest(origin)),
        )
    for row in stored_events(source, 0, extent.head):
        copy.take(row)
        progress(row.offset)
    copy.finish()


class _Copy:
    """One copy under way."""

    def __init__(self, extent: Extent, target: sqlite3.Connection) -> None:
        self._extent = extent
        self._target = target
        self._chains = Chains(extent.origins)
        self._page: list[StoredEvent] = []
        self._has_gaps = False
        self._seen = self._taken = self._last_id = 0

    def take(self, row: StoredEvent) -> None:
        """Copy the next event of the source, unless the cut leaves it out."""
        if row.offset != self._seen + 1:
            raise _damaged(self._seen + 1, "events are missing")
        self._seen = row.offset
        if mistyped := row.mistyped():
            raise _damaged(row.offset, f"{', '.join(mistyped)}: not of the type that belongs there")
        if not self._is_covered(row):
            return
        for what in self._chains.follow(row):
            raise _damaged(row.offset, what)
        self._taken += 1
        # What is left out at the end leaves a plain prefix; only what follows a gap has to be set anew.
        self._has_gaps = self._has_gaps or self._taken != row.offset
        if self._has_gaps:
            self._flush()
            row = self._renumbered(row)
        self._last_id = max(self._last_id, row.entry_id or 0)
        self._page.append(row)
        if len(self._page) == PAGE_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is left, the origins' ends, and what the log must know of itself."""
        if self._seen != self._extent.head:
            raise _damaged(self._seen + 1, "events are missing")
        self._flush()
        for origin, end in self._chains.ends.items():
            # A cut covers whole writes, as a commit holds them.
            if end.seq != end.last_seq:
                raise _damaged(self._seen + 1, "the rest of a write is missing")
            self._target.execute(
                "UPDATE origins SET seq = ?, digest = ?, stamp = ? WHERE node_id = ? AND incarnation = ?",
                (end.seq, end.digest, end.stamp, origin.node_id, origin.incarnation),
            )
        self._note("salt_digest", self._extent.salt_digest)
        self._note("ended_origin", self._ended())
        self._note("last_entry_id", self._last_id or None)
        self._note("left_out", 1 if self._has_gaps or self._extent.left_out else None)

    def _ended(self) -> int | None:
        """The origin that the log appended to at the moment that is copied, which may be an earlier one."""
        own = self._extent.own
        held = (row_id for row_id in own if self._chains.end(self._extent.origins[row_id]).seq)
        return next(held, own[0] if own else None)

    def _is_covered(self, row: StoredEvent) -> bool:
        cut, origin = self._extent.cut, self._extent.origins.get(row.origin)
        return cut is None or origin is None or cut.covers(EventRef(origin, row.seq))

    def _renumbered(self, row: StoredEvent) -> StoredEvent:
        """The row with the offset it gets, and with what it met among the events that were copied."""
        row = row._replace(offset=self._taken)
        cut, event = self._extent.cut, codec.decode_header(row.header)
        if cut is None or not event.is_of_entry:
            return row
        met = SqliteReading(self._target).winner(event.environment, event.key, cut)
        if met is None:
            return row._replace(previous=None)
        is_same_life = row.entry_id is not None and met.entry_id is not None
        return row._replace(previous=met.offset, entry_id=met.entry_id if is_same_life else row.entry_id)

    def _flush(self) -> None:
        self._target.executemany(_INSERT, self._page)
        self._page.clear()

    def _note(self, name: str, value: bytes | int | None) -> None:
        if value is not None:
            schema.write_meta(self._target, name, value)


def _damaged(offset: int, what: str) -> SnapshotRefused:
    return SnapshotRefused(
        f"what is to be copied is damaged at offset {offset}: {what}; run `oscd verify` on it."
    )
