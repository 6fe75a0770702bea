"""Trouble that comes with COMMIT itself and not before."""

from __future__ import annotations

import sqlite3


def no_commit(log: sqlite3.Connection) -> None:
    """Let every COMMIT on this connection fail."""

    def judged(action: int, what: str | None, *_: object) -> int:
        is_commit = (action, what) == (sqlite3.SQLITE_TRANSACTION, "COMMIT")
        return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK

    log.set_authorizer(judged)
