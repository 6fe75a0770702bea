"""Nodes of a cluster as tests of the edge see them: an endless answer as it arrives, and what a node takes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from oscd.api.edge import Message
from oscd.replication.reception import Recent, Reception
from oscd.replication.take import Sender, meet, take
from oscd.replication.verify import Terms
from oscd.replication.wire import EventFrame, Frame, Frames, Goodbye, PeerStatus
from oscd.replication.writes import Bounds, Writes
from tests.api.asgi import PATIENCE, Answer, Header, Site, http_scope
from tests.support.waiting import eventually

CLUSTER_KEY = b"a-key-that-only-nodes-have"
WITH_CLUSTER_KEY: Header = ("X-API-Key", CLUSTER_KEY.decode())
PULLER = {"node": "puller", "run": "run-of-puller"}
YEAR_3000 = 32_503_680_000_000_000


class Pulled(Answer):
    """`GET /cluster/events`, as the bytes come."""

    def __init__(self) -> None:
        super().__init__()
        self.leaves = asyncio.Event()
        self.task: asyncio.Task[None]
        self.scope: dict[str, Any] = {}
        self._frames = Frames(1024 * 1024)
        self.frames: list[Frame] = []

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "http.response.body" and self.status == 200:
            self.frames += self._frames.feed(message.get("body", b""))

    def receiving(self) -> Iterator[Message]:
        yield {"type": "http.request", "body": b"", "more_body": False}

    @property
    def events(self) -> list[EventFrame]:
        return [frame for frame in self.frames if isinstance(frame, EventFrame)]

    @property
    def is_at_head(self) -> bool:
        last = self.frames[-1] if self.frames else None
        return isinstance(last, PeerStatus) and last.is_at_head

    async def goodbye(self) -> str:
        async with asyncio.timeout(PATIENCE):
            await self.task
        last = self.frames[-1]
        assert isinstance(last, Goodbye)
        return last.reason


@asynccontextmanager
async def pulling(
    site: Site, query: Mapping[str, str] = PULLER, *headers: Header, method: str = "GET"
) -> AsyncIterator[Pulled]:
    """Ask for the log, and leave at the end; gives the answer once it is refused or has sent all there is."""
    pulled = Pulled()
    messages = pulled.receiving()

    async def receive() -> Message:
        if (message := next(messages, None)) is not None:
            return message
        await pulled.leaves.wait()
        return {"type": "http.disconnect"}

    target = f"/cluster/events?{urlencode(query)}"
    pulled.scope = http_scope(method, target, headers or (WITH_CLUSTER_KEY,), None)
    pulled.task = asyncio.create_task(site.app(pulled.scope, receive, pulled.send))
    try:
        await eventually(lambda: pulled.is_at_head or pulled.ended or pulled.task.done(), PATIENCE)
        yield pulled
    finally:
        pulled.leaves.set()
        async with asyncio.timeout(PATIENCE):
            await pulled.task


async def exchange(site: Site, other: Site, directory: Path) -> int:
    """Have one node take in what another has and it lacks, over the edge of that one; gives how many events."""
    position = await site.log.read(lambda reading: reading.position())
    async with pulling(other, PULLER | {"after": position.encode()}) as pulled:
        assert pulled.status == 200
        status = pulled.frames[0]
        assert isinstance(status, PeerStatus)
        sender = Sender(status.node_id, status.run)
        reception = Reception(Bounds(1024 * 1024, 1024 * 1024), directory, Recent())
        batches = [*reception.feed(b"".join(pulled.parts)), reception.pending()]
    await site.log.write(lambda writing: meet(writing, sender, writing.runs().get(sender.node_id)), size=1)
    taken = 0
    for batch in batches:
        if isinstance(batch, Writes):
            function = partial(take, batch=batch, terms=Terms(YEAR_3000), sender=sender)
            taken += (await site.log.write(function, size=1)).events
    return taken
