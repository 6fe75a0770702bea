"""Owns the proof that the projections are what the log says (invariant 3): replay, then compare row by row.

The replay goes into a private temporary database, never into the log's file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from oscd.events.log import scan
from oscd.events.sqlite.transaction import SqliteReading
from oscd.events.sqlite.verify import Finding
from oscd.projections.sqlite import SqliteProjections, entry

# Table → how many of its first columns are its key.
_KEYS = {"entries": 2, "counts": 2, "totals": 0}

Row = tuple[Any, ...]


def verify_projections(connection: sqlite3.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Replay the log and compare every table with the live one.

    Args:
        progress: Told the offset after each event.
    """
    replayed = sqlite3.connect("", isolation_level=None)
    misplaced: list[Finding] = []
    try:
        replayed.execute("PRAGMA journal_mode = OFF")
        SqliteProjections().create(replayed)
        replayed.execute("BEGIN")
        replayed_to = _replay(connection, replayed, misplaced, progress, after=0)
        # One view for the rest and the comparison: a serving node goes on writing meanwhile.
        connection.execute("BEGIN")
        _replay(connection, replayed, misplaced, progress, after=replayed_to)
        yield from misplaced
        for table, key_columns in _KEYS.items():
            yield from _differences(table, key_columns, connection, replayed)
        yield from _shared_ids(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        replayed.close()


def _replay(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    misplaced: list[Finding],
    progress: Callable[[int], None],
    *,
    after: int,
) -> int:
    """Apply what the source holds, and check which event each names as the previous; gives the last offset."""
    projections = SqliteProjections()
    for recorded in scan(SqliteReading(source), after=after):
        event = recorded.event
        before = entry(target, event.environment, event.key) if event.is_of_entry else None
        if event.is_of_entry and recorded.previous != (None if before is None else before.offset):
            misplaced.append(
                Finding(f"offset {recorded.offset}", "it names another previous event than the log")
            )
        projections.apply(target, recorded)
        after = recorded.offset
        progress(after)
    return after


def _differences(
    table: str, key_columns: int, live: sqlite3.Connection, replayed: sqlite3.Connection
) -> Iterator[Finding]:
    order = f"ORDER BY {', '.join(str(n + 1) for n in range(key_columns))}" if key_columns else ""
    found = live.execute(f"SELECT * FROM {table} {order}")
    expected = replayed.execute(f"SELECT * FROM {table} {order}")
    names = [column[0] for column in found.description]
    mine, theirs = found.fetchone(), expected.fetchone()
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine[:key_columns] < theirs[:key_columns]):
            yield Finding(_place(table, mine[:key_columns]), "the log knows no such row")
            mine = found.fetchone()
        elif mine is None or theirs[:key_columns] < mine[:key_columns]:
            yield Finding(_place(table, theirs[:key_columns]), "the row is missing")
            theirs = expected.fetchone()
        else:
            yield from _row_differences(_place(table, mine[:key_columns]), names, mine, theirs)
            mine, theirs = found.fetchone(), expected.fetchone()


def _row_differences(place: str, names: list[str], mine: Row, theirs: Row) -> Iterator[Finding]:
    for name, held, expected in zip(names, mine, theirs, strict=True):
        if held != expected:
            yield Finding(place, f"{name} is {_shown(held)}, by the log {_shown(expected)}")


def _shared_ids(connection: sqlite3.Connection) -> Iterator[Finding]:
    for entry_id, number in connection.execute(
        "SELECT id, count(*) FROM entries WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1"
    ):
        yield Finding("entries", f"{number} live entries share the id {entry_id}")


def _place(table: str, key: Row) -> str:
    return f"{table} {key}" if key else table


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
