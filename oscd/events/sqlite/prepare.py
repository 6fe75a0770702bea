"""Owns making and checking the log's file before anybody serves from it. Runs in one process at a time.

Must not run in a worker: a worker opens what is there, or says that it cannot.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oscd.errors import StartRefused, Unavailable
from oscd.events.event import EVENT_ID_BYTES, Origin, origin_began
from oscd.events.log import Projections, scan
from oscd.events.origins import MAX_ORIGINS_TO_BEGIN
from oscd.events.salt import sync_directory
from oscd.events.sqlite import own, schema
from oscd.events.sqlite.faults import CommitFailed
from oscd.events.sqlite.file import KeptOpen, LogFile, WriteLock, configure, inode_of
from oscd.events.sqlite.noted import noted_digest
from oscd.events.sqlite.outside import one_transaction
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.events.standing import Standing
from oscd.times import microseconds_now

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class PreparedLog:
    """A log file that is ready to serve.

    Attributes:
        salt_digest: SHA-256 of the salt its values are sealed under; None before the first start.
        is_empty: Whether it holds no event.
    """

    file: LogFile
    origin: Origin
    salt_digest: bytes | None
    is_empty: bool


def prepare(
    path: Path, *, node_id: str, projections: Projections[sqlite3.Connection], asks: bool = False
) -> PreparedLog:
    """Make the log where there is none, bring its layout up to date, and find this node's origin.

    The caller holds the `NodeClaim`.

    Args:
        asks: Whether there are peers to ask where this node's origin ended, before anything is appended to it.

    Raises:
        StartRefused: The file is not a log this version can serve from, or cannot be written.
    """
    try:
        return _prepare(path, node_id, projections, asks)
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartRefused(f"OSC_DATABASE_PATH: the log cannot be used: {reason}.") from error


def _prepare(
    path: Path, node_id: str, projections: Projections[sqlite3.Connection], asks: bool
) -> PreparedLog:
    _refuse_foreign_file(path)
    is_new = inode_of(path) is None
    connection = sqlite3.connect(path, isolation_level=None)
    lock = WriteLock(Path(f"{path}-write-lock"))
    try:
        with lock.held():
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            configure(connection)
            # A migration may sort every event into an index; nobody serves from this connection.
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute("BEGIN IMMEDIATE")
            schema.migrate(connection)
            if schema.read_meta(connection, "projections") != projections.version:
                reproject(connection, projections)
            origin = _own_origin(connection, node_id, projections, asks)
            connection.execute("COMMIT")
            if is_new:
                sync_directory(path.parent)
            inode = inode_of(path)
            assert inode is not None
            reading = SqliteReading(connection)
            digest, is_empty = noted_digest(reading), reading.head() == 0
            connection.close()
    finally:
        connection.close()
        lock.close()
    return PreparedLog(LogFile(path, inode), origin, digest, is_empty)


def _own_origin(
    connection: sqlite3.Connection, node_id: str, projections: Projections[sqlite3.Connection], asks: bool
) -> Origin:
    """The origin this node appends to; a new incarnation where it has none, was renamed or restored.

    One that follows another begins with an event that says where that one ended (invariant 9). Where it would be one
    too many for other nodes there is no such event: a restored log serves what it has, and refuses each write.

    Raises:
        StartRefused: It would be one too many, and the log could go on under its former name.
    """
    if not asks:
        # Whoever was configured as a peer and made this node hold its writes is none any more. Else only a peer's
        # clock tells whether this one's is right by now.
        own.hold_writes(connection, None)
    schema.write_meta(connection, "clustered", int(asks))
    if asks:
        # A file put back from its first minute holds no event of an origin that peers may know well. Another one is
        # had for nothing, and there is nothing to ask for then.
        schema.forget_empty_own_origin(connection)
    origin = schema.own_origin(connection)
    if origin is not None and origin.node_id == node_id:
        own.write_standing(connection, Standing.ASKING if asks else Standing.CONTINUES)
        return origin
    ended = schema.ended_origin(connection)
    has_place = SqliteReading(connection).origin_count() < MAX_ORIGINS_TO_BEGIN
    if origin is not None and ended is not None and not has_place:
        raise StartRefused(
            f"OSC_CLUSTER_NODE_ID: this log was written as {origin.node_id}, and knows so many origins of events that"
            " other nodes may take no new one; start it under that name."
        )
    own.write_standing(connection, Standing.CONTINUES)
    origin = schema.begin_own_origin(connection, node_id)
    if ended is not None and has_place:
        writing = SqliteWriting(connection, origin=origin, projections=projections, clock=microseconds_now)
        writing.append([origin_began(ended, secrets.token_bytes(EVENT_ID_BYTES))])
    return origin


def _refuse_foreign_file(path: Path) -> None:
    """Look at an existing file without changing a byte of it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        schema.refuse_foreign(connection)
        schema.refuse_snapshot(connection)
    finally:
        connection.close()


def reproject(
    connection: sqlite3.Connection,
    projections: Projections[sqlite3.Connection],
    progress: Progress | None = None,
) -> None:
    """Drop every projection and replay the log into new ones. The caller has opened a write transaction.

    Args:
        progress: Told the offset after each event.
    """
    projections.create(connection)
    for recorded in scan(SqliteReading(connection)):
        projections.apply(connection, recorded)
        if progress is not None:
            progress(recorded.offset)
    schema.write_meta(connection, "projections", projections.version)


def keep_open(file: LogFile) -> KeptOpen:
    """Hold a prepared log for as long as workers serve from it; the caller closes it after them.

    Raises:
        StartRefused: It cannot be opened.
    """
    try:
        kept = KeptOpen(file)
    except (sqlite3.Error, OSError, Unavailable) as error:
        raise StartRefused(f"OSC_DATABASE_PATH: the log cannot be used: {error}.") from error
    if kept.file.wal is None or kept.file.shm is None:
        kept.close()
        raise StartRefused(
            "OSC_DATABASE_PATH: SQLite keeps no write-ahead log beside this file; is it a link?"
        )
    return kept


def note_salt(file: LogFile, digest: bytes) -> None:
    """Keep the SHA-256 of the salt in the log, so that another salt is noticed at the next start.

    Raises:
        StartRefused: The log does not take it; the next start tries anew.
    """
    try:
        with one_transaction(file) as connection:
            schema.write_meta(connection, "salt_digest", digest)
    except (CommitFailed, sqlite3.Error, Unavailable) as error:
        reason = error.__cause__ if isinstance(error, CommitFailed) else error
        raise StartRefused(f"OSC_DATABASE_PATH: the log cannot be used: {reason}.") from error
