"""Owns writing to a log from a process that serves nothing, whether a node serves the log meanwhile or not.

Where no node does, the claim is held, so that none can start before the write is over. Where one does, the write goes
under the lock that its workers write under, and only into the files that it serves from: SQLite would pair another
file at the path with that node's write-ahead log, and ruin both.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused, Unavailable
from oscd.events.sqlite import own, schema
from oscd.events.sqlite.claim import Claimed, NodeClaim, served_file
from oscd.events.sqlite.faults import finish
from oscd.events.sqlite.file import LogFile, WriteLock, inode_of
from oscd.events.standing import Standing

SETTLE_SECONDS: Final = 5.0
"""How long a node that is just starting or stopping is waited for."""

_POLL_SECONDS: Final = 0.05


@contextmanager
def one_transaction(file: LogFile) -> Iterator[sqlite3.Connection]:
    """Commit what happens inside at once, or none of it, under the write lock.

    Raises:
        sqlite3.Error, Unavailable: The log cannot be opened or written, or is no longer at its path.
        CommitFailed: It is not known whether the disk has kept it.
    """
    lock = WriteLock(file.lock_path)
    try:
        # Closed under the lock, because the last connection to close checkpoints.
        with lock.held(), closing(file.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            finish(connection)
            file.require_kept_in_place()
    finally:
        lock.close()


@contextmanager
def transaction_beside(path: Path, *, settle_seconds: float = SETTLE_SECONDS) -> Iterator[sqlite3.Connection]:
    """As `one_transaction`, on a log that a node may be serving, or may start or stop to serve at any time.

    Raises:
        StartRefused: There is no log, another command works on it, or a node neither came up nor went down in time.
        sqlite3.Error, Unavailable, CommitFailed: As `one_transaction`.
    """
    with ExitStack() as held:
        yield _settled(path, held, time.monotonic() + settle_seconds)


def _settled(path: Path, held: ExitStack, give_up_at: float) -> sqlite3.Connection:
    while True:
        is_last = time.monotonic() >= give_up_at
        with ExitStack() as attempt:
            try:
                file, is_ours = _held_file(path, attempt)
                connection = None if file is None else attempt.enter_context(one_transaction(file))
                if connection is not None and is_ours:
                    _settle_unasked(connection)
            except Unavailable:
                # Perhaps the node has stopped between the two; nothing was written yet.
                if is_last:
                    raise
            else:
                if connection is not None:
                    held.push(attempt.pop_all())
                    return connection
        if is_last:
            raise StartRefused(
                "OSC_DATABASE_PATH: a node is starting or stopping on this log, or another command works on it;"
                " try again."
            )
        time.sleep(_POLL_SECONDS)


def _settle_unasked(connection: sqlite3.Connection) -> None:
    """Have a log of a cluster begin a new incarnation, as nobody asks its peers where it ended (invariant 9)."""
    if schema.layout(connection) and schema.read_meta(connection, "clustered"):
        own.write_standing(connection, Standing.BEGINS)


def _held_file(path: Path, held: ExitStack) -> tuple[LogFile | None, bool]:
    """The files to write to, and whether they are ours as long as `held` is, or a node serves from them.

    No files where it is in between.
    """
    inode = inode_of(path)
    if inode is None:
        raise StartRefused(f"OSC_DATABASE_PATH={path}: there is no such file.")
    try:
        claim = NodeClaim(path)
    except Claimed:
        return served_file(path), False
    held.callback(claim.release)
    return LogFile(path, inode), True
