"""Owns logs of a given size, made without HTTP: real keys, real ciphertext, the real append. Must not measure."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import orjson

from oscd.commands import Caller, Create, Sealed, decide
from oscd.events.cipher import EVENT_ID_BYTES, Cipher, derive
from oscd.events.salt import ensure_salt, load_salt, salt_digest
from oscd.events.sqlite.prepare import PreparedLog, note_salt, prepare
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections.sqlite import SqliteProjections

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


def _append(prepared: PreparedLog, cipher: Cipher, entries: int) -> None:
    connection = prepared.file.connect()
    try:
        for first in range(0, entries, _BATCH):
            connection.execute("BEGIN IMMEDIATE")
            writing = SqliteWriting(
                connection,
                origin=prepared.origin,
                projections=SqliteProjections(),
                clock=lambda: time.time_ns() // 1000,
            )
            for number in range(first, min(first + _BATCH, entries)):
                writing.append([decide(command(cipher, key(number)), None)])
            connection.execute("COMMIT")
            if first % _CHECKPOINT_ENTRIES == 0:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
