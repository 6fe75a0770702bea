"""Owns the use cases of one worker: read, list and write entries with the caller's key.

Authorization is here: whatever a key cannot decrypt it can neither read, overwrite nor delete, and that is
checked inside the transaction that writes. Must not know HTTP, nor hold anything another worker would need.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from oscd.commands import (
    Caller,
    Command,
    Create,
    Delete,
    Preconditions,
    Sealed,
    Update,
    decide,
    not_found,
    refuse_early,
)
from oscd.errors import LogCorrupt, NotAuthorized, Unavailable
from oscd.events.cipher import EVENT_ID_BYTES, Cipher, WrongKey
from oscd.events.event import Body
from oscd.events.keyring import KeyRing
from oscd.events.log import EventLog, Reading, Writing
from oscd.events.position import Position
from oscd.listing import Filters, Page, entries_of_page
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry, entry_after
from oscd.projections.statistics import Statistics

Result = TypeVar("Result")

# Fernet works at some 10 MB/s here: past this size it would hold the event loop for over a millisecond.
INLINE_CIPHER_BYTES = 16 * 1024
# What an event takes in the log beside its ciphertext, roughly; only the batch limit depends on it.
EVENT_OVERHEAD_BYTES = 1024
POSITION_WAIT_SECONDS = 5.0
_POSITION_POLL_SECONDS = 0.05
# Requests of one worker that may wait for a position at one time.
MAX_POSITION_WAITERS = 64
# Times a write is tried anew because its large entry changed while it was being opened.
MAX_TRIES = 5
# What a view counts a read as that may return much: 32 of them fill it.
LARGE_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry with its value as JSON text, for the one caller whose key opened it."""

    entry: Entry
    value_json: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left: the entry, and the position that covers it."""

    entry: Entry
    position: Position


class Node:
    """The use cases over one log."""

    def __init__(self, log: EventLog[sqlite3.Connection], keyring: KeyRing) -> None:
        self._log = log
        self._keyring = keyring
        self._position_waiters = 0

    async def read(self, environment: str, key: str, user_key: str) -> Opened:
        """The entry, opened.

        Raises:
            NotFound: There is no such entry.
            NotAuthorized: The key does not open it.
            TooManyRequests, Unavailable: Not now.
        """
        entry, body = await self._log.read(lambda reading: _stored(reading, environment, key))
        cipher = self._keyring.recall(user_key) or await self._keyring.derive(user_key)
        value_json = await _inline_if_small(body, lambda: _open(cipher, entry, body))
        self._keyring.remember(user_key, cipher)
        return Opened(entry, value_json)

    async def create(
        self,
        environment: str,
        key: str,
        category: str | None,
        value_json: bytes,
        user_key: str,
        caller: Caller,
    ) -> Written:
        """Create an entry that does not exist.

        Raises:
            AlreadyExists: It does, whoever owns it.
            TooManyRequests, Unavailable: Not now; nothing was changed.
        """
        cipher = await self._cipher(Create, environment, key, user_key, creates=True)
        sealed = await _seal(cipher, environment, key, value_json)
        return await self._write(Create(environment, key, category, sealed, caller), cipher, user_key)

    async def update(
        self,
        environment: str,
        key: str,
        category: str | None,
        value_json: bytes,
        user_key: str,
        caller: Caller,
        preconditions: Preconditions,
    ) -> Written:
        """Give an entry a new value; with `If-None-Match: *` create it.

        Raises:
            NotFound: There is no such entry.
            NotAuthorized: The key does not open it.
            PreconditionFailed: It is not in the state the caller named.
            TooManyRequests, Unavailable: Not now; nothing was changed.
        """
        cipher = await self._cipher(Update, environment, key, user_key, creates=preconditions.creates)
        sealed = await _seal(cipher, environment, key, value_json)
        command = Update(environment, key, category, sealed, caller, preconditions)
        return await self._write(command, cipher, user_key)

    async def delete(
        self, environment: str, key: str, user_key: str, caller: Caller, preconditions: Preconditions
    ) -> Written:
        """Delete an entry.

        Raises:
            NotFound: There is no such entry.
            NotAuthorized: The key does not open it.
            PreconditionFailed: It is not in the state the caller named.
            TooManyRequests, Unavailable: Not now; nothing was changed.
        """
        cipher = await self._cipher(Delete, environment, key, user_key, creates=False)
        event_id = secrets.token_bytes(EVENT_ID_BYTES)
        command = Delete(environment, key, event_id, cipher.key_id, caller, preconditions)
        return await self._write(command, cipher, user_key)

    def list(self, filters: Filters, user_key: str) -> Listing:
        """The entries the key opens, to be read page by page."""
        return Listing(self._log, self._keyring, filters, user_key)

    async def statistics(self) -> Statistics:
        """How many entries there are, whoever owns them.

        Raises:
            Unavailable: Not now.
        """
        return await self._log.read(lambda reading: projections.statistics(reading.store))

    async def wait_for(self, position: Position) -> None:
        """Wait until this node has everything up to `position`.

        Raises:
            Unavailable: It does not have it within `POSITION_WAIT_SECONDS`.
        """
        if await self._covers(position):
            return
        if self._position_waiters >= MAX_POSITION_WAITERS:
            raise Unavailable("X-OSC-After: too many requests are waiting for a position.")
        self._position_waiters += 1
        try:
            async with asyncio.timeout(POSITION_WAIT_SECONDS):
                # What is waited for may be committed by another process: there is no event to await.
                while not await self._covers(position):  # noqa: ASYNC110
                    await asyncio.sleep(_POSITION_POLL_SECONDS)
        except TimeoutError:
            raise Unavailable("X-OSC-After: this node does not have that position yet.") from None
        finally:
            self._position_waiters -= 1

    async def _covers(self, position: Position) -> bool:
        return await self._log.read(lambda reading: reading.covers(position))

    async def _cipher(
        self, command: type[Command], environment: str, key: str, user_key: str, *, creates: bool
    ) -> Cipher:
        """Recall or derive; what would be refused anyway costs no derivation."""
        cipher = self._keyring.recall(user_key)
        if cipher is None:
            exists = await self._log.read(lambda reading: _live(reading, environment, key) is not None)
            refuse_early(command, environment, key, exists=exists, creates=creates)
            cipher = await self._keyring.derive(user_key)
        return cipher

    async def _write(self, command: Command, cipher: Cipher, user_key: str) -> Written:
        opened_at: int | None = None

        def run(writing: Writing[sqlite3.Connection]) -> Written:
            current = projections.entry(writing.store, command.environment, command.key)
            is_changed = current is not None and not current.deleted and not isinstance(command, Create)
            if current is not None and is_changed and current.offset != opened_at:
                _open_in_transaction(cipher, current, writing)
            (recorded,) = writing.append([decide(command, current)])
            return Written(entry_after(recorded), writing.position())

        size = 0 if isinstance(command, Delete) else len(command.sealed.ciphertext) + EVENT_OVERHEAD_BYTES
        for _ in range(MAX_TRIES):
            try:
                written = await self._log.write(run, size=size)
            except _TooLargeInTransaction as large:
                opened_at = await self._open_outside(cipher, large.entry)
            else:
                self._keyring.remember(user_key, cipher)
                return written
        raise Unavailable("Nothing was changed: this entry is being written too often.")

    async def _open_outside(self, cipher: Cipher, entry: Entry) -> int:
        """Open a large value; gives the offset of the state that this cipher may change."""
        body = await self._log.read(lambda reading: reading.body_at(entry.offset), size=LARGE_READ_BYTES)
        await asyncio.to_thread(_open, cipher, entry, body)
        return entry.offset


class _TooLargeInTransaction(Exception):
    """The current value is too large to be opened while every other writer of the node waits."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


class Listing:
    """One list for one caller: cut at one offset and opened with one derived key, however many pages it has."""

    def __init__(
        self, log: EventLog[sqlite3.Connection], keyring: KeyRing, filters: Filters, user_key: str
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._filters = filters
        self._user_key = user_key
        self._cipher: Cipher | None = None
        self._upto: int | None = None

    async def page(
        self, after: tuple[str, str], most_entries: int, most_bytes: int
    ) -> tuple[list[Opened], tuple[str, str] | None]:
        """The next entries the key opens, and where the ones after them begin; None at the end.

        Args:
            after: Where the page before ended.
            most_entries, most_bytes: Entries, and bytes of ciphertext, to look at.

        Raises:
            TooManyRequests, Unavailable: Not now. Only the first page needs a key derived.
        """
        cipher = self._cipher or self._keyring.recall(self._user_key)
        if cipher is None:
            # A list of nothing costs no derivation.
            page = await self._read(after, (1, 1))
            if not page.found and page.next_after is None:
                return [], None
            cipher = await self._keyring.derive(self._user_key)
        self._cipher = cipher
        page = await self._read(after, (most_entries, most_bytes), cipher.key_id)
        self._upto = page.upto
        opened = await asyncio.to_thread(_open_each, cipher, page)
        if opened:
            self._keyring.remember(self._user_key, cipher)
        return opened, page.next_after

    async def _read(
        self, after: tuple[str, str], bounds: tuple[int, int], key_id: bytes | None = None
    ) -> Page:
        return await self._log.read(
            lambda reading: entries_of_page(reading, self._filters, after, self._upto, bounds, key_id=key_id),
            size=LARGE_READ_BYTES,
        )


def _live(reading: Reading[sqlite3.Connection], environment: str, key: str) -> Entry | None:
    entry = projections.entry(reading.store, environment, key)
    return None if entry is None or entry.deleted else entry


def _stored(reading: Reading[sqlite3.Connection], environment: str, key: str) -> tuple[Entry, Body | None]:
    entry = _live(reading, environment, key)
    if entry is None:
        raise not_found(environment, key)
    return entry, reading.body_at(entry.offset)


def _open(cipher: Cipher, entry: Entry, body: Body | None) -> bytes:
    """The value, which at the same time proves that the key may.

    Raises:
        NotAuthorized: The key does not open it.
        LogCorrupt: The log does not hold what was appended.
    """
    if body is None or body.ciphertext is None:
        raise LogCorrupt("the value of a live entry is not in the log")
    if entry.imported:
        return cipher.open_legacy(body.ciphertext)
    if entry.key_id != cipher.key_id:
        raise NotAuthorized("X-User-Key does not open this entry.")
    try:
        return cipher.open(entry.environment, entry.key, entry.event_id, body.ciphertext)
    except WrongKey:
        # Its key id says that this key sealed it, so not the key is wrong but the stored bytes.
        raise LogCorrupt("a stored value is not the one that was sealed") from None


def _open_each(cipher: Cipher, page: Page) -> list[Opened]:
    opened: list[Opened] = []
    for entry, body in page.found:
        try:
            opened.append(Opened(entry, _open(cipher, entry, body)))
        except WrongKey:
            continue  # An imported entry of somebody else: only trying tells.
    return opened


def _open_in_transaction(cipher: Cipher, entry: Entry, writing: Writing[sqlite3.Connection]) -> None:
    """Show that the key may, or ask for it to be shown outside.

    Raises:
        NotAuthorized, LogCorrupt: As `_open`.
        _TooLargeInTransaction: It would take too long.
    """
    if entry.key_id is not None and entry.key_id != cipher.key_id:
        raise NotAuthorized("X-User-Key does not open this entry.")
    if writing.body_size(entry.offset) > INLINE_CIPHER_BYTES:
        raise _TooLargeInTransaction(entry)
    _open(cipher, entry, writing.body_at(entry.offset))


async def _seal(cipher: Cipher, environment: str, key: str, value_json: bytes) -> Sealed:
    event_id = secrets.token_bytes(EVENT_ID_BYTES)
    if len(value_json) <= INLINE_CIPHER_BYTES:
        ciphertext = cipher.seal(environment, key, event_id, value_json)
    else:
        ciphertext = await asyncio.to_thread(cipher.seal, environment, key, event_id, value_json)
    return Sealed(ciphertext, event_id, cipher.key_id)


async def _inline_if_small(body: Body | None, work: Callable[[], Result]) -> Result:
    if body is None or body.ciphertext is None or len(body.ciphertext) <= INLINE_CIPHER_BYTES:
        return work()
    return await asyncio.to_thread(work)
