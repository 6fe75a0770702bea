"""Logs on disk for tests of links, and a peer that ships one of them by a script that can be spoiled.

Must not know what a test wants to see.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from oscd.events.position import decode_position
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.projections.sqlite import SqliteProjections
from oscd.replication import ship
from oscd.replication.ship import Identity, Pull
from oscd.replication.wire import CONTENT_TYPE, PeerStatus, status_frame
from oscd.times import microseconds_now
from tests.replication.scripted import Visit
from tests.replication.shipping import draft

SALT = bytes(64)
SALT_DIGEST = hashlib.sha256(SALT).hexdigest()


@asynccontextmanager
async def log_at(path: Path, node_id: str, *, asks: bool = False) -> AsyncIterator[SqliteLog]:
    """The log of a node; made where there is none."""
    projections = SqliteProjections()
    prepared = prepare(path, node_id=node_id, projections=projections, asks=asks)
    log = SqliteLog(prepared.file, projections=projections, clock=microseconds_now)
    log.start()
    try:
        yield log
    finally:
        await log.close()


async def write(log: SqliteLog, *keys: str, size: int = 10) -> None:
    """Append one write."""
    drafts = [draft(key, size=size) for key in keys]
    await log.write(lambda writing: writing.append_many(iter(drafts), len(drafts)), size=len(drafts) * size)


async def keys_of(log: SqliteLog) -> list[str]:
    """The keys of all events, in the order of the log."""
    events = await log.read(lambda reading: reading.events(0, 100_000))
    return [recorded.event.key for recorded in events]


def pull_of(visit: Visit) -> Pull:
    """What a link said of itself."""
    query = {name: texts[0] for name, texts in parse_qs(urlsplit(visit.line.split()[1]).query).items()}
    return Pull(
        decode_position(query["after"]),
        query["node"],
        query["run"],
        query["salt"],
        query.get("skip"),
        query["asks"] == "1",
    )


@dataclass(slots=True)
class Shipper:
    """Ships a log to whoever asks, as a node does.

    Attributes:
        ahead: How far its clock is ahead, µs.
        state: The digest it claims for its state; None: the true one.
        pulls: What links have said of themselves so far.
    """

    log: SqliteLog
    identity: Identity
    ahead: int = 0
    state: str | None = None
    pulls: Sequence[Pull] = ()

    async def __call__(self, visit: Visit) -> None:
        """Serve one request, without an end."""
        pull = pull_of(visit)
        self.pulls = [*self.pulls, pull]
        await visit.head(Content_Type=CONTENT_TYPE)
        await visit.send(status_frame(await self.status(is_at_head=False)))
        shipping = await self.log.read(partial(ship.begin, pull=pull))
        while True:
            page = await self.log.read(partial(ship.page, shipping=shipping, skip=pull.skip))
            shipping = page.shipping
            await visit.send(page.data)
            if page.is_at_head:
                await visit.send(status_frame(await self.status(is_at_head=True)))
                await asyncio.sleep(0.02)

    async def status(self, *, is_at_head: bool) -> PeerStatus:
        """How the log stands, by a clock that may be wrong."""
        now = microseconds_now() + self.ahead
        status = await self.log.read(
            partial(ship.status_of, identity=self.identity, now=now, is_at_head=is_at_head)
        )
        return status if self.state is None else replace(status, state=self.state)


def shipper(log: SqliteLog, node_id: str, *, run: str | None = None, salt: str = SALT_DIGEST) -> Shipper:
    """What ships a log under this name."""
    return Shipper(log, Identity(node_id, run or secrets.token_hex(8), salt))
