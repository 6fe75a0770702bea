"""Owns the SQL of the conflicts: the newest of them, as pairs of offsets, numbered from 1 in the order they arose.

The rule is in `conflicts.py`. What is kept depends on the log alone, not on how its events were cut into pages, so
that a replay rebuilds the table byte for byte (invariant 3).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oscd.errors import LogCorrupt
from oscd.events.event import Event
from oscd.events.sqlite.reading import SqliteReading
from oscd.projections.conflicts import Conflict

KEPT: Final = 1000
"""Conflicts that are listed; older ones are counted, and still show in the history of their entries."""

# Greater than any number there will be.
_BEYOND: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ListedConflict:
    """A conflict with its two events.

    Attributes:
        number: Its place among all that arose, from 1.
        winner: The event that the entry kept when they met; it may have been replaced since.
        loser: The other one. It is in the log, and a rollback to the position that names it restores it.
        foreign_key: Whether two user keys met.
    """

    number: int
    winner: Event
    loser: Event
    foreign_key: bool

    @property
    def environment(self) -> str:
        """That of the entry."""
        return self.winner.environment

    @property
    def key(self) -> str:
        """That of the entry."""
        return self.winner.key


def create(store: sqlite3.Connection) -> None:
    """Make an empty table."""
    store.execute(
        "CREATE TABLE conflicts (number INTEGER PRIMARY KEY, winner INTEGER NOT NULL, loser INTEGER NOT NULL,"
        " foreign_key INTEGER NOT NULL)"
    )


def add(store: sqlite3.Connection, found: Sequence[Conflict], before: int) -> None:
    """Keep further conflicts, and forget those that are too many now.

    Args:
        before: How many there were already, forgotten ones included.
    """
    store.executemany(
        "INSERT INTO conflicts VALUES (?, ?, ?, ?)",
        (
            (number, one.winner, one.loser, one.foreign_key)
            for number, one in enumerate(found, start=before + 1)
        ),
    )
    store.execute("DELETE FROM conflicts WHERE number <= ?", (before + len(found) - KEPT,))


def conflicts(store: sqlite3.Connection, limit: int, *, before: int | None = None) -> list[ListedConflict]:
    """The newest conflicts, the newest first.

    Args:
        before: Only those with a smaller number; None: all that are kept.

    Raises:
        LogCorrupt: The log does not hold an event that the table names.
    """
    rows = store.execute(
        "SELECT number, winner, loser, foreign_key FROM conflicts WHERE number < ? ORDER BY number DESC LIMIT ?",
        (_BEYOND if before is None else before, limit),
    ).fetchall()
    return [
        _listed(store, number, Conflict(winner, loser, bool(foreign)))
        for number, winner, loser, foreign in rows
    ]


def _listed(store: sqlite3.Connection, number: int, found: Conflict) -> ListedConflict:
    # The later one has met the other: one look gives both, and no body is read.
    later = max(found.winner, found.loser)
    for change in SqliteReading(store).changes(later - 1, 1):
        met = change.previous
        if change.offset == later and met is not None:
            winner, loser = (change.event, met) if later == found.winner else (met, change.event)
            return ListedConflict(number, winner, loser, found.foreign_key)
    raise LogCorrupt(f"offset {later}: the event that a conflict names is not in the log; run `oscd verify`")
