"""Owns the use cases on backups: make one of what a key opens, and import one.

Like `node.py`, but for what is large: a backup is never whole in memory while it is made, and a worker works on one
import at a time, because each takes several times its size. Must not know HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from oscd.backup import document
from oscd.backup.document import DocumentReader, Judge
from oscd.backup.envelope import EnvelopeWriter, new_salt, read_envelope
from oscd.backup.importing import Importing
from oscd.backup.plan import Plan, Report
from oscd.commands import Caller
from oscd.errors import TooManyRequests, Unavailable
from oscd.events.cipher import BackupKey, Cipher
from oscd.events.keyring import KeyRing
from oscd.events.log import MicrosecondClock, Settling
from oscd.events.position import Position
from oscd.listing import START, Filters, Listing
from oscd.moment import Moment
from oscd.times import rfc3339
from oscd.values import Opened, Uncounted, ValueCounts

# How long an import may wait for another one of this worker to end.
TURN_SECONDS: Final = 10.0
# Backups that may wait for the password of another one to be stretched, and for how long.
MAX_STRETCHING: Final = 8
STRETCHING_SECONDS: Final = 5.0
# What one step of a backup reads.
PART_ENTRIES: Final = 200
PART_BYTES: Final = 32 * 1024

ToJson = Callable[[Opened], bytes]
"""Writes an entry in full form."""


@dataclass(slots=True)
class Wanted:
    """What an import is asked to do.

    Attributes:
        judge: Reads the JSON of one entry by the rules of a create.
        is_dry: Report only.
        settled: Done when nothing of it is in memory any more, which may be after its caller was answered; None until
            it is worked on.
    """

    _backup_data: str = field(repr=False)
    overwrite: bool
    is_dry: bool
    judge: Judge
    settled: asyncio.Future[None] | None = None

    def take_backup_data(self) -> str:
        """What `/backup` gave; once, as it is large and nobody needs it longer."""
        backup_data, self._backup_data = self._backup_data, ""
        return backup_data


class Backups:
    """The use cases over one log.

    Args:
        clock: µs since 1970.
    """

    def __init__(
        self,
        log: Settling[sqlite3.Connection],
        keyring: KeyRing,
        counts: ValueCounts | None = None,
        *,
        clock: MicrosecondClock,
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._counts = counts or Uncounted()
        self._clock = clock
        self._turn = asyncio.Semaphore(1)
        self._stretching = asyncio.Semaphore(1)
        self._waiting_to_stretch = 0
        self._settling: set[asyncio.Future[None]] = set()

    async def make(
        self, filters: Filters, user_key: str, password: str, to_json: ToJson, moment: Moment | None
    ) -> BackupMaking:
        """Begin a backup of the entries a key opens: read its first part and stretch its password.

        Args:
            moment: What it is of; None: of now.

        Raises:
            MomentUnknown: That cannot be told here.
            TooManyRequests, Unavailable: Not now.
        """
        listing = Listing(self._log, self._keyring, filters, user_key, self._counts, moment)
        first = await listing.page(START, PART_ENTRIES, PART_BYTES)
        salt = new_salt()
        key = await self._stretched(password, salt)
        return BackupMaking(listing, first, EnvelopeWriter(key, salt), to_json, self._clock())

    async def restore(
        self, wanted: Wanted, user_key: str, password: str, caller: Caller
    ) -> tuple[Report, Position | None]:
        """Import a backup: all of it that may be imported as one write, or nothing.

        Returns:
            What became of its entries, and the position after the write, if there was one.

        Raises:
            BadRequest: It does not open with the password, is damaged, or is no backup; nothing was changed.
            BodyTooLarge: It holds too many entries; nothing was changed.
            LogCorrupt: The log does not hold what was appended.
            TooManyRequests, Unavailable: Not now; nothing was changed.
        """
        await self._take_turn()
        try:
            reader = await self._opened(wanted.take_backup_data(), password)
            cipher = self._keyring.recall(user_key) or await self._keyring.derive(user_key)
            return await self._import(reader, wanted, cipher, user_key, caller)
        finally:
            wanted.settled = self._end_turn()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            busy = "Nothing was changed: another import is being worked on."
            raise Unavailable(busy, retry_after=2) from None

    async def _stretched(self, password: str, salt: bytes) -> BackupKey:
        """The key of a backup. One at a time is in the queue of derivations, so that the rest of it is for user keys.

        Raises:
            TooManyRequests: Others wait already, or it took too long.
            Unavailable: Not now.
        """
        busy = "Too many passwords of backups are waiting; entries are still served."
        if self._waiting_to_stretch >= MAX_STRETCHING:
            raise TooManyRequests(busy)
        self._waiting_to_stretch += 1
        try:
            async with asyncio.timeout(STRETCHING_SECONDS):
                await self._stretching.acquire()
        except TimeoutError:
            raise TooManyRequests(busy) from None
        finally:
            self._waiting_to_stretch -= 1
        try:
            return await self._keyring.derive_backup_key(password, salt)
        finally:
            self._stretching.release()

    def _end_turn(self) -> asyncio.Future[None]:
        """Give the turn to the next import, but not before a write has ended that nobody waits for any more."""
        settled = asyncio.ensure_future(self._log.settled())
        self._settling.add(settled)
        settled.add_done_callback(self._settling.discard)
        settled.add_done_callback(lambda _: self._turn.release())
        return settled

    async def _opened(self, backup_data: str, password: str) -> DocumentReader:
        envelope = await asyncio.to_thread(read_envelope, backup_data)
        key = await self._stretched(password, envelope.salt)
        return DocumentReader(await asyncio.to_thread(envelope.opened, key))

    async def _import(
        self, reader: DocumentReader, wanted: Wanted, cipher: Cipher, user_key: str, caller: Caller
    ) -> tuple[Report, Position | None]:
        plan = Plan(wanted.overwrite, self._clock())
        importing = Importing(self._log, cipher, plan, is_dry=wanted.is_dry)
        await importing.decide(reader.entries(wanted.judge))
        position: Position | None = None
        if plan.ready and not wanted.is_dry:
            position = await importing.append(caller)
            self._keyring.remember(user_key, cipher)
            self._counts.sealed(len(plan.ready))
        report = Report(
            backup_id=reader.backup_id,
            backup_timestamp=reader.backup_timestamp,
            total=plan.total,
            imported=len(plan.ready),
            skipped=plan.skipped,
            failures=plan.failures,
        )
        return report, position


class BackupMaking:
    """One backup while it is made.

    Attributes:
        backup_id: Names it, for people.
        backup_timestamp: When it was begun.
        position: Where the log stood that it is of.
        total_keys: Entries in it so far.
    """

    def __init__(
        self,
        listing: Listing,
        first: tuple[list[Opened], tuple[str, str] | None],
        envelope: EnvelopeWriter,
        to_json: ToJson,
        now: int,
    ) -> None:
        self._listing = listing
        self._first = first
        self._envelope = envelope
        self._to_json = to_json
        self.backup_id = f"backup-{now // 1_000_000}-{secrets.token_hex(4)}"
        self.backup_timestamp = rfc3339(now)
        self.position = listing.position
        self.total_keys = 0

    async def parts(self) -> AsyncIterator[bytes]:
        """`backup_data`, part by part; to be read once.

        Raises:
            LogCorrupt, Unavailable: The rest cannot be read; what was given is no backup.
        """
        yield self._envelope.begin()
        yield self._envelope.add(document.beginning(self.backup_id, self.backup_timestamp))
        opened, after = self._first
        self._first = ([], None)
        while True:
            if opened:
                entries = b",".join(map(self._to_json, opened))
                separator = b"," if self.total_keys else b""
                self.total_keys += len(opened)
                opened = []  # While a slow client takes the part, nothing else of it shall be held.
                for begin in range(0, len(entries), PART_BYTES):
                    yield self._envelope.add(separator + entries[begin : begin + PART_BYTES])
                    separator = b""
            if after is None:
                break
            opened, after = await self._listing.page(after, PART_ENTRIES, PART_BYTES)
        yield self._envelope.add(document.end(self.total_keys)) + self._envelope.finish()
