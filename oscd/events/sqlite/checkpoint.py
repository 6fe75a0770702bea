"""Owns checkpoints: the one place that moves the write-ahead log into the database file.

SQLite 3.7.0 to 3.51.2 can lose committed data when a checkpoint runs beside another connection's commit
(https://www.sqlite.org/wal.html, "WAL-reset bug"), so the caller holds the write lock. PASSIVE is enough while
the log is small; above `RESTART_BYTES` RESTART makes the next write begin at the front again. TRUNCATE is never
used: with readers about it was measured to stall writes for seconds.
"""

from __future__ import annotations

import sqlite3

from oscd.events.sqlite.file import BUSY_MILLISECONDS

INTERVAL_SECONDS = 1.0
RESTART_BYTES = 16 * 1024 * 1024
RESTART_BUSY_MILLISECONDS = 50


def checkpoint(connection: sqlite3.Connection, wal_bytes: int) -> None:
    """Move what can be moved. The caller holds the write lock and no transaction is open.

    Raises:
        sqlite3.Error: The database file could not be written; nothing is lost, the next round tries again.
    """
    if wal_bytes <= RESTART_BYTES:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return
    connection.execute(f"PRAGMA busy_timeout = {RESTART_BUSY_MILLISECONDS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
