"""Logs with a salt to take snapshots of, and what they hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from oscd.events.cipher import SALT_BYTES
from oscd.events.salt import salt_digest
from oscd.events.sqlite import schema
from oscd.projections.sqlite import TABLES
from tests.projections.history import Step, log_with

SALT = b"s" * SALT_BYTES

Rows = list[tuple[object, ...]]


@contextmanager
def salted_log(path: Path, history: Sequence[Step]) -> Iterator[sqlite3.Connection]:
    """A log whose values are said to be sealed under `SALT`."""
    with log_with(path, history) as log:
        schema.write_meta(log, "salt_digest", salt_digest(SALT))
        yield log


def events_of(log: sqlite3.Connection) -> Rows:
    """Every event as it is stored."""
    return log.execute('SELECT * FROM events ORDER BY "offset"').fetchall()


def tables_of(log: sqlite3.Connection) -> list[Rows]:
    """Every row of every table."""
    return [log.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES]
