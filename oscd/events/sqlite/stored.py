"""Owns reading events as they are stored, byte for byte, for those who prove, copy or show a log.

Each page is read to its end before its rows are used, so that no read transaction outlives a page or waits for
whoever uses them (invariant 10). Must not trust a row: it may have been changed by hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import NoneType
from typing import Any, NamedTuple

PAGE_ROWS = 1000
PAGE_BYTES = 4 * 1024 * 1024


class StoredEvent(NamedTuple):
    """One row of `events`; `origin` is the id of its row in `origins`.

    What SQLite makes sure of is the type of `offset`; in a file that was changed any other column may hold anything,
    unless there is nothing `mistyped`.
    """

    offset: int
    origin: int
    seq: int
    stamp: int
    environment: str
    key: str
    previous: int | None
    entry_id: int | None
    digest: Any
    header: Any
    body: Any

    def mistyped(self) -> list[str]:
        """The columns that hold what no oscd puts there, which nothing may compare or bind."""
        return _mistyped(self, _EVENT_TYPES)


class StoredOrigin(NamedTuple):
    """One row of `origins`; what is said of `StoredEvent` holds of it, and of `id` what does of `offset`."""

    id: int
    node_id: str
    incarnation: str
    seq: int
    digest: Any
    stamp: int

    def mistyped(self) -> list[str]:
        """The columns that hold what no oscd puts there."""
        return _mistyped(self, _ORIGIN_TYPES)


Types = tuple[tuple[type, ...], ...]

_INTEGER, _TEXT, _BLOB = (int,), (str,), (bytes,)
_EVENT_TYPES: Types = (
    *(_INTEGER, _INTEGER, _INTEGER, _INTEGER, _TEXT, _TEXT),
    *((int, NoneType), (int, NoneType)),
    *(_BLOB, _BLOB, (bytes, NoneType)),
)
_ORIGIN_TYPES: Types = (_INTEGER, _TEXT, _TEXT, _INTEGER, _BLOB, _INTEGER)

COLUMNS = '"offset", origin, seq, stamp, environment, key, previous, entry_id, digest, header, body'


def stored_events(connection: sqlite3.Connection, after: int, upto: int) -> Iterator[StoredEvent]:
    """The rows with `after < offset <= upto`, in order."""
    while page := _page(connection, after, upto):
        yield from page
        after = page[-1].offset


def stored_origins(connection: sqlite3.Connection) -> list[StoredOrigin]:
    """Every origin."""
    rows = connection.execute("SELECT id, node_id, incarnation, seq, digest, stamp FROM origins")
    return [StoredOrigin._make(row) for row in rows]


def _mistyped(row: StoredEvent | StoredOrigin, types: Types) -> list[str]:
    return [
        name
        for name, value, allowed in zip(row._fields, row, types, strict=True)
        if type(value) not in allowed
    ]


def _page(connection: sqlite3.Connection, after: int, upto: int) -> list[StoredEvent]:
    page: list[StoredEvent] = []
    size = 0
    rows = connection.execute(
        f'SELECT {COLUMNS} FROM events WHERE "offset" > ? AND "offset" <= ? ORDER BY "offset" LIMIT ?',
        (after, upto, PAGE_ROWS),
    )
    for row in map(StoredEvent._make, rows):
        page.append(row)
        size += len(row.body) if isinstance(row.body, bytes | str) else 0
        if size >= PAGE_BYTES:
            break
    rows.close()
    return page
