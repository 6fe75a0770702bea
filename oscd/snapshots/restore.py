"""Owns making a node's directory of a snapshot: its salt, then its log, whole and proved, or no log at all.

The log comes last and under its own name only when it is done, so whatever stops a restore half way leaves nothing
that a node would start from, and the same command completes it. What the original went on to append after the
snapshot is not known here; so the log names its origin as ended, and the node that starts on it begins another
(invariant 9). Must not write the snapshot.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused
from oscd.events.cipher import SALT_BYTES
from oscd.events.salt import keep_salt, load_salt, salt_digest, sync_directory
from oscd.events.sqlite import schema
from oscd.events.sqlite.prepare import reproject
from oscd.projections.sqlite import SqliteProjections
from oscd.projections.verify import verify_projections
from oscd.snapshots.copying import Extent, copy_log
from oscd.snapshots.draft import draft_of, put_in_place
from oscd.snapshots.errors import SnapshotRefused
from oscd.snapshots.take import Made, building, proved, refused_on_trouble

DATABASE_NAME: Final = "configurations.db"
SALT_NAME: Final = "encryption.salt"
STAGES: Final = 4
"""Passes over the events: copied, projected, proved, and the tables compared."""

# SQLite would apply what another log has left in one of these.
_BESIDE: Final = ("-wal", "-shm", "-journal")


def restore(
    snapshot: sqlite3.Connection, extent: Extent, directory: Path, progress: Callable[[int], None]
) -> Made:
    """Make the log and the salt of a node in a directory.

    Args:
        extent: What to restore of it.
        progress: Told how many of `STAGES` times the snapshot's events are done.

    Raises:
        SnapshotRefused: It is no whole snapshot, the directory holds a log or another salt, or the disk is in
            trouble.
        StartRefused: The salt cannot be kept.
    """
    salt = _salt_of(snapshot)
    if extent.salt_digest != salt_digest(salt):
        raise SnapshotRefused(
            "the snapshot is damaged: its salt is not the one its values were sealed under."
        )
    database = directory / DATABASE_NAME
    with refused_on_trouble(database):
        _make_directory(directory)
        with _only_one(directory):
            _require_free(database, directory / SALT_NAME, salt)
            return _made(snapshot, extent, database, salt, progress)


def _made(
    snapshot: sqlite3.Connection,
    extent: Extent,
    database: Path,
    salt: bytes,
    progress: Callable[[int], None],
) -> Made:
    with draft_of(database) as draft:
        with building(draft) as target:
            copy_log(snapshot, extent, target, progress)
            reproject(target, SqliteProjections(), lambda offset: progress(extent.head + offset))
        made = _proved(draft, lambda done: progress(2 * extent.head + done))
        with _salt_beside(database, salt):
            put_in_place(draft, database)
    return made


def _salt_of(snapshot: sqlite3.Connection) -> bytes:
    salt = schema.read_meta(snapshot, "salt")
    if not schema.is_snapshot(snapshot) or not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise SnapshotRefused("this file is not a snapshot; `oscd snapshot` makes one.")
    return salt


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700)
        sync_directory(directory.parent)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Let no other restore into a directory meanwhile; a lock that ends with the process, and leaves no file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SnapshotRefused(
                f"{directory}: another restore is at work here; wait for its end."
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _salt_beside(database: Path, salt: bytes) -> Iterator[None]:
    """Have the salt beside where the database is put inside; one that was made for that goes if it is not."""
    salt_file = database.with_name(SALT_NAME)
    is_ours = not os.path.lexists(salt_file)
    if is_ours:
        keep_salt(salt_file, salt)
    try:
        # What others than a restore do here meanwhile no lock keeps them from.
        _require_same_salt(salt_file, salt)
        yield
    except BaseException:
        # Beside a database, whoever's it is, a salt is never removed; nor is one that was put in the place of ours.
        with suppress(OSError, StartRefused):
            if is_ours and not os.path.lexists(database) and load_salt(salt_file) == salt:
                salt_file.unlink()
        raise


def _require_same_salt(salt_file: Path, salt: bytes) -> None:
    if load_salt(salt_file) != salt:
        raise SnapshotRefused(f"{salt_file}: another salt is here already; restore into another directory.")


def _require_free(database: Path, salt_file: Path, salt: bytes) -> None:
    """Make sure that nothing here belongs to another log; a salt that is the same is from a restore cut short."""
    for beside in (Path(f"{database}{suffix}") for suffix in _BESIDE):
        if os.path.lexists(beside):
            raise SnapshotRefused(
                f"{beside}: another log has left this here; restore into another directory."
            )
    if os.path.lexists(salt_file):
        _require_same_salt(salt_file, salt)


def _proved(draft: Path, progress: Callable[[int], None]) -> Made:
    with closing(
        sqlite3.connect(f"{draft.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    ) as log:
        made = proved(log, progress)
        for finding in verify_projections(log, lambda offset: progress(made.events + offset)):
            raise SnapshotRefused(f"the snapshot is damaged: {finding}; nothing is left of what was made.")
    return made
