"""Owns the note by which a log knows the salt that its values are sealed under. Must not know the salt itself."""

from __future__ import annotations

import sqlite3

from oscd.events.log import Reading, Writing
from oscd.events.sqlite import schema


def noted_digest(reading: Reading[sqlite3.Connection]) -> bytes | None:
    """SHA-256 of the salt; None where none was noted yet."""
    digest = schema.read_meta(reading.store, "salt_digest")
    return digest if isinstance(digest, bytes) else None


def note_digest(writing: Writing[sqlite3.Connection], digest: bytes) -> bool:
    """Note the salt that the first value will be sealed under; False where the log has events already.

    Those were sealed under the one noted before, which must never be forgotten.
    """
    if writing.head():
        return noted_digest(writing) == digest
    schema.write_meta(writing.store, "salt_digest", digest)
    return True
