"""Owns the SQL of the projections: their tables, how an event reaches them, how they are read.

The rules are in `entry.py`, `statistics.py` and `conflicts.py`; the table of conflicts is in `conflict_table.py`.
Must not read a clock or the network, so that a replay of the log rebuilds every table byte for byte (invariant 3).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from oscd.events.event import EventRef, Origin, Recorded
from oscd.events.sqlite import rows
from oscd.projections import conflict_table
from oscd.projections.conflicts import Conflict, conflict
from oscd.projections.entry import DIGEST_MODULUS, Entry, merge, state_digest
from oscd.projections.statistics import Statistics, counts

# Changes whenever a table or a rule does: the log is then projected anew at the next start.
VERSION = 2

TABLES = ("entries", "counts", "totals", "conflicts")

# UNCATEGORIZED stands for "no category" in a key column; a category itself is never empty.
UNCATEGORIZED = ""

_ENTRY = (
    "environment, key, id, category, version, created_at, updated_at, stamp, node_id, incarnation, seq,"
    ' "offset", event_id, key_id, imported, deleted'
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What is kept of all entries together.

    Attributes:
        entries: Live ones.
        state: Digest of the whole state, tombstones included, as 32 bytes.
        conflicts: All that were ever met, of which the table keeps the newest.
    """

    entries: int
    state: bytes
    conflicts: int


class SqliteProjections:
    """The entry table and the statistics; see `oscd.events.log.Projections`."""

    @property
    def version(self) -> int:
        """Layout and rules of the tables."""
        return VERSION

    def create(self, store: sqlite3.Connection) -> None:
        """Make empty tables; drop what was there."""
        for table in TABLES:
            store.execute(f"DROP TABLE IF EXISTS {table}")
        store.execute(
            "CREATE TABLE entries (environment TEXT NOT NULL, key TEXT NOT NULL, id INTEGER, category TEXT,"
            " version INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
            " stamp INTEGER NOT NULL, node_id TEXT NOT NULL, incarnation TEXT NOT NULL, seq INTEGER NOT NULL,"
            ' "offset" INTEGER NOT NULL, event_id BLOB NOT NULL, key_id BLOB,'
            " imported INTEGER NOT NULL, deleted INTEGER NOT NULL,"
            " PRIMARY KEY (environment, key)) WITHOUT ROWID"
        )
        store.execute(
            "CREATE TABLE counts (kind TEXT NOT NULL, name TEXT NOT NULL, entries INTEGER NOT NULL,"
            " PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )
        store.execute(
            "CREATE TABLE totals (entries INTEGER NOT NULL, state BLOB NOT NULL, conflicts INTEGER NOT NULL)"
        )
        store.execute("INSERT INTO totals VALUES (0, zeroblob(32), 0)")
        conflict_table.create(store)

    def apply(self, store: sqlite3.Connection, recorded: Recorded) -> None:
        """Apply one event to every table; one that is not of an entry changes none."""
        self.apply_all(store, (recorded,))

    def apply_all(self, store: sqlite3.Connection, recorded: Sequence[Recorded]) -> None:
        """Apply events that follow each other; what they change together is written once."""
        changed: dict[tuple[str, str], Entry] = {}
        live = state = 0
        moved: Counter[tuple[str, str]] = Counter()
        met: list[Conflict] = []
        for one in recorded:
            event = one.event
            if not event.is_of_entry:
                continue
            place = (event.environment, event.key)
            # An event without a previous one is the first of its entry: there is nothing to look up.
            current = None if one.previous is None else changed.get(place) or entry(store, *place)
            if (found := conflict(current, one)) is not None:
                met.append(found)
            after = merge(current, one)
            if after is current:
                continue
            changed[place] = after
            live += (not after.deleted) - (current is not None and not current.deleted)
            state += state_digest(after) - (0 if current is None else state_digest(current))
            for kind, name, change in counts(current, after):
                moved[kind, UNCATEGORIZED if name is None else name] += change
        if changed or met:
            _write(store, changed.values())
            _add(store, live, state, met)
            _move(store, moved)


def _write(store: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    rows.insert(store, f"INSERT OR REPLACE INTO entries ({_ENTRY})", list(map(_row, entries)))


def _add(store: sqlite3.Connection, live: int, state: int, met: Sequence[Conflict]) -> None:
    """Add to what is kept of all entries together."""
    before = totals(store)
    state = (int.from_bytes(before.state) + state) % DIGEST_MODULUS
    store.execute(
        "UPDATE totals SET entries = ?, state = ?, conflicts = ?",
        (before.entries + live, state.to_bytes(32), before.conflicts + len(met)),
    )
    if met:
        conflict_table.add(store, met, before.conflicts)


def _move(store: sqlite3.Connection, moved: Counter[tuple[str, str]]) -> None:
    """Change how many entries there are of each category and environment."""
    for (kind, name), change in moved.items():
        if change == 0:
            continue
        store.execute(
            "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET entries = entries + excluded.entries",
            (kind, name, change),
        )
        if change < 0:
            store.execute("DELETE FROM counts WHERE kind = ? AND name = ? AND entries = 0", (kind, name))


def entry(store: sqlite3.Connection, environment: str, key: str) -> Entry | None:
    """The entry, or its tombstone, or None where this log never held it."""
    row = store.execute(
        f"SELECT {_ENTRY} FROM entries WHERE environment = ? AND key = ?", (environment, key)
    ).fetchone()
    return None if row is None else _entry(row)


def entries_after(
    store: sqlite3.Connection, after: tuple[str, str], *, environment: str | None = None, from_key: str = ""
) -> Iterator[Entry]:
    """Entries and tombstones past `(environment, key)`, in that order.

    Args:
        environment: Only this one; None: all.
        from_key: Least key, where an environment is given.
    """
    if environment is None:
        condition = "(environment, key) > (?, ?)"
        arguments: tuple[str, ...] = after
    else:
        condition = "environment = ? AND key > ? AND key >= ?"
        arguments = (environment, after[1], from_key)
    rows = store.execute(
        f"SELECT {_ENTRY} FROM entries WHERE {condition} ORDER BY environment, key", arguments
    )
    return map(_entry, rows)


def totals(store: sqlite3.Connection) -> Totals:
    """What is kept of all entries together."""
    return Totals(*store.execute("SELECT entries, state, conflicts FROM totals").fetchone())


def statistics(store: sqlite3.Connection) -> Statistics:
    """How many live entries there are, and of what."""
    by_category: dict[str | None, int] = {}
    by_environment: dict[str, int] = {}
    for kind, name, number in store.execute("SELECT kind, name, entries FROM counts"):
        if kind == "category":
            by_category[None if name == UNCATEGORIZED else name] = number
        else:
            by_environment[name] = number
    return Statistics(totals(store).entries, by_category, by_environment)


def _row(entry: Entry) -> tuple[Any, ...]:
    origin = entry.winner.origin
    return (
        entry.environment,
        entry.key,
        entry.id,
        entry.category,
        entry.version,
        entry.created_at,
        entry.updated_at,
        entry.stamp,
        origin.node_id,
        origin.incarnation,
        entry.winner.seq,
        entry.offset,
        entry.event_id,
        entry.key_id,
        entry.imported,
        entry.deleted,
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(
        environment=row[0],
        key=row[1],
        id=row[2],
        category=row[3],
        version=row[4],
        created_at=row[5],
        updated_at=row[6],
        stamp=row[7],
        winner=EventRef(Origin(row[8], row[9]), row[10]),
        offset=row[11],
        event_id=row[12],
        key_id=row[13],
        imported=bool(row[14]),
        deleted=bool(row[15]),
    )
