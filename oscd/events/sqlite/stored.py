"""Owns reading events as they are stored, byte for byte, for those who prove, copy or show a log.

Each page is read to its end before its rows are used, so that no read transaction outlives a page or waits for
whoever uses them (invariant 10). Must not trust a row: it may have been changed by hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

PAGE_ROWS = 1000
PAGE_BYTES = 4 * 1024 * 1024


class StoredEvent(NamedTuple):
    """One row of `events`; `origin` is the id of its row in `origins`.

    What SQLite makes sure of is the type of `offset`; in a file that was changed any other column may hold anything.
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


COLUMNS = '"offset", origin, seq, stamp, environment, key, previous, entry_id, digest, header, body'


def stored_events(connection: sqlite3.Connection, after: int, upto: int) -> Iterator[StoredEvent]:
    """The rows with `after < offset <= upto`, in order."""
    while page := _page(connection, after, upto):
        yield from page
        after = page[-1].offset


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
