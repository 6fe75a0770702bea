"""Owns logs of a given size, made without HTTP: real keys, real ciphertext, the real append. Must not measure."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from pathlib import Path

import orjson

from oscd.commands import Caller, Create, Preconditions, Sealed, Update, decide
from oscd.events.cipher import Cipher, derive
from oscd.events.event import EVENT_ID_BYTES
from oscd.events.position import Position
from oscd.events.salt import ensure_salt, load_salt, salt_digest
from oscd.events.sqlite.prepare import PreparedLog, note_salt, prepare
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections.sqlite import SqliteProjections, entry
from oscd.times import microseconds_now

NODE_ID = "bench"
USER_KEY = "a user key of the benchmark"
ENVIRONMENT = "bench"
VALUE = "v" * 50
DATABASE, SALT = "configurations.db", "encryption.salt"

_BATCH = 1000
_CHECKPOINT_ENTRIES = 10_000


def key(number: int) -> str:
    """The key of the `number`-th entry, as `bench.load` numbers them."""
    return f"entry-{number:010d}"


def make(directory: Path, entries: int) -> None:
    """Make a log with so many entries, and its salt."""
    prepared = prepare(directory / DATABASE, node_id=NODE_ID, projections=SqliteProjections())
    salt = ensure_salt(directory / SALT, prepared.salt_digest, prepared.is_empty)
    note_salt(prepared.file, salt_digest(salt))
    _append(prepared, derive(USER_KEY, salt), entries)


def rewrite(directory: Path, entries: int, events: int, hot: str, hot_versions: int) -> tuple[Position, int]:
    """Go on writing to a log made here until it has so many events; gives the position half-way, and the time (µs).

    Args:
        entries: Those it has; they are updated in turn, so that in the end each has changed equally often.
        hot: Key of one more entry …
        hot_versions: … and how many versions it gets, spread over the rest.
    """
    prepared, cipher = opened(directory)
    middle = Position({}), 0
    connection = prepared.file.connect()
    try:
        for first in range(entries, events, _BATCH):
            connection.execute("BEGIN IMMEDIATE")
            writing = _writing(connection, prepared)
            for number in range(first, min(first + _BATCH, events)):
                is_hot = (number - entries) % max(1, (events - entries) // hot_versions) == 0
                _put(writing, cipher, hot if is_hot else key(number % entries))
            connection.execute("COMMIT")
            if first <= events // 2:
                middle = writing.position(), writing.tip.origin_stamp
            if first % _CHECKPOINT_ENTRIES == 0:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
    return middle


def copy(source: Path, directory: Path) -> Path:
    """A log of its own for whoever writes to it."""
    directory.mkdir()
    for name in (DATABASE, SALT):
        shutil.copy2(source / name, directory / name)
    return directory


def opened(directory: Path) -> tuple[PreparedLog, Cipher]:
    """A log made here, ready to be used in this process, and the cipher of its user key."""
    prepared = prepare(directory / DATABASE, node_id=NODE_ID, projections=SqliteProjections())
    return prepared, derive(USER_KEY, load_salt(directory / SALT))


def command(cipher: Cipher, entry_key: str) -> Create:
    """The create of one entry, sealed."""
    event_id = secrets.token_bytes(EVENT_ID_BYTES)
    ciphertext = cipher.seal(ENVIRONMENT, entry_key, event_id, orjson.dumps(VALUE))
    sealed = Sealed(ciphertext, event_id, cipher.key_id)
    return Create(ENVIRONMENT, entry_key, "c", sealed, Caller(None, "127.0.0.1"))


def _put(writing: SqliteWriting, cipher: Cipher, entry_key: str) -> None:
    """Create or update one entry."""
    create = command(cipher, entry_key)
    current = entry(writing.store, ENVIRONMENT, entry_key)
    update = Update(ENVIRONMENT, entry_key, None, create.sealed, create.caller, Preconditions())
    writing.append([decide(create if current is None else update, current)])


def _writing(connection: sqlite3.Connection, prepared: PreparedLog) -> SqliteWriting:
    return SqliteWriting(
        connection, origin=prepared.origin, projections=SqliteProjections(), clock=microseconds_now
    )


def _append(prepared: PreparedLog, cipher: Cipher, entries: int) -> None:
    connection = prepared.file.connect()
    try:
        for first in range(0, entries, _BATCH):
            connection.execute("BEGIN IMMEDIATE")
            writing = _writing(connection, prepared)
            for number in range(first, min(first + _BATCH, entries)):
                writing.append([decide(command(cipher, key(number)), None)])
            connection.execute("COMMIT")
            if first % _CHECKPOINT_ENTRIES == 0:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
