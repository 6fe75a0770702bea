"""Owns the served half of links: to each peer that pulls, an answer without an end, over log and bell.

A stream holds one page of the log and no queue; what a peer does not take stays in the log (invariant 10). Must not
know HTTP, nor decide who is a peer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any, Final

from oscd.errors import Conflict, LogCorrupt, OscdError, Unavailable
from oscd.events.log import EventLog, MicrosecondClock, Reading
from oscd.events.salt import SaltSource, salt_digest
from oscd.feed.bell import Bell
from oscd.replication.seldom import Seldom
from oscd.replication.ship import Identity, Pull, Shipping, begin, page, status_of
from oscd.replication.wire import goodbye_frame, status_frame
from oscd.times import microseconds_now

_log = logging.getLogger("oscd.replication")

MOST_STREAMS: Final = 64
"""Streams of one worker: for each node of the largest cluster one, and some that their peers have forgotten."""

HEARTBEAT_SECONDS: Final = 1.0
"""At least so often a peer is told how this node stands; it gives a link up after three times as long."""

COALESCE_SECONDS: Final = 0.008
"""How long a commit waits for company that comes after a quiet while …"""

BUSY_SECONDS: Final = 0.024
"""… and of one that does not. Each time that a stream goes on costs some 0.2 ms: at 200 writes a second and two peers
8 ms cost the node 23 % more CPU time, 24 ms 11 %. Readers may wait 50 ms."""

QUIET_SECONDS: Final = 0.05
"""After so long without a commit the next one may well be alone."""

SLICE_BYTES: Final = 64 * 1024
"""Of a page at a time, as the layers below copy what they are given."""

# What a view counts a page as, so that what one view returns stays bounded.
_PAGE_BYTES: Final = 4 * 1024 * 1024

SHUTDOWN: Final = "this node is shutting down."
KEY_REPLACED: Final = "the cluster key was replaced."
ITSELF: Final = "this is the very node that asks."


@dataclass(frozen=True, slots=True)
class Tuning:
    """Other times than the usual ones, for tests."""

    heartbeat_seconds: float = HEARTBEAT_SECONDS
    coalesce_seconds: float = COALESCE_SECONDS
    busy_seconds: float = BUSY_SECONDS
    quiet_seconds: float = QUIET_SECONDS
    most_streams: int = MOST_STREAMS


class Source:
    """The log of this node as one worker ships it. All its methods belong to one event loop.

    Args:
        node_id: This node's name …
        run: … and the random word of its start.
        salt: Gives the salt; raises Unavailable while there is none.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        bell: Bell,
        *,
        node_id: str,
        run: str,
        salt: SaltSource,
        clock: MicrosecondClock = microseconds_now,
        tuning: Tuning | None = None,
    ) -> None:
        self._log = log
        self._bell = bell
        self._node_id = node_id
        self._run = run
        self._salt = salt
        self._clock = clock
        self._tuning = tuning or Tuning()
        self._streams: dict[asyncio.Task[Any], PeerStream] = {}
        self._is_closing = False
        self._refused = Seldom()

    async def open(self, pull: Pull, credential: bytes) -> PeerStream:
        """Begin a stream, which lasts as long as the task this is called from.

        Args:
            credential: Of the cluster key that opens it.

        Raises:
            Conflict: The peer and this node must not have each other's events; says what to do.
            Unavailable: There are too many, the node is shutting down, or its log cannot be read or written.
        """
        self._require_room()
        identity = self._identity()
        stream = PeerStream(self._log, self._bell, identity, pull, credential, self._clock, self._tuning)
        task = asyncio.current_task()
        assert task is not None
        # Before anything is waited for, so that a shutdown or another cluster key ends this one as well.
        self._streams[task] = stream
        task.add_done_callback(self._forget)
        if pull.run == identity.run:
            stream.end(ITSELF)
        else:
            await self._require_fit(identity, pull)
            if pull.asks:
                # Before it is told what this log holds of it: what its older run has on its way must not change that.
                await self._log.write(lambda writing: writing.fence(pull.node_id, pull.run), size=0)
        await stream.begin()
        return stream

    def end_all(self) -> None:
        """Say goodbye to every peer, as the node shuts down, and take no more."""
        self._is_closing = True
        for stream in self._streams.values():
            stream.end(SHUTDOWN)

    def revoke(self, accepted: Collection[bytes]) -> None:
        """End the streams that a cluster key has opened which is not accepted any more.

        Args:
            accepted: The credentials of those that are.
        """
        for stream in self._streams.values():
            if stream.credential not in accepted:
                stream.end(KEY_REPLACED)

    def _identity(self) -> Identity:
        try:
            salt = salt_digest(self._salt()).hex()
        except Unavailable:
            salt = ""
        return Identity(self._node_id, self._run, salt)

    def _require_room(self) -> None:
        if self._is_closing:
            raise Unavailable("The node is shutting down.", retry_after=2)
        if len(self._streams) >= self._tuning.most_streams:
            raise Unavailable(f"This worker ships its log to as many peers as it may ({MOST_STREAMS}).")

    async def _require_fit(self, identity: Identity, pull: Pull) -> None:
        """Refuse a peer with which there is something that only a person can put right.

        Raises:
            Conflict: It has this node's name, or events that were sealed under another salt.
            Unavailable: The log cannot be read right now.
        """
        reason = None
        if pull.node_id == identity.node_id:
            reason = (
                f"Two nodes are called {identity.node_id}; give one of them another OSC_CLUSTER_NODE_ID and start"
                " it again."
            )
        elif "" not in (pull.salt, identity.salt) and pull.salt != identity.salt and await self._is_in_use():
            reason = (
                f"{pull.node_id} has another salt than {identity.node_id}, and neither can open what the other has"
                " sealed. Choose the node whose entries are to stay; stop the other one, keep its database and"
                " OSC_SALT_FILE_PATH elsewhere, and start it again without them. Entries come back by POST /backup"
                " and POST /import."
            )
        if reason is None:
            return
        if self._refused.is_due(pull.node_id):
            _log.warning("%s asks for events and is refused: %s", pull.node_id, reason)
        raise Conflict(reason)

    async def _is_in_use(self) -> bool:
        return await self._log.read(lambda reading: reading.head()) > 0

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._streams.pop(task).close()


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
        is_due = self._seconds_to_heartbeat() <= 0

        def run(reading: Reading[sqlite3.Connection]) -> tuple[bytes, Shipping, bool, bool]:
            following = page(reading, self._shipping, self._pull.skip)
            is_all = following.is_at_head
            # Within a write a status would end it; there the bytes of the write are sign of life enough.
            tells = (is_due and following.ends_write) or (
                is_all and (following.data != b"" or not self._is_told)
            )
            told = self._status(reading, is_at_head=is_all) if tells else b""
            return following.data + told, following.shipping, is_all, tells

        data, self._shipping, is_at_head, tells = await self._log.read(run, size=_PAGE_BYTES)
        if tells:
            self._told_at = asyncio.get_running_loop().time()
            self._is_told = self._is_told or is_at_head
        return data, is_at_head

    def _status(self, reading: Reading[sqlite3.Connection], *, is_at_head: bool) -> bytes:
        return status_frame(status_of(reading, self._identity, self._clock(), is_at_head=is_at_head))

    def _seconds_to_heartbeat(self) -> float:
        return self._told_at + self._tuning.heartbeat_seconds - asyncio.get_running_loop().time()

    async def _rest(self) -> None:
        """Wait until there may be more, or the peer is to be told that there is not."""
        if not self._is_listening:
            # A commit pays for each listener it wakes, so none listens while it is behind, nor while it waits for
            # company. Who begins to listen looks once more: what came just before has rung for nobody.
            self._listen()
            return
        try:
            async with asyncio.timeout(self._seconds_to_heartbeat()):
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
