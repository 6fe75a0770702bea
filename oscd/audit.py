"""Owns the replay of a log for those who want to know who did what: its events in order, filtered, with positions.

Reads a page at a time, so that a serving node goes on (invariant 10); never opens a value, nor needs a key. Must not
know how a line looks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import Body, Event
from oscd.events.log import past_write
from oscd.events.position import Mark, Position, mark
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.stored import PAGE_BYTES, PAGE_ROWS


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; None wants all.

    Attributes:
        since: Those stamped at or after a time (µs since 1970), or those that a cut does not cover.
    """

    environment: str | None = None
    key: str | None = None
    since: int | Cut | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """One event as it is told.

    Attributes:
        position: Where a reader of everything stands who has been told this event, and all of its write.
        body: None where it has been removed.
    """

    offset: int
    position: Position
    event: Event
    digest: bytes
    body: Body | None


class Audit:
    """A walk through a log.

    Attributes:
        offset: How far it has come.
    """

    def __init__(self, log: sqlite3.Connection, wanted: Wanted) -> None:
        self.offset = 0
        self._log = log
        self._since = wanted.since
        self._marks: dict[str, Mark] = {}
        self._filter = {
            "environment": wanted.environment,
            "key": wanted.key,
            "stamp": wanted.since if isinstance(wanted.since, int) else None,
        }

    def page(self) -> tuple[Sequence[Audited], bool]:
        """The wanted ones of the next events, and whether there were any events.

        Raises:
            LogCorrupt: One cannot be read.
            sqlite3.Error: The log cannot be read.
        """
        rows = self._rows()
        found = []
        for offset, incarnation, seq, digest, header, body in rows:
            self.offset = offset
            self._marks[incarnation] = mark(seq, digest)
            if header is None:
                continue
            try:
                event = codec.decode_header(header)
                told = None if body is None else codec.decode_body(body)
            except LogCorrupt as error:
                raise LogCorrupt(f"offset {offset}: {error}; run `oscd verify`.") from error
            if not (isinstance(self._since, Cut) and self._since.covers(event.ref)):
                position = past_write(SqliteReading(self._log), self._marks, event)
                found.append(Audited(offset, position, event, digest, told))
        return found, bool(rows)

    def _rows(self) -> list[tuple[int, str, int, bytes, bytes | None, bytes | None]]:
        """The next rows. Of those that are not wanted only what moves the position is read."""
        wanted = (
            "(:environment IS NULL OR environment = :environment) AND (:key IS NULL OR key = :key)"
            " AND (:stamp IS NULL OR events.stamp >= :stamp)"
        )
        rows = self._log.execute(
            f'SELECT "offset", incarnation, events.seq, events.digest, CASE WHEN {wanted} THEN header END,'
            f" CASE WHEN {wanted} THEN body END"
            ' FROM events JOIN origins ON origins.id = events.origin WHERE "offset" > :after'
            ' ORDER BY "offset" LIMIT :limit',
            {**self._filter, "after": self.offset, "limit": PAGE_ROWS},
        )
        page, size = [], 0
        for row in rows:
            page.append(row)
            size += len(row[5] or b"")
            if size >= PAGE_BYTES:
                break
        rows.close()
        return page
