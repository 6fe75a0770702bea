"""Owns the SQL of what a log knows of itself among others: its standing, what holds its writes, others' runs.

All of it is in the log's `meta`, so that every worker acts on the same answer and a restart forgets none. Must not
begin, commit or lock, nor decide any of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from oscd.errors import LogCorrupt
from oscd.events.event import Origin
from oscd.events.runs import MAX_RUNS, forgotten
from oscd.events.sqlite.schema import read_meta, write_meta
from oscd.events.standing import Own, Standing

_STANDING: Final = "standing"
_WRITES_HELD: Final = "writes_held"
_RUN: Final = "run of "
_NOTED: Final = "noted of "


def read_own(connection: sqlite3.Connection) -> Own:
    """What the log knows of the origin it appends to; it has been prepared, so there is one.

    Raises:
        LogCorrupt: Its standing was changed by hand.
    """
    node_id, incarnation, seq = connection.execute(
        "SELECT node_id, incarnation, seq FROM origins WHERE id = (SELECT value FROM meta WHERE name = 'own_origin')"
    ).fetchone()
    return Own(Origin(node_id, incarnation), seq, read_standing(connection))


def read_standing(connection: sqlite3.Connection) -> Standing:
    """Whether the log may append to its origin; a log of before there was a cluster may.

    Raises:
        LogCorrupt: It was changed by hand.
    """
    said = read_meta(connection, _STANDING)
    try:
        return Standing.CONTINUES if said is None else Standing(str(said))
    except ValueError as error:
        raise LogCorrupt("the log does not say whether it may go on; run `oscd verify`") from error


def write_standing(connection: sqlite3.Connection, standing: Standing) -> None:
    """Let every append from now on know."""
    write_meta(connection, _STANDING, standing.value)


def writes_held(connection: sqlite3.Connection) -> str | None:
    """Why nothing may be appended now; None where it may."""
    reason = read_meta(connection, _WRITES_HELD)
    return None if reason is None else str(reason)


def hold_writes(connection: sqlite3.Connection, reason: str | None) -> None:
    """Refuse every append from now on, or none any more."""
    if reason is None:
        connection.execute("DELETE FROM meta WHERE name = ?", (_WRITES_HELD,))
    else:
        write_meta(connection, _WRITES_HELD, reason)


def fence(connection: sqlite3.Connection, node_id: str, run: str, members: Collection[str]) -> None:
    """Note the latest run of another node; what an older one still has on its way here is not taken any more.

    Raises:
        Unavailable: The log remembers as many nodes as it may, and none of them may be forgotten.
    """
    numbers = {name: int(number) for name, number in _named(connection, _NOTED)}
    known = runs(connection)
    if node_id not in known and len(known) >= MAX_RUNS:
        writers = {name for (name,) in connection.execute("SELECT DISTINCT node_id FROM origins")}
        oldest_first = sorted(known, key=lambda name: numbers.get(name, 0))
        name = forgotten(oldest_first, writers.union(members))
        connection.execute("DELETE FROM meta WHERE name IN (?, ?)", (_RUN + name, _NOTED + name))
    write_meta(connection, _RUN + node_id, run)
    write_meta(connection, _NOTED + node_id, max(numbers.values(), default=0) + 1)


def runs(connection: sqlite3.Connection) -> Mapping[str, str]:
    """By node id, the latest run of other nodes that the log has noted."""
    return {node_id: str(run) for node_id, run in _named(connection, _RUN)}


def _named(connection: sqlite3.Connection, prefix: str) -> Iterator[tuple[str, Any]]:
    """What is noted under a prefix, by what follows that."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    for name, value in connection.execute(
        "SELECT name, value FROM meta WHERE name >= ? AND name < ?", (prefix, after)
    ):
        yield name.removeprefix(prefix), value
