"""Owns one stream to one peer: the log past where it stands, as it is written, and how this node stands meanwhile.

It holds one page of the log and no queue; what a peer does not take stays in the log (invariant 10). Must not know
HTTP, nor decide who is a peer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from oscd.errors import LogCorrupt, OscdError
from oscd.events.log import EventLog, MicrosecondClock, Reading
from oscd.feed.bell import Bell
from oscd.replication.ship import Identity, Page, Pull, Shipping, begin, page, status_of
from oscd.replication.wire import goodbye_frame, status_frame

_log = logging.getLogger("oscd.replication")

HEARTBEAT_SECONDS: Final = 1.0
"""At least so often a peer is told how this node stands; it gives a link up after three times as long."""

COALESCE_SECONDS: Final = 0.008
"""How long a commit waits for company that comes after a quiet while …"""

BUSY_SECONDS: Final = 0.024
"""… and of one that does not. Each time that a stream goes on costs some 0.2 ms. Readers may wait 50 ms."""

STATUS_SECONDS: Final = 0.3
"""While events flow a peer is told at most so often how this node stands: that costs a sixth of what it takes to go
on, and whoever takes the events in compares hardly oftener (`stream.LOOK_SECONDS`)."""

QUIET_SECONDS: Final = 0.05
"""After so long without a commit the next one may well be alone."""

SLICE_BYTES: Final = 64 * 1024
"""Of a page at a time, as the layers below copy what they are given."""

# What a view counts a page as, so that what one view returns stays bounded.
_PAGE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tuning:
    """Other times than the usual ones, for tests."""

    heartbeat_seconds: float = HEARTBEAT_SECONDS
    coalesce_seconds: float = COALESCE_SECONDS
    busy_seconds: float = BUSY_SECONDS
    quiet_seconds: float = QUIET_SECONDS
    status_seconds: float = STATUS_SECONDS


class PeerStream:
    """One stream to one peer.

    Attributes:
        credential: Of the cluster key that opened it.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        bell: Bell,
        identity: Identity,
        pull: Pull,
        credential: bytes,
        clock: MicrosecondClock,
        tuning: Tuning,
    ) -> None:
        self.credential = credential
        self._log = log
        self._bell = bell
        self._identity = identity
        self._pull = pull
        self._clock = clock
        self._tuning = tuning
        self._shipping = Shipping(0, {})
        self._ending: str | None = None
        self._rung = asyncio.Event()
        self._is_listening = False
        self._is_told = False
        self._told_at = 0.0
        self._owes_status = False
        self._woken_at = 0.0

    async def begin(self) -> None:
        """Find where it starts.

        Raises:
            Unavailable: The log cannot be read right now.
        """
        self._shipping = await self._log.read(lambda reading: begin(reading, self._pull))

    def end(self, reason: str) -> None:
        """Have it say goodbye and end."""
        if self._ending is None:
            self._ending = reason
            self._rung.set()

    def close(self) -> None:
        """Listen no more."""
        self._bell.unlisten(self._rung.set)
        self._is_listening = False

    async def parts(self) -> AsyncIterator[bytes]:
        """The stream, in pieces that need not end with a frame."""
        try:
            # Whatever comes then, the peer knows first whom it has met.
            yield await self._log.read(lambda reading: self._status(reading, is_at_head=False))
            self._told_at = asyncio.get_running_loop().time()
            while self._ending is None:
                part, is_at_head = await self._next()
                if not is_at_head:
                    self.close()
                for at in range(0, len(part), SLICE_BYTES):
                    yield part[at : at + SLICE_BYTES]
                del part  # While it rests nothing of a page shall be held.
                if is_at_head:
                    await self._rest()
        except LogCorrupt as damage:
            _log.error("a peer cannot be sent this log: %s", damage)
            self.end("its log is damaged; run `oscd verify` there.")
        except OscdError as trouble:
            self.end(f"its log cannot be read: {trouble}")
        self.close()
        assert self._ending is not None
        yield goodbye_frame(self._ending)

    async def _next(self) -> tuple[bytes, bool]:
        """What comes next, and whether that is all there is."""
        silent = asyncio.get_running_loop().time() - self._told_at

        def run(reading: Reading[sqlite3.Connection]) -> tuple[Page, bytes]:
            following = page(reading, self._shipping, self._pull.skip)
            told = b""
            if self._tells(following, silent):
                told = self._status(reading, is_at_head=following.is_at_head)
            return following, told

        found, told = await self._log.read(run, size=_PAGE_BYTES)
        self._shipping = found.shipping
        if told:
            self._told_at = asyncio.get_running_loop().time()
            self._is_told = self._is_told or found.is_at_head
            self._owes_status = False
        elif found.data:
            self._owes_status = True
        return found.data + told, found.is_at_head

    def _tells(self, following: Page, silent: float) -> bool:
        """Whether a status comes after a page, so many seconds after the one before."""
        if not following.ends_write:
            # It would end the write, whose bytes are sign of life enough.
            return False
        if silent >= self._tuning.heartbeat_seconds:
            return True
        is_news = self._owes_status or following.data != b""
        is_due = silent >= self._tuning.status_seconds
        return following.is_at_head and (not self._is_told or (is_news and is_due))

    def _status(self, reading: Reading[sqlite3.Connection], *, is_at_head: bool) -> bytes:
        return status_frame(status_of(reading, self._identity, self._clock(), is_at_head=is_at_head))

    def _seconds_to_status(self) -> float:
        tuning = self._tuning
        pause = tuning.status_seconds if self._owes_status else tuning.heartbeat_seconds
        return self._told_at + pause - asyncio.get_running_loop().time()

    async def _rest(self) -> None:
        """Wait until there may be more, or the peer is to be told that there is not."""
        if not self._is_listening:
            # A commit pays for each listener it wakes, so none listens while it is behind, nor while it waits for
            # company. Who begins to listen looks once more: what came just before has rung for nobody.
            self._listen()
            return
        try:
            async with asyncio.timeout(self._seconds_to_status()):
                await self._rung.wait()
        except TimeoutError:
            return
        self.close()
        tuning, now = self._tuning, asyncio.get_running_loop().time()
        is_alone = now - self._woken_at >= tuning.quiet_seconds
        self._woken_at = now
        await asyncio.sleep(tuning.coalesce_seconds if is_alone else tuning.busy_seconds)
        self._listen()

    def _listen(self) -> None:
        self._rung.clear()
        self._bell.listen(self._rung.set)
        self._is_listening = True
