"""Owns putting many rows into a table. Must not know which.

Python lets go of its lock for each step of a statement, and a thread that computes takes it for milliseconds. So rows
go in some at a time, by one step: a writer that lets go for each row waits for the lock as often.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

_ROWS_AT_ONCE: Final = 50
"""Every SQLite binds 999 values; a row has at most 16."""


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put rows into a table, in their order.

    Args:
        into: A statement up to its `VALUES`.
        rows: As many values each.

    Raises:
        sqlite3.Error: The table does not take them.
    """
    if not rows:
        return
    one = f"({','.join('?' * len(rows[0]))})"
    whole = len(rows) - len(rows) % _ROWS_AT_ONCE
    many = f"{into} VALUES {','.join([one] * _ROWS_AT_ONCE)}"
    for at in range(0, whole, _ROWS_AT_ONCE):
        connection.execute(many, tuple(chain.from_iterable(rows[at : at + _ROWS_AT_ONCE])))
    connection.executemany(f"{into} VALUES {one}", rows[whole:])
