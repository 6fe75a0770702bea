"""The streams of a worker without HTTP: a real log, a tail, and subscriptions in tasks of their own."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from oscd.errors import OscdError
from oscd.events.cipher import Cipher
from oscd.events.codec import chain_digest, encode_body, encode_header, event_from_draft, genesis_digest
from oscd.events.event import Body, Draft, EventType, Origin, Recorded
from oscd.events.log import Reading, Writing
from oscd.events.position import Mark, mark
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.feed.bell import Bell
from oscd.feed.board import Board
from oscd.feed.frame import StreamFilter
from oscd.feed.synced import Synced
from oscd.feed.tail import Tail
from oscd.projections.sqlite import SqliteProjections
from oscd.streams.registry import Registry
from oscd.streams.subscription import Feed, Subscription
from oscd.streams.terms import Wanted
from tests.streams.reading import SseEvent, SseStream
from tests.support.waiting import eventually

Result = TypeVar("Result")

EVERYTHING = StreamFilter()
ELSEWHERE = Origin("elsewhere", "e" * 16)
"""Where events come from that this node did not write first."""


def cipher_of(user_key: str) -> Cipher:
    return Cipher.of_derived(hashlib.sha256(user_key.encode()).digest())


OWN, FOREIGN = cipher_of("own"), cipher_of("foreign")


class TroubledLog:
    """A log whose reads fail while `trouble` is set, and one that meets what is done `meanwhile`."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log
        self.trouble: OscdError | None = None
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.reads = 0

    async def read(
        self, function: Callable[[Reading[sqlite3.Connection]], Result], *, size: int = 0
    ) -> Result:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        result = await self.log.read(function, size=size)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return result

    async def write(self, function: Callable[[Writing[sqlite3.Connection]], Result], *, size: int) -> Result:
        return await self.log.write(function, size=size)


class Client:
    """Reads a stream in a task of its own, as the server does, and may stop taking parts."""

    def __init__(self, site: Site, wanted: Wanted) -> None:
        self.stream = SseStream()
        self.raw = b""
        self.largest_part = 0
        self.subscription: Subscription | None = None
        self.takes = asyncio.Event()
        self.takes.set()
        self.task = asyncio.get_running_loop().create_task(self._run(site, wanted))

    async def _run(self, site: Site, wanted: Wanted) -> None:
        self.subscription = await site.registry.open(wanted)
        async for part in self.subscription.parts():
            self.largest_part = max(self.largest_part, len(part))
            self.raw += part
            self.stream.feed(part)
            await self.takes.wait()

    async def has(self, kind: str, count: int = 1) -> list[SseEvent]:
        """Wait for so many events of a kind, and give all of it."""
        await eventually(
            lambda: len(self.stream.of_kind(kind)) >= count or self.task.done(),
            what=f"{kind}, after {self.stream.kinds()}",
        )
        if self.task.done() and not self.task.cancelled():
            self.task.result()
        found = self.stream.of_kind(kind)
        assert len(found) >= count, self.stream.kinds()
        return found

    async def leave(self) -> None:
        """Go away, as a client does that closes its connection."""
        self.task.cancel()
        await asyncio.wait({self.task})


@dataclass(slots=True)
class Counts:
    """What was counted of streams, in the order it came."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def subscribed(self) -> None:
        self.calls.append(("subscribed",))

    def unsubscribed(self, seconds: float, *, by_client: bool) -> None:
        assert seconds >= 0
        self.calls.append(("unsubscribed", by_client))

    def abandoned(self, count: int) -> None:
        self.calls.append(("abandoned", count))

    def sent(self, kind: str, count: int = 1) -> None:
        self.calls.append(("sent", kind, count))

    def kept_alive(self, count: int = 1) -> None:
        self.calls.append(("kept_alive", count))

    def lagging(self, events: int) -> None:
        self.calls.append(("lagging", events))

    def total(self, *what: Any) -> int:  # noqa: ANN401 - whatever was counted
        """The sum of what was counted under these words."""
        return sum(call[len(what)] for call in self.calls if call[: len(what)] == what)

    def times(self, *what: Any) -> int:  # noqa: ANN401 - whatever was counted
        return sum(call[: len(what)] == what for call in self.calls)


class Site:
    """One worker.

    Attributes:
        opened: How many values were opened for readers.
    """

    def __init__(self, log: SqliteLog, bell: Bell, directory: Path, options: Options) -> None:
        self.log = TroubledLog(log)
        self.bell = bell
        self.opened: list[int] = []
        self.counts = Counts()
        self.synced = Synced(Board(directory / "synced", 1, 0, goes_on=True), bell)
        self.tail = Tail(self.log, bell, synced=self.synced.total, window_events=options.window_events)
        self.feed = Feed(
            self.log, self.tail, options.keepalive_seconds, self.opened.append, "tested", options.hold_seconds
        )
        self.board = Board(directory / "board", 2, 0)
        self.registry = Registry(
            self.feed, counters=self.counts, board=self.board, most=options.most, reports=directory, index=0
        )
        self.clients: list[Client] = []

    def client(self, wanted: StreamFilter = EVERYTHING, **more: Any) -> Client:  # noqa: ANN401 - fields of `Wanted`
        client = Client(self, Wanted(wanted, **more))
        self.clients.append(client)
        return client

    async def connected(self, wanted: StreamFilter = EVERYTHING, **more: Any) -> Client:  # noqa: ANN401 - as above
        """A client that has had its first event."""
        client = self.client(wanted, **more)
        await client.has("connected")
        return client

    async def write(self, *drafts: Draft) -> Sequence[Recorded]:
        """Append one write."""
        return await self.log.write(lambda writing: writing.append(drafts), size=100)

    async def put(self, key: str, value: bytes = b'"v"', **more: Any) -> Recorded:  # noqa: ANN401 - as above
        (recorded,) = await self.write(draft(key, value, **more))
        return recorded

    async def ingest(self, *drafts: Draft) -> Sequence[Recorded]:
        """Take in one write of another origin, as a pull from a peer will."""

        def run(writing: Writing[sqlite3.Connection]) -> Sequence[Recorded]:
            writing.store.execute(
                "INSERT OR IGNORE INTO origins (node_id, incarnation, seq, digest, stamp) VALUES (?, ?, 0, ?, 0)",
                (ELSEWHERE.node_id, ELSEWHERE.incarnation, genesis_digest(ELSEWHERE)),
            )
            other = SqliteWriting(
                writing.store, origin=ELSEWHERE, projections=SqliteProjections(), clock=lambda: 0
            )
            return other.append(drafts)

        recorded = await self.log.write(run, size=100)
        self.bell.ring()
        return recorded

    async def position(self) -> str:
        return await self.log.log.read(lambda reading: reading.position().encode())


@dataclass(frozen=True, slots=True)
class Options:
    """How a site differs from a usual one."""

    keepalive_seconds: float = 3600.0
    hold_seconds: float = 3600.0
    most: int = 100
    window_events: int = 512


def draft(
    key: str,
    value: bytes = b'"v"',
    type: EventType = EventType.CREATED,
    *,
    category: str | None = None,
    environment: str = "prod",
    cipher: Cipher = OWN,
    imported: bool = False,
    stamp: int | None = None,
) -> Draft:
    """A draft with a sealed value; an imported one is sealed as the original did, and names no key."""
    event_id = secrets.token_bytes(16)
    sealed = cipher._fernet.encrypt(value) if imported else cipher.seal(environment, key, event_id, value)
    return Draft(
        type=type,
        environment=environment,
        key=key,
        category=category,
        version=1,
        created_at=None,
        event_id=event_id,
        key_id=None if imported else cipher.key_id,
        replaces=None,
        body=Body(None if type is EventType.DELETED else sealed),
        imported=imported,
        stamp=stamp,
    )


def mark_of_first(one: Draft) -> Mark:
    """The mark of an event with a stamp of its own, once it is the first that `ELSEWHERE` has written."""
    assert one.stamp is not None
    event = event_from_draft(
        one, origin=ELSEWHERE, seq=1, last_seq=1, stamp=one.stamp, body=encode_body(one.body)
    )
    return mark(1, chain_digest(genesis_digest(ELSEWHERE), encode_header(event)))


@asynccontextmanager
async def opened_site(directory: Path, options: Options = Options()) -> AsyncIterator[Site]:
    """A worker over a real log."""
    projections = SqliteProjections()
    prepared = prepare(directory / "log.db", node_id="tested", projections=projections)
    ticks = iter(range(1_700_000_000_000_000, 2_000_000_000_000_000, 1_000_003))
    bell = Bell()
    log = SqliteLog(
        prepared.file,
        projections=projections,
        clock=lambda: next(ticks),
        committed=lambda _events, _seconds: bell.ring(),
    )
    log.start()
    site = Site(log, bell, directory, options)
    site.tail.start()
    try:
        yield site
    finally:
        for client in site.clients:
            client.task.cancel()
        if site.clients:
            await asyncio.wait({client.task for client in site.clients})
        if site.registry._reporting is not None:
            site.registry._reporting.cancel()
        await site.tail.close()
        await log.close()
