"""Owns one stream of a link, from the request to its end: whom it comes from, and what is done with what comes.

Must not try again, nor outlive the request.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from oscd.events.log import EventLog, MicrosecondClock
from oscd.replication.calls import Calls, Stream
from oscd.replication.claims import Claims
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.link import Link
from oscd.replication.meeting import refuse_stranger
from oscd.replication.opening import Opening, opening, query_of
from oscd.replication.pipe import deliver
from oscd.replication.reception import Received, Recent, Reception
from oscd.replication.ship import Identity
from oscd.replication.sight import look
from oscd.replication.states import Happening, LinkState
from oscd.replication.take import Held, Sender, Taken, held_in, meet, take
from oscd.replication.trouble import PeerTrouble
from oscd.replication.verify import Candidate, Terms
from oscd.replication.wire import CONTENT_TYPE, Goodbye, PeerStatus
from oscd.replication.writes import Bounds, LargeWrite, Writes

PATH: Final = "/cluster/events"

STEADY_SECONDS: Final = 3.0
"""A stream that was live for so long is well: the troubles before it are over."""

MOST_WAY_MICROSECONDS: Final = 100_000
"""What a status takes to come at most, as far as its clock is concerned: a peer that answers later was busy, or just
starting, and no reason to think that its clock is ahead."""

LOOK_SECONDS: Final = 0.25
"""Statuses may come with every batch of events; so often one is compared with the log."""


class Tally(Protocol):
    """What is counted of what links take in."""

    def ingested(self, events: int) -> None:
        """So many new events are in the log, committed."""

    def caught_up(self, events: int, seconds: float) -> None:
        """A peer's backlog of so many new events is taken in, so long after its last stream had begun."""


@dataclass(frozen=True, slots=True)
class Home:
    """What all links of a node share.

    Attributes:
        directory: Where a large write waits; on the disk of the log.
        recent: What any of the links has taken in lately.
        claims: What any peer has named of this node's own events.
        members: Gives the node ids of the cluster, as far as they are known.
        tally: Counts what links take in.
        changed: Told that a person would see something else now.
        clock: µs since 1970.
        sync_seconds: Between two anti-entropy rounds.
    """

    identity: Identity
    log: EventLog[sqlite3.Connection]
    bounds: Bounds
    directory: Path
    members: Callable[[], frozenset[str]]
    tally: Tally
    changed: Callable[[], None]
    clock: MicrosecondClock
    sync_seconds: float
    recent: Recent = field(default_factory=Recent)
    claims: Claims = field(default_factory=Claims)


class OneStream:
    """One stream of a link, from the request to its end."""

    def __init__(self, link: Link, calls: Calls, home: Home) -> None:
        self.was_steady = False
        self._link = link
        self._calls = calls
        self._home = home
        self._reception = Reception(home.bounds, home.directory, home.recent)
        self._sender: Sender | None = None
        self._opening: Opening | None = None
        self._delay = 0
        self._began_at = 0.0
        self._looked_at = float("-inf")
        self._live_since: float | None = None

    async def run(self) -> None:
        """Ask and take in, until the stream fails.

        Raises:
            PeerTrouble, PeerRefused, Unavailable, LogCorrupt, OSError: Why it ended.
        """
        home = self._home
        opened = self._opening = await home.log.read(partial(opening, identity=home.identity))
        self._link.asked_as = (opened.pull.skip, opened.pull.asks)
        asked_at = home.clock()
        async with self._calls.stream(PATH, query_of(opened.pull), CONTENT_TYPE) as stream:
            self._delay = min(max(0, home.clock() - asked_at) // 2, MOST_WAY_MICROSECONDS)
            self._began_at = asyncio.get_running_loop().time()
            await self._take_in(stream)

    async def _take_in(self, stream: Stream) -> None:
        try:
            await deliver(_Heard(stream, self._note_life), self._reception, self._handle)
        except _RecognisedError:
            self._link.move(Happening.RECOGNISED)

    def _note_life(self) -> None:
        """Bytes have come: within a large write nothing else shows that the peer is there."""
        if self._sender is not None:
            self._link.sight.last_seen = self._home.clock()

    async def _handle(self, item: Received) -> None:
        match item:
            case PeerStatus():
                await self._heard(item)
            case Goodbye(reason):
                words = self._calls.words(reason)
                raise PeerTrouble(f"it says goodbye{': ' if words else ''}{words}")
            case _:
                await self._take(item)

    async def _heard(self, status: PeerStatus) -> None:
        if self._sender is None:
            self._sender = await self._met(status)
            self._link.move(Happening.ANSWERED)
        elif (status.node_id, status.run) != (self._sender.node_id, self._sender.run):
            raise PeerRefused("it calls itself something else than before.")
        assert self._opening is not None
        self._home.claims.heard(self._opening.incarnation, status.position)
        self._link.sight.heard(status, self._home.clock(), self._delay)
        self._link.sight.held = tuple(self._reception.held.values())
        catches_up = status.is_at_head and self._link.state is LinkState.CATCHING_UP
        now = asyncio.get_running_loop().time()
        if catches_up or now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await self._compare(status)
        if catches_up:
            self._caught_up(now)
        if self._live_since is not None and now - self._live_since >= STEADY_SECONDS:
            self.was_steady, self._link.last_error = True, None

    async def _compare(self, status: PeerStatus) -> None:
        """See what a status says beside this log."""
        seen = await self._home.log.read(partial(look, status=status))
        if seen != self._link.sight.looked:
            self._home.changed()
        self._link.sight.compared(seen, self._home.clock())

    async def _met(self, status: PeerStatus) -> Sender:
        """Make sure that the peer is one of this cluster, and note which run of it this is."""
        assert self._opening is not None
        identity = self._home.identity
        if (status.node_id, status.run) == (identity.node_id, identity.run):
            raise _RecognisedError
        if self._calls.holds_key(status.node_id) or self._calls.holds_key(status.run):
            raise PeerRefused("it repeats a key of this node as its name.")
        refuse_stranger(identity, status, we_are_empty=self._opening.is_empty)
        sender = Sender(status.node_id, status.run)
        before = self._opening.runs.get(status.node_id)
        if before == status.run:
            return sender
        meeting = partial(meet, sender=sender, before=before, members=self._home.members())
        if not await self._home.log.write(meeting, size=0):
            raise PeerTrouble("it has started anew meanwhile")
        return sender

    def _caught_up(self, now: float) -> None:
        self._live_since = now
        self._link.has_caught_up = True
        self._home.tally.caught_up(self._link.backlog, now - self._began_at)
        self._link.backlog = 0
        self._link.move(Happening.CAUGHT_UP)

    async def _take(self, batch: Writes | LargeWrite) -> None:
        if self._sender is None:
            raise PeerRefused("it sends events before it says who it is.")
        taken = await self._taken(batch, self._sender)
        for held in taken.held:
            self._hold(held)
        if taken.events:
            self._home.tally.ingested(taken.events)
        if self._link.state is LinkState.CATCHING_UP:
            self._link.backlog += taken.events

    async def _taken(self, batch: Writes | LargeWrite, sender: Sender) -> Taken:
        rest = _without(self._reception.held, batch)
        if rest is None:
            return Taken(0)
        batch = rest
        terms = Terms(self._home.clock(), self._home.members())
        try:
            taken = await self._home.log.write(
                partial(take, batch=batch, terms=terms, sender=sender), size=batch.size
            )
        except OriginHeld as held:
            return Taken(0, (await asyncio.to_thread(held_in, batch, held),))
        if isinstance(batch, Writes):
            passed = {held.origin.incarnation for held in taken.held}
            self._home.recent.note([one.digest for one in _of_others(passed, batch.events)])
        return taken

    def _hold(self, held: Held) -> None:
        self._reception.hold(held)
        self._link.sight.held = tuple(self._reception.held.values())
        self._home.changed()


@dataclass(frozen=True, slots=True)
class _Heard:
    """A stream of which each piece is noted as it comes."""

    stream: Stream
    note: Callable[[], None]

    async def read(self) -> bytes:
        data = await self.stream.read()
        self.note()
        return data


class _RecognisedError(Exception):
    """The peer is this very node."""


def _without(held: Collection[str], batch: Writes | LargeWrite) -> Writes | LargeWrite | None:
    """A batch without what was cut before the batch ahead of it had its origin held; None where nothing is left."""
    if isinstance(batch, LargeWrite):
        return None if batch.incarnation in held else batch
    events = _of_others(held, batch.events)
    if len(events) == len(batch.events):
        return batch
    return Writes(events, batch.size) if events else None


def _of_others(held: Collection[str], events: Sequence[Candidate]) -> Sequence[Candidate]:
    """The events of origins that are not held; mostly none is, and then nothing is looked at."""
    if not held:
        return events
    return [one for one in events if one.event.origin.incarnation not in held]
