"""Owns sealing and opening the values of entries: which call of the cipher an entry needs, and where it may run.

Opening is also how authorization is shown: what a key cannot open it may not change. Must not decide what happens to
an entry, nor read the log on its own.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from oscd.commands import Sealed
from oscd.errors import LogCorrupt, NotAuthorized
from oscd.events.cipher import Cipher, WrongKey
from oscd.events.event import EVENT_ID_BYTES, Body
from oscd.events.log import Writing
from oscd.projections.entry import Entry

# Fernet works at some 10 MB/s here: past this size it would hold the event loop, or in a transaction every writer of
# the node, for over a millisecond.
INLINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry with its value as JSON text, for the one caller whose key opened it."""

    entry: Entry
    value_json: bytes


class ValueCounts(Protocol):
    """Counts the values that were sealed and opened for callers, not those that were opened to show who may write."""

    def sealed(self, count: int = 1) -> None:
        """So many were encrypted, and their events appended."""

    def opened(self, count: int = 1) -> None:
        """So many were decrypted."""


class Uncounted:
    """Counts nothing."""

    def sealed(self, count: int = 1) -> None:
        """See `ValueCounts`."""

    def opened(self, count: int = 1) -> None:
        """See `ValueCounts`."""


class TooLargeInTransaction(Exception):
    """The value is too large to be opened while every other writer of the node waits."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


async def seal_value(cipher: Cipher, environment: str, key: str, value_json: bytes) -> Sealed:
    """Encrypt a value for a new event of an entry; a large one in a thread."""
    if len(value_json) <= INLINE_BYTES:
        return _seal(cipher, environment, key, value_json)
    return await asyncio.to_thread(_seal, cipher, environment, key, value_json)


async def seal_each(cipher: Cipher, values: Sequence[tuple[str, str, bytes]]) -> list[Sealed]:
    """Encrypt values for new events of entries; in a thread, as there may be many.

    Args:
        values: Environment, key and JSON text of each.
    """
    return await asyncio.to_thread(_seal_each, cipher, values)


async def open_value(cipher: Cipher, entry: Entry, body: Body | None) -> bytes:
    """The value; a large one is opened in a thread.

    Raises:
        NotAuthorized: The key does not open it.
        LogCorrupt: The log does not hold what was appended.
    """
    if body is None or body.ciphertext is None or len(body.ciphertext) <= INLINE_BYTES:
        return _open(cipher, entry, body)
    return await asyncio.to_thread(_open, cipher, entry, body)


async def open_each(cipher: Cipher, found: Sequence[tuple[Entry, Body | None]]) -> list[Opened]:
    """Of these entries those the key opens; in a thread, as there may be many.

    Raises:
        LogCorrupt: The log does not hold what was appended. A list without that entry would be a lie.
    """
    return await asyncio.to_thread(_open_each, cipher, found)


def open_in_transaction(cipher: Cipher, entry: Entry, writing: Writing[sqlite3.Connection]) -> None:
    """Show inside a write transaction that the key may change the entry.

    Raises:
        NotAuthorized, LogCorrupt: As `open_value`.
        TooLargeInTransaction: It has to be shown outside.
    """
    _require_key_id(cipher, entry)
    body = writing.body_at(entry.offset, at_most=INLINE_BYTES)
    if body is None:
        raise TooLargeInTransaction(entry)
    _open(cipher, entry, body)


def _seal(cipher: Cipher, environment: str, key: str, value_json: bytes) -> Sealed:
    event_id = secrets.token_bytes(EVENT_ID_BYTES)
    return Sealed(cipher.seal(environment, key, event_id, value_json), event_id, cipher.key_id)


def _seal_each(cipher: Cipher, values: Sequence[tuple[str, str, bytes]]) -> list[Sealed]:
    return [_seal(cipher, environment, key, value_json) for environment, key, value_json in values]


def _open(cipher: Cipher, entry: Entry, body: Body | None) -> bytes:
    if body is None or body.ciphertext is None:
        raise LogCorrupt("the value of a live entry is not in the log")
    if entry.imported:
        return cipher.open_legacy(body.ciphertext)
    _require_key_id(cipher, entry)
    try:
        return cipher.open(entry.environment, entry.key, entry.event_id, body.ciphertext)
    except WrongKey:
        # Its key id says that this key sealed it, so not the key is wrong but the stored bytes.
        raise LogCorrupt("a stored value is not the one that was sealed") from None


def _open_each(cipher: Cipher, found: Sequence[tuple[Entry, Body | None]]) -> list[Opened]:
    opened: list[Opened] = []
    for entry, body in found:
        try:
            opened.append(Opened(entry, _open(cipher, entry, body)))
        except WrongKey:
            continue  # An imported entry of somebody else: only trying tells.
    return opened


def _require_key_id(cipher: Cipher, entry: Entry) -> None:
    """Refuse what need not be tried; another key id never opens, the same one proves nothing yet."""
    if entry.key_id not in (None, cipher.key_id):
        raise NotAuthorized("X-User-Key does not open this entry.")
