"""Owns the operator's way to end an entry whose user key is lost or somebody else's: with the file of the log alone.

It is a delete like any other, in a transaction like any other, beside a serving node or not; only that no key was
shown, which the event says. Must not ask, nor know who runs it.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from oscd.commands import Release, decide_release, not_found
from oscd.errors import PreconditionFailed, StartRefused
from oscd.events.event import EVENT_ID_BYTES, Recorded
from oscd.events.sqlite import schema
from oscd.events.sqlite.faults import CommitFailed, translated
from oscd.events.sqlite.outside import transaction_beside
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry
from oscd.times import microseconds_now


def live_entry(log: sqlite3.Connection, environment: str, key: str) -> Entry:
    """The entry that would be released.

    Raises:
        NotFound: There is no such entry.
    """
    found = projections.entry(log, environment, key)
    if found is None or found.deleted:
        raise not_found(environment, key)
    return found


def release_entry(path: Path, environment: str, key: str, *, seen: Entry | None = None) -> Recorded:
    """Append the event that ends an entry, durably.

    Args:
        path: The log's file.
        seen: The entry as whoever decided has seen it; None where any state of it is meant.

    Raises:
        NotFound: There is no such entry.
        PreconditionFailed: It is not the one that was seen any more.
        StartRefused: The log is not in use by this version, or somebody else works on it.
        Unavailable: The log cannot be written now, or nobody can tell whether it was.
    """
    try:
        with transaction_beside(path) as log:
            require_serving(log)
            current = projections.entry(log, environment, key)
            command = Release(environment, key, secrets.token_bytes(EVENT_ID_BYTES))
            draft = decide_release(command, current)
            if seen is not None and current is not None and current.winner != seen.winner:
                raise PreconditionFailed("the entry has changed meanwhile; look at it again.")
            (recorded,) = _writing(log).append([draft])
            return recorded
    except (CommitFailed, sqlite3.Error, OSError) as error:
        raise translated(error) from error


def require_serving(log: sqlite3.Connection) -> None:
    """Pass a log that a node of this version has served.

    Raises:
        StartRefused: It is a snapshot, restored and not started yet, or another version's.
    """
    schema.refuse_foreign(log)
    if schema.layout(log) != len(schema.MIGRATIONS):
        raise StartRefused("OSC_DATABASE_PATH: not a log of this version; start the node on it first.")
    schema.refuse_snapshot(log)
    if schema.own_origin(log) is None or schema.read_meta(log, "projections") != projections.VERSION:
        raise StartRefused(
            "OSC_DATABASE_PATH: no node of this version has served this log yet; start it once."
        )


def _writing(log: sqlite3.Connection) -> SqliteWriting:
    return SqliteWriting(log, projections=projections.SqliteProjections(), clock=microseconds_now)
