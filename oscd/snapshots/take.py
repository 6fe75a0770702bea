"""Owns taking a snapshot: one file with a log and its salt, whole and proved, or none at all.

The file is a log of the usual layout that says it is a snapshot, so `oscd verify` reads it and no node serves from
it. It has no tables: they would double it, and are made anew at the restore. Must not write the log it is taken of.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from oscd.events.position import Position
from oscd.events.salt import salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.fingerprint import Fingerprint, fingerprint_at
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import verify_chain
from oscd.snapshots.copying import Extent, copy_log
from oscd.snapshots.draft import draft_of, put_in_place
from oscd.snapshots.errors import SnapshotRefused

CACHE_KIBIBYTES = 64 * 1024
"""Index pages are written in no order: with less they would be read and written many times."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was made and proved.

    Attributes:
        position: Where a reader of everything in it stands.
    """

    events: int
    position: Position
    fingerprint: Fingerprint


def take_snapshot(
    log: sqlite3.Connection, extent: Extent, salt: bytes, file: Path, progress: Callable[[int], None]
) -> Made:
    """Copy what the extent says of a log, which may be served meanwhile, into a new file.

    Args:
        salt: The one its values are sealed under.
        progress: Told how many of twice the events are done: copied, then proved.

    Raises:
        SnapshotRefused: The file is there, the salt is another one, the log is damaged, or the disk is in trouble.
    """
    if extent.salt_digest != salt_digest(salt):
        raise SnapshotRefused("OSC_SALT_FILE_PATH: this is not the salt of the log; nothing was made.")
    with refused_on_trouble(file), draft_of(file) as draft:
        with building(draft) as target:
            copy_log(log, extent, target, progress)
            schema.write_meta(target, "salt", salt)
            schema.write_meta(target, "snapshot", 1)
        made = _proved(draft, lambda offset: progress(extent.head + offset))
        put_in_place(draft, file)
    return made


@contextmanager
def refused_on_trouble(file: Path) -> Iterator[None]:
    """Refuse a name that is taken, and make a line for a person of trouble with the disk.

    Raises:
        SnapshotRefused: Either; nothing was made.
    """
    taken = f"{file}: this file is there already; it stays as it is, name another."
    if os.path.lexists(file):
        raise SnapshotRefused(taken)
    try:
        yield
    except FileExistsError as error:
        raise SnapshotRefused(taken) from error
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SnapshotRefused(f"{file}: it cannot be made: {reason}; nothing is left of it.") from error


@contextmanager
def building(draft: Path) -> Iterator[sqlite3.Connection]:
    """A log of the newest layout in an empty file, in one transaction; not oscd's to the eye before it is over.

    Raises:
        sqlite3.Error: The disk does not take it.
    """
    with closing(sqlite3.connect(draft, isolation_level=None)) as target:
        # Nobody reads a draft, and one that is cut off is thrown away: there is nothing to roll back.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIBIBYTES}"):
            target.execute(f"PRAGMA {pragma}").fetchone()
        schema.migrate(target)
        target.execute("PRAGMA application_id = 0")
        target.execute("BEGIN")
        yield target
        target.execute("COMMIT")
        target.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")


def _proved(draft: Path, progress: Callable[[int], None]) -> Made:
    """What the written file holds, read anew."""
    with closing(sqlite3.connect(f"{draft.absolute().as_uri()}?mode=ro", uri=True)) as log:
        return proved(log, progress)


def proved(log: sqlite3.Connection, progress: Callable[[int], None]) -> Made:
    """What a log holds, after a look at every event.

    Raises:
        SnapshotRefused: It is not what it should be.
    """
    for finding in verify_chain(log, progress):
        raise SnapshotRefused(f"what was written is damaged: {finding}; nothing is left of it.")
    reading = SqliteReading(log)
    events = reading.head()
    fingerprint = fingerprint_at(log, events)
    assert fingerprint is not None
    return Made(events, reading.position(), fingerprint)
