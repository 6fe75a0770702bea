"""Owns the use cases of one worker: read, list and write entries with the caller's key.

Authorization is asked for here: whatever a key cannot open it can neither read, overwrite nor delete, and that is
checked inside the transaction that writes. Must not know HTTP, nor hold anything another worker would need.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from oscd.commands import (
    Caller,
    Command,
    Create,
    Delete,
    Preconditions,
    Rollback,
    Update,
    decide,
    not_found,
    refuse_early,
)
from oscd.errors import Unavailable
from oscd.events.cipher import Cipher
from oscd.events.event import EVENT_ID_BYTES, Body, EventType
from oscd.events.keyring import KeyRing
from oscd.events.log import EventLog, MicrosecondClock, Reading, Writing, covers
from oscd.events.position import Position
from oscd.feed.bell import Bell, until
from oscd.feed.frame import StreamFilter
from oscd.history.conflicts import Conflicts, newest_conflicts
from oscd.history.trail import Trail, trail
from oscd.history.versions import History
from oscd.listing import LARGE_READ_BYTES, Filters, Inventory, Listing
from oscd.moment import Moment, cut_at
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry, entry_after
from oscd.projections.statistics import Statistics
from oscd.times import microseconds_now
from oscd.values import (
    Opened,
    TooLargeInTransaction,
    Uncounted,
    ValueCounts,
    open_in_transaction,
    open_value,
    seal_value,
)

# What an event takes in the log beside its ciphertext, roughly; only the batch limit depends on it.
EVENT_OVERHEAD_BYTES = 1024
POSITION_WAIT_SECONDS = 5.0
# Requests of one worker that may wait for a position at one time.
MAX_POSITION_WAITERS = 64
# Times a write is tried anew because its large entry changed while it was being opened.
MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left: the entry, and the position that covers it."""

    entry: Entry
    position: Position


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as it stood at a position, opened."""

    opened: Opened
    position: Position


@dataclass(frozen=True, slots=True)
class Restored:
    """What a rollback left, and the value it restored."""

    written: Written
    value_json: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """What the log holds: the offset of its last event, how many entries live, how many conflicts it has met."""

    head: int
    entries: int
    conflicts: int


class Node:
    """The use cases over one log."""

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        keyring: KeyRing,
        bell: Bell,
        *,
        counts: ValueCounts | None = None,
        clock: MicrosecondClock = microseconds_now,
    ) -> None:
        self._log = log
        self._bell = bell
        self._counts = counts or Uncounted()
        self._keyring = keyring
        self._clock = clock
        self._position_waiters = 0

    async def read(self, environment: str, key: str, user_key: str) -> Opened:
        """The entry, opened.

        Raises:
            NotFound: There is no such entry.
            NotAuthorized: The key does not open it.
            TooManyRequests, Unavailable: Not now.
        """
        entry, body = await self._log.read(lambda reading: _stored(reading, environment, key))
        return await self._open(user_key, entry, body)

    async def read_at(self, environment: str, key: str, user_key: str, moment: Moment) -> Found:
        """The entry as it stood at a moment, opened.

        Raises:
            MomentUnknown: This log cannot tell.
            NotFound: There was no such entry.
            NotAuthorized: The key does not open what it was.
            TooManyRequests, Unavailable: Not now.
        """
        now = self._clock()
        entry, body, position = await self._log.read(
            lambda reading: _stored_at(reading, environment, key, moment, now)
        )
        return Found(await self._open(user_key, entry, body), position)

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
        sealed = await seal_value(cipher, environment, key, value_json)
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
        sealed = await seal_value(cipher, environment, key, value_json)
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

    async def rollback(
        self,
        environment: str,
        key: str,
        wanted: int | Position,
        user_key: str,
        caller: Caller,
        preconditions: Preconditions,
    ) -> Restored:
        """Give an entry an older version again; see `oscd.history.versions.History.to_restore` for which.

        Raises:
            NotFound, MomentUnknown: There is no such version.
            NotAuthorized: The key does not open both the version and the entry as it is now.
            PreconditionFailed: The entry is not in the state the caller named.
            TooManyRequests, Unavailable: Not now; nothing was changed.
        """
        recorded = await self.history(environment, key).to_restore(wanted)
        cipher = self._keyring.recall(user_key) or await self._keyring.derive(user_key)
        value_json = await open_value(cipher, entry_after(recorded), recorded.body)
        sealed = await seal_value(cipher, environment, key, value_json)
        command = Rollback(environment, key, recorded.event.category, sealed, caller, preconditions)
        written = await self._write(command, cipher, user_key)
        self._counts.opened()
        return Restored(written, value_json)

    def list(self, filters: Filters, user_key: str, moment: Moment | None = None) -> Listing:
        """The entries the key opens, to be read page by page, as they stand or stood at a moment."""
        return Listing(self._log, self._keyring, filters, user_key, self._counts, moment)

    def inventory(self, filters: Filters) -> Inventory:
        """The entries, whoever owns them, without their values, to be read page by page."""
        return Inventory(self._log, filters)

    def history(self, environment: str, key: str, user_key: str | None = None) -> History:
        """The versions of an entry, to be read page by page, with the values that the key opens."""
        return History(self._log, self._keyring, environment, key, user_key, self._counts)

    async def trail(self, after: Position, wanted: StreamFilter, limit: int) -> Trail:
        """The events past a position, whoever wrote them.

        Raises:
            MomentUnknown: This log does not hold what the position covers.
            Unavailable: Not now.
        """
        return await trail(self._log, after, wanted, limit)

    async def conflicts(self, limit: int) -> Conflicts:
        """The newest conflicts that this node has met, at most `limit` of them, and how many it has met in all.

        Raises:
            Unavailable: Not now.
        """
        return await newest_conflicts(self._log, limit)

    async def statistics(self) -> Statistics:
        """How many entries there are, whoever owns them.

        Raises:
            Unavailable: Not now.
        """
        return await self._log.read(lambda reading: projections.statistics(reading.store))

    async def extent(self) -> Extent:
        """What the log holds.

        Raises:
            Unavailable: Not now.
        """

        def run(reading: Reading[sqlite3.Connection]) -> Extent:
            totals = projections.totals(reading.store)
            return Extent(reading.head(), totals.entries, totals.conflicts)

        return await self._log.read(run)

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
            if not await until(self._bell, lambda: self._covers(position), POSITION_WAIT_SECONDS):
                raise Unavailable("X-OSC-After: this node does not have that position yet.")
        finally:
            self._position_waiters -= 1

    async def _open(self, user_key: str, entry: Entry, body: Body | None) -> Opened:
        """Open an entry for a caller, whose key is then remembered."""
        cipher = self._keyring.recall(user_key) or await self._keyring.derive(user_key)
        value_json = await open_value(cipher, entry, body)
        self._keyring.remember(user_key, cipher)
        self._counts.opened()
        return Opened(entry, value_json)

    async def _covers(self, position: Position) -> bool:
        return await self._log.read(lambda reading: covers(reading, position))

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
                open_in_transaction(cipher, current, writing)
            (recorded,) = writing.append([decide(command, current)])
            return Written(entry_after(recorded), writing.position())

        size = 0 if isinstance(command, Delete) else len(command.sealed.ciphertext) + EVENT_OVERHEAD_BYTES
        for _ in range(MAX_TRIES):
            try:
                written = await self._log.write(run, size=size)
            except TooLargeInTransaction as large:
                opened_at = await self._open_outside(cipher, large.entry)
            else:
                self._keyring.remember(user_key, cipher)
                if not isinstance(command, Delete):
                    self._counts.sealed()
                return written
        raise Unavailable("Nothing was changed: this entry is being written too often.")

    async def _open_outside(self, cipher: Cipher, entry: Entry) -> int:
        """Open a large value; gives the offset of the state that this cipher may change."""
        body = await self._log.read(lambda reading: reading.body_at(entry.offset), size=LARGE_READ_BYTES)
        await open_value(cipher, entry, body)
        return entry.offset


def _live(reading: Reading[sqlite3.Connection], environment: str, key: str) -> Entry | None:
    entry = projections.entry(reading.store, environment, key)
    return None if entry is None or entry.deleted else entry


def _stored(reading: Reading[sqlite3.Connection], environment: str, key: str) -> tuple[Entry, Body | None]:
    entry = _live(reading, environment, key)
    if entry is None:
        raise not_found(environment, key)
    return entry, reading.body_at(entry.offset)


def _stored_at(
    reading: Reading[sqlite3.Connection], environment: str, key: str, moment: Moment, now: int
) -> tuple[Entry, Body | None, Position]:
    cut = cut_at(reading, moment, now)
    recorded = reading.winner(environment, key, cut)
    if recorded is None or recorded.event.type == EventType.DELETED:
        raise not_found(environment, key)
    return entry_after(recorded), recorded.body, cut.position
