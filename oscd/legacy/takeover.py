"""Owns the import itself: the salt, then one transaction with every row.

Nothing, or everything: the salt comes first, because a salt without events does no harm, and whatever a crash
leaves, the same command completes. Must not: judge a row (`row.py`, `placing.py`) or know the original's table.

Each row is a write of its own in the log, as it was in the original. One write of all rows would have to be held
in memory, here and by every peer, and travel whole or not at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from oscd.events.salt import keep_salt, salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.faults import CommitFailed, translated
from oscd.events.sqlite.outside import one_transaction
from oscd.events.sqlite.prepare import PreparedLog, prepare
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.legacy.errors import ImportRefused
from oscd.legacy.fit import Choices, Destination, Held, require_another_file, require_fit
from oscd.legacy.placing import MAX_ID, Placing, Tally, place_rows
from oscd.legacy.source import LegacyDatabase
from oscd.projections import sqlite as projections


def take_over(
    source: LegacyDatabase,
    salt: bytes,
    destination: Destination,
    choices: Choices,
    now: int,
    progress: Callable[[int], None],
) -> Tally:
    """Import every row that is fit, durably, or nothing.

    Args:
        salt: The original's.
        now: µs since 1970.
        progress: Told the number of rows that are done.

    Raises:
        ImportRefused: The log or its salt does not fit, or the source changed meanwhile.
        StartRefused: The log is in use, is no log, or its salt cannot be kept.
        Unavailable: The log cannot be written, or nobody can tell whether it was.
    """
    require_another_file(source, destination.database)
    claim = NodeClaim(destination.database)
    try:
        prepared = _made_ready(salt, destination, choices)
        with one_transaction(prepared.file) as log:
            tally = _append(source, log, salt, destination.node_id, now, progress)
            source.require_unchanged()
        return tally
    except (CommitFailed, sqlite3.Error, OSError) as error:
        raise translated(error) from error
    finally:
        claim.release()


def _made_ready(salt: bytes, destination: Destination, choices: Choices) -> PreparedLog:
    """The log, with its salt in place. What is refused leaves a log that was there as it was, and makes none."""
    prepared = _prepare(destination) if destination.database.exists() else None
    held = Held() if prepared is None else Held(prepared.is_empty, prepared.salt_digest)
    require_fit(salt, destination, choices, held)
    if not os.path.lexists(destination.salt_file):
        keep_salt(destination.salt_file, salt)
    prepared = prepared or _prepare(destination)
    if (lack := prepared.file.lack_of_room(destination.room)) is not None:
        raise ImportRefused(f"OSC_DATABASE_PATH: {lack}.")
    return prepared


def _prepare(destination: Destination) -> PreparedLog:
    return prepare(
        destination.database, node_id=destination.node_id, projections=projections.SqliteProjections()
    )


def _append(
    source: LegacyDatabase,
    log: sqlite3.Connection,
    salt: bytes,
    node_id: str,
    now: int,
    progress: Callable[[int], None],
) -> Tally:
    schema.write_meta(log, "salt_digest", salt_digest(salt))
    origin = schema.new_origin(log, node_id)
    writing = SqliteWriting(
        log, origin=origin, projections=projections.SqliteProjections(), clock=lambda: now
    )
    was_empty = writing.tip.offset == 0
    placing = Placing(now=now, last_id=writing.tip.last_entry_id, greatest_id=source.greatest_id(MAX_ID))
    return place_rows(
        source.rows(),
        placing,
        find=lambda row: None if was_empty else projections.entry(log, row.environment, row.key),
        append=lambda draft: writing.append([draft]),
        progress=progress,
    )
