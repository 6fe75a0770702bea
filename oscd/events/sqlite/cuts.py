"""Owns the SQL of cuts: how far each origin is covered, and which events of an entry are.

Nothing is replayed. Within an origin stamps rise with seqs (invariant 2), so a time is found by bisection; and the
index of an entry's events, which is in the order of stamps and names their origins, leads to the last one that is
covered. Must not begin, commit or lock.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import Event, Origin
from oscd.events.position import Position, mark

Statement = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class _Last:
    """The last event of an origin that a cut covers."""

    seq: int
    digest: bytes
    stamp: int


def at_head(connection: sqlite3.Connection) -> Cut:
    """What covers every event of the log."""
    rows = connection.execute("SELECT incarnation, seq, digest, stamp FROM origins WHERE seq > 0")
    return _cut({incarnation: _Last(seq, digest, stamp) for incarnation, seq, digest, stamp in rows})


def of_position(connection: sqlite3.Connection, position: Position) -> Cut | None:
    """What a position covers; None where the log does not hold all of it, or it stands within a write."""
    stamps: dict[str, int] = {}
    for incarnation, wanted in position.marks.items():
        row = connection.execute(
            "SELECT e.digest, e.stamp, e.header FROM origins o JOIN events e ON e.origin = o.id AND e.seq = ?"
            " WHERE o.incarnation = ?",
            (wanted.seq, incarnation),
        ).fetchone()
        if row is None or mark(wanted.seq, row[0]) != wanted:
            return None
        if codec.decode_header(row[2]).last_seq != wanted.seq:
            return None  # Half a write is never told, so no state was ever this.
        stamps[incarnation] = row[1]
    return Cut(position, stamps)


def upto(connection: sqlite3.Connection, stamp: int) -> Cut:
    """What covers the events stamped up to then, and no part of a write that ends later."""
    found = {}
    for row_id, origin, end in _origins(connection):
        if (last := _last_upto(connection, row_id, end, stamp)) is not None:
            found[origin.incarnation] = last
    return _cut(found)


def naming(connection: sqlite3.Connection, event: Event) -> Cut:
    """What covers an event, the rest of its write, and what stands before it in precedence."""
    found = {}
    for row_id, origin, end in _origins(connection):
        if origin == event.origin:
            last: _Last | None = _event(connection, row_id, event.last_seq)
        else:
            # Of two events with one stamp the origin decides.
            most = event.stamp if origin < event.origin else event.stamp - 1
            last = _last_upto(connection, row_id, end, most)
        if last is not None:
            found[origin.incarnation] = last
    return _cut(found)


def of_entry(
    connection: sqlite3.Connection,
    columns: str,
    environment: str,
    key: str,
    cut: Cut,
    *,
    limit: int,
    before: Event | None = None,
) -> Statement:
    """The statement that reads what a cut covers of an entry's events, the greatest-stamped first.

    Args:
        columns: What to read, of `events` and `origins`.
        before: Only events of less precedence; None: all.
        limit: How many at most.
    """
    bounds = _bounds(connection, cut)
    whens = "WHEN ? THEN ? " * (len(bounds) // 2) or "WHEN 0 THEN 0 "
    most = max(cut.stamps.values(), default=0) if before is None else before.stamp
    earlier: tuple[Any, ...] = ()
    and_earlier = ""
    if before is not None:
        and_earlier = "AND (events.stamp, node_id, incarnation) < (?, ?, ?) "
        earlier = (before.stamp, before.origin.node_id, before.origin.incarnation)
    return (
        f"SELECT {columns} FROM events JOIN origins ON origins.id = events.origin"
        " WHERE environment = ? AND key = ? AND events.stamp <= ?"
        f" AND events.stamp <= CASE events.origin {whens}ELSE -1 END {and_earlier}"
        "ORDER BY events.stamp DESC, node_id DESC, incarnation DESC LIMIT ?",
        (environment, key, most, *bounds, *earlier, limit),
    )


def _bounds(connection: sqlite3.Connection, cut: Cut) -> list[int]:
    """Row id and greatest covered stamp of each origin, one after the other."""
    bounds: list[int] = []
    for row_id, incarnation in connection.execute("SELECT id, incarnation FROM origins"):
        if incarnation in cut.stamps:
            bounds += (row_id, cut.stamps[incarnation])
    return bounds


def _origins(connection: sqlite3.Connection) -> list[tuple[int, Origin, _Last]]:
    rows = connection.execute(
        "SELECT id, node_id, incarnation, seq, digest, stamp FROM origins WHERE seq > 0"
    )
    return [(row[0], Origin(row[1], row[2]), _Last(*row[3:])) for row in rows]


def _last_upto(connection: sqlite3.Connection, row_id: int, end: _Last, stamp: int) -> _Last | None:
    """The last event of an origin that is stamped up to then, and whose write is; None where there is none.

    Args:
        end: The last event that the origin has.
    """
    if end.stamp <= stamp:
        return end
    seqs = range(1, end.seq + 1)
    seq = bisect_right(seqs, stamp, key=lambda seq: _event(connection, row_id, seq).stamp)
    if seq and (write := _last_seq(connection, row_id, seq)) > seq:
        seq = bisect_left(seqs, write, hi=seq, key=lambda seq: _last_seq(connection, row_id, seq))
    return _event(connection, row_id, seq) if seq else None


def _event(connection: sqlite3.Connection, row_id: int, seq: int) -> _Last:
    row = connection.execute(
        "SELECT seq, digest, stamp FROM events WHERE origin = ? AND seq = ?", (row_id, seq)
    ).fetchone()
    return _Last(*row)


def _last_seq(connection: sqlite3.Connection, row_id: int, seq: int) -> int:
    (header,) = connection.execute(
        "SELECT header FROM events WHERE origin = ? AND seq = ?", (row_id, seq)
    ).fetchone()
    return codec.decode_header(header).last_seq


def _cut(found: Mapping[str, _Last]) -> Cut:
    return Cut(
        Position({incarnation: mark(last.seq, last.digest) for incarnation, last in found.items()}),
        {incarnation: last.stamp for incarnation, last in found.items()},
    )
