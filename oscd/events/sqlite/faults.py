"""Owns the translation of SQLite's errors into oscd's, and the commit, whose errors say less than all others.

Must not hide which trouble it was.
"""

from __future__ import annotations

import sqlite3

from oscd.errors import Unavailable

# Primary result codes, https://www.sqlite.org/rescode.html; the extended code's low byte is the primary one.
_REASONS = {
    sqlite3.SQLITE_BUSY: "the log is locked by another program",
    sqlite3.SQLITE_LOCKED: "the log is locked by another program",
    sqlite3.SQLITE_FULL: "the disk of the log is full",
    sqlite3.SQLITE_READONLY: "the log is read-only",
    sqlite3.SQLITE_PERM: "the log may not be opened",
    sqlite3.SQLITE_AUTH: "the log may not be opened",
    sqlite3.SQLITE_CANTOPEN: "the log cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk of the log reports errors",
    sqlite3.SQLITE_CORRUPT: "the log is damaged; run `oscd verify`",
    sqlite3.SQLITE_NOTADB: "the log is damaged; run `oscd verify`",
    sqlite3.SQLITE_NOMEM: "the node is out of memory",
}

# After these a connection may hold stale descriptors or half a state: it is opened anew.
_REOPEN = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where the error did not come from SQLite itself."""
    code = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF


def needs_reopen(error: Exception) -> bool:
    """Whether the connection that raised this should be opened anew."""
    return not isinstance(error, sqlite3.Error) or primary_code(error) in _REOPEN


class CommitFailed(Exception):
    """COMMIT itself failed; its cause is SQLite's error. The disk may have kept the write all the same."""


def finish(connection: sqlite3.Connection) -> None:
    """Commit.

    Raises:
        CommitFailed: It is not known whether the disk has kept the write.
    """
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise CommitFailed from error


def translated(error: Exception) -> Exception:
    """The error a caller gets for one that came out of SQLite or the file system; any other stays as it is."""
    if isinstance(error, CommitFailed):
        return Unavailable(f"It is not known whether this was written: {_reason(error.__cause__)}.")
    if isinstance(error, sqlite3.Error):
        return Unavailable(f"Nothing was changed: {_reason(error)}.")
    if isinstance(error, OSError):
        return Unavailable("Nothing was changed: the file of the log cannot be reached.")
    return error


def _reason(error: BaseException | None) -> str:
    unknown = "the log cannot be used"
    return _REASONS.get(primary_code(error), unknown) if isinstance(error, sqlite3.Error) else unknown
