"""Owns the served half of links: who is shipped this log by one worker, who is refused, and when a stream has to end.

Must not know HTTP, nor what a stream holds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Collection
from typing import Any, Final

from oscd.errors import Conflict, Unavailable
from oscd.events.log import EventLog, MicrosecondClock
from oscd.events.salt import SaltSource, salt_digest
from oscd.feed.bell import Bell
from oscd.replication.peer_stream import PeerStream, Tuning
from oscd.replication.seldom import Seldom
from oscd.replication.ship import Identity, Pull
from oscd.times import microseconds_now

_log = logging.getLogger("oscd.replication")

MOST_STREAMS: Final = 64
"""Streams of one worker: for each node of the largest cluster one, and some that their peers have forgotten."""

SHUTDOWN: Final = "this node is shutting down."
KEY_REPLACED: Final = "the cluster key was replaced."
ITSELF: Final = "this is the very node that asks."


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
        most_streams: int = MOST_STREAMS,
    ) -> None:
        self._log = log
        self._bell = bell
        self._node_id = node_id
        self._run = run
        self._salt = salt
        self._clock = clock
        self._tuning = tuning or Tuning()
        self._most_streams = most_streams
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
        if len(self._streams) >= self._most_streams:
            raise Unavailable(f"This worker ships its log to as many peers as it may ({self._most_streams}).")

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
