"""Owns the steward's duty: salt, then links, then the question of the start; takes all of it down again.

It begins with an election and ends with it. What it has learnt is in the log or in the report, so the next steward
goes on from there. Must not serve anybody.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from oscd.errors import Unavailable
from oscd.events.log import EventLog, MicrosecondClock
from oscd.events.salt import salt_digest
from oscd.events.sqlite.noted import note_digest
from oscd.events.standing import Own, Standing
from oscd.replication.asking import Asking
from oscd.replication.calls import Calls
from oscd.replication.link import Link
from oscd.replication.peers import Peer
from oscd.replication.puller import keep_up
from oscd.replication.readiness import Readiness
from oscd.replication.report import ClusterReport, read_report
from oscd.replication.reporting import Reporting
from oscd.replication.said import Said
from oscd.replication.salts import Salts
from oscd.replication.ship import Identity
from oscd.replication.states import LinkState
from oscd.replication.stream import Home, Tally
from oscd.replication.twins import Twins
from oscd.replication.vigil import Vigil
from oscd.replication.writes import Bounds

_log = logging.getLogger("oscd.cluster")

LOOK_SECONDS: Final = 0.2
"""How often the state of the whole is looked at, at least."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """What a node is told of its cluster.

    Attributes:
        salt: What is known of the salt at the start of the worker, and where it is kept.
        key: Gives the cluster key that is shown …
        secrets: … and every key of this node, none of which a peer may have repeated in the log.
        tls: Gives the context to ask peers with, asked anew for each connection, as it may be renewed.
        sync_seconds: Between two anti-entropy rounds.
        report: Where the report goes.
        tally: Counts what the links take in.
    """

    node_id: str
    run: str
    peers: Sequence[Peer]
    key: Callable[[], bytes]
    secrets: Callable[[], Collection[bytes]]
    tls: Callable[[], ssl.SSLContext]
    salt: Callable[[], bytes]
    salt_path: Path
    bounds: Bounds
    directory: Path
    sync_seconds: float
    report: Path
    tally: Tally


class Cluster:
    """The duty. All its methods belong to one event loop.

    Args:
        clock: µs since 1970.
    """

    def __init__(self, mandate: Mandate, log: EventLog[sqlite3.Connection], clock: MicrosecondClock) -> None:
        self._mandate = mandate
        self._log = log
        self._clock = clock

    async def run(self) -> NoReturn:
        """Be the steward of a node among others, until this is cancelled."""
        before = await asyncio.to_thread(read_report, self._mandate.report)
        calls = [
            Calls(peer, self._mandate.tls, self._mandate.key, secrets=self._mandate.secrets)
            for peer in self._mandate.peers
        ]
        await _Term(self._mandate, self._log, self._clock, calls, before).run()
        raise AssertionError("a term of office has no end of its own")


class _Term:
    """One term of office, from an election on."""

    def __init__(
        self,
        mandate: Mandate,
        log: EventLog[sqlite3.Connection],
        clock: MicrosecondClock,
        calls: Sequence[Calls],
        before: ClusterReport | None,
    ) -> None:
        self._mandate = mandate
        self._log = log
        self._clock = clock
        self._calls = calls
        changed = asyncio.Event()
        known = {} if before is None else {peer.peer: peer for peer in before.peers}
        self._links = [Link(one.peer, changed.set, known.get(one.peer.name)) for one in calls]
        self._tasks: dict[Link, asyncio.Task[None]] = {}
        self._twins = Twins(self._links)
        self._vigil = Vigil(log, self._links)
        self._readiness = Readiness(self._links, is_ready=before is not None and not before.not_ready)
        self._reporting = Reporting(mandate.report, self._links, self._readiness, changed, clock)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reporting.run(), name="report")
            salt = await self._salt()
            home = Home(
                identity=Identity(self._mandate.node_id, self._mandate.run, salt_digest(salt).hex()),
                log=self._log,
                bounds=self._mandate.bounds,
                directory=self._mandate.directory,
                members=self._members,
                tally=self._mandate.tally,
                changed=self._reporting.changed.set,
                clock=self._clock,
                sync_seconds=self._mandate.sync_seconds,
            )
            begin = partial(self._begin, group, home)
            for link in self._links:
                begin(link)
            group.create_task(self._sync_on(begin), name="anti-entropy")
            await self._look_on(Asking(self._log, self._links, home.claims), begin)

    async def _salt(self) -> bytes:
        try:
            return self._mandate.salt()
        except Unavailable:
            pass

        said = Said("salt")

        def waits(sentence: str) -> None:
            said.trouble(sentence)
            self._readiness.salt = sentence
            self._reporting.changed.set()

        async def note(digest: bytes) -> bool:
            return await self._log.write(partial(note_digest, digest=digest), size=0)

        salts = Salts(
            self._mandate.salt_path, note, self._calls, node_id=self._mandate.node_id, run=self._mandate.run
        )
        salt = await salts.obtain(waits)
        self._readiness.salt = None
        return salt

    def _begin(self, group: asyncio.TaskGroup, home: Home, link: Link) -> None:
        """Begin a link, or begin it anew."""
        link.begin()
        calls = self._calls[self._links.index(link)]
        task = _after(self._tasks.get(link), partial(keep_up, link, calls, home))
        self._tasks[link] = group.create_task(task, name=f"link to {link.peer.name}")

    def _members(self) -> frozenset[str]:
        met = (link.sight.node_id for link in self._links)
        return frozenset({self._mandate.node_id, *(node_id for node_id in met if node_id is not None)})

    async def _look_on(self, asking: Asking, begin: Callable[[Link], None]) -> None:
        """Act on what the links have found, again and again."""
        while True:
            # The log says by itself what is wrong with it; the next look finds whether it still is.
            with suppress(Unavailable):
                self._twins.look()
                own = await asking.look()
                self._note(own)
                self._renew(own, begin)
                if self._readiness.is_ready:
                    await self._vigil.keep()
                    self._readiness.held = self._vigil.held
            await asyncio.sleep(LOOK_SECONDS)

    def _note(self, own: Own) -> None:
        before, self._readiness.own = self._readiness.own, own
        if before is None or before.standing is not own.standing:
            _log.info("this node's own history: %s", _IN_WORDS[own.standing])
            self._reporting.changed.set()

    def _renew(self, own: Own, begin: Callable[[Link], None]) -> None:
        """Begin anew the links that ask for what is not true any more of this node's own origin."""
        asks = own.standing is not Standing.CONTINUES
        ask_as = (None if asks else own.origin.incarnation, asks)
        for link in self._links:
            is_open = link.state in (LinkState.CATCHING_UP, LinkState.LIVE)
            if is_open and link.asked_as != ask_as:
                begin(link)

    async def _sync_on(self, begin: Callable[[Link], None]) -> None:
        """Compare with every peer, and try again what was held where that may help."""
        while True:
            await asyncio.sleep(self._mandate.sync_seconds)
            self._vigil.compare()
            for link in self._links:
                if link.state is LinkState.LIVE and link.again.is_due(link.sight.held):
                    begin(link)


async def _after(before: asyncio.Task[None] | None, then: Callable[[], Awaitable[None]]) -> None:
    """End one task of a link, wholly, before the next."""
    if before is not None:
        before.cancel()
        await asyncio.wait({before})
    # Called only now: of a task that is cancelled before it begins nothing is left that nobody has awaited.
    await then()


_IN_WORDS: Final = {
    Standing.CONTINUES: "it goes on where it was",
    Standing.ASKING: "the peers are asked where it ended",
    Standing.BEGINS: "a new one begins with the next write, as not every peer could say where the old one ended",
}
