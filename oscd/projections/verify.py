"""Owns the proof that the projections are what the log says (invariant 3): replay, then compare row by row.

The replay goes into a private temporary database, never into the log's file. It also proves what stands beside the
events and no chain covers: which event each met, and the ids of entries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any

from oscd.events.event import EventType, Recorded
from oscd.events.log import scan
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import Finding, verify_chain
from oscd.projections.entry import Entry
from oscd.projections.sqlite import VERSION, SqliteProjections, entry

# Table → how many of its first columns are its key.
_KEYS = {"entries": 2, "counts": 2, "totals": 0, "conflicts": 1}

# SQLite puts every number before every text, and every text before every blob; NULL comes first.
_RANKS = {NoneType: 0, int: 1, float: 1, str: 2, bytes: 3}

Row = tuple[Any, ...]


def verify_log(connection: sqlite3.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """The whole proof: the chain, and if it holds, the tables.

    Args:
        progress: Told how far it is; of an empty log nothing, in the end twice the offset of the last event.
    """
    is_broken = False
    for finding in verify_chain(connection, progress):
        is_broken = True
        yield finding
    if is_broken:
        # A replay of a broken log would only repeat its faults in other words.
        return
    if not schema.is_snapshot(connection) and schema.read_meta(connection, "projections") != VERSION:
        yield Finding("tables", "they were projected by another version of oscd; run `oscd rebuild`")
        return
    events = SqliteReading(connection).head()
    yield from verify_projections(connection, lambda offset: progress(events + offset))


def verify_projections(connection: sqlite3.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Replay the log and compare every table with the live one; a snapshot has none, so its replay is all there is.

    Args:
        progress: Told the offset after each event.
    """
    with _replayed() as replayed:
        replay = _Replay(replayed, keeps_numbers=schema.read_meta(connection, "left_out") is None)
        replay.follow(connection, progress)
        # One view for the rest and the comparison: a serving node goes on writing meanwhile.
        connection.execute("BEGIN")
        try:
            replay.follow(connection, progress)
            yield from replay.findings
            if not schema.is_snapshot(connection):
                for table, key_columns in _KEYS.items():
                    yield from _differences(table, key_columns, connection, replayed)
                yield from _shared_ids(connection)
            yield from _last_id_findings(connection, replay.last_id)
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def _replayed() -> Iterator[sqlite3.Connection]:
    """Empty tables in a database that is gone afterwards."""
    replayed = sqlite3.connect("", isolation_level=None)
    try:
        replayed.execute("PRAGMA journal_mode = OFF")
        SqliteProjections().create(replayed)
        replayed.execute("BEGIN")
        yield replayed
    finally:
        replayed.close()


class _Replay:
    """A log applied to tables of its own, as far as it has been followed.

    Args:
        keeps_numbers: Whether the log holds every life that it ever gave a number to.

    Attributes:
        last_id: The greatest number of a life so far.
    """

    def __init__(self, store: sqlite3.Connection, *, keeps_numbers: bool) -> None:
        self.findings: list[Finding] = []
        self._store = store
        self._keeps_numbers = keeps_numbers
        self.last_id = 0
        self._offset = 0

    def follow(self, source: sqlite3.Connection, progress: Callable[[int], None]) -> None:
        """Apply what the source holds beyond the last call."""
        projections = SqliteProjections()
        for recorded in scan(SqliteReading(source), after=self._offset):
            event = recorded.event
            before = entry(self._store, event.environment, event.key) if event.is_of_entry else None
            for what in self._misplaced(recorded, before):
                self.findings.append(Finding(f"offset {recorded.offset}", what))
            projections.apply(self._store, recorded)
            self._offset = recorded.offset
            self.last_id = max(self.last_id, recorded.entry_id or 0)
            progress(self._offset)

    def _misplaced(self, recorded: Recorded, before: Entry | None) -> Iterator[str]:
        if recorded.previous != (None if before is None else before.offset):
            yield "it names another previous event than the log"
        expected = self._entry_id(recorded, before)
        if recorded.entry_id != expected:
            yield f"its entry id is {recorded.entry_id}, by the log {expected}"

    def _entry_id(self, recorded: Recorded, before: Entry | None) -> int | None:
        """The number of this life by what came before; as it stands where nothing before says it."""
        event = recorded.event
        if not event.is_of_entry or event.type == EventType.DELETED:
            return None
        if before is not None and before.id is not None:
            return before.id
        return self.last_id + 1 if self._keeps_numbers and not event.imported else recorded.entry_id


def _differences(
    table: str, key_columns: int, live: sqlite3.Connection, replayed: sqlite3.Connection
) -> Iterator[Finding]:
    order = f"ORDER BY {', '.join(str(n + 1) for n in range(key_columns))}" if key_columns else ""
    found = live.execute(f"SELECT * FROM {table} {order}")
    expected = replayed.execute(f"SELECT * FROM {table} {order}")
    names = [column[0] for column in found.description]
    mine, theirs = found.fetchone(), expected.fetchone()

    def key(row: Row) -> list[tuple[int, Any]]:
        return [(_RANKS[type(value)], value) for value in row[:key_columns]]

    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and key(mine) < key(theirs)):
            yield Finding(_place(table, mine[:key_columns]), "the log knows no such row")
            mine = found.fetchone()
        elif mine is None or key(theirs) < key(mine):
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


def _last_id_findings(connection: sqlite3.Connection, greatest: int) -> Iterator[Finding]:
    """Whether the log goes on numbering past every life that it holds."""
    noted = schema.read_meta(connection, "last_entry_id")
    if noted is None and not greatest:
        return
    if not isinstance(noted, int) or noted < greatest:
        yield Finding(
            "meta last_entry_id", f"it is {_shown(noted)}, and an event has the entry id {greatest}"
        )


def _place(table: str, key: Row) -> str:
    return f"{table} {key}" if key else table


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
