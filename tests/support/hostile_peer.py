"""Owns a peer that holds the cluster key and misbehaves: it takes a puller's request and answers as it was told to.

Frames are put together here from what `oscd/replication/DESIGN.md` says of the wire, not by the code that is tested.
Must not know what a node makes of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from oscd.events import codec
from oscd.events.event import Body, Event, EventType, Origin
from oscd.events.position import Position, mark
from tests.support.waiting import PATIENCE

CONTENT_TYPE = "application/vnd.oscd.events"
STATUS_SECONDS = 0.5

Behaviour = Callable[["Stream"], Awaitable[None]]
"""What it does with one request for its events."""


class Stream:
    """One request for events, as a behaviour answers it."""

    def __init__(self, writer: asyncio.StreamWriter, peer: HostilePeer) -> None:
        self._writer = writer
        self.peer = peer

    async def head(self, status: str = "200 OK", *headers: str, kind: str = CONTENT_TYPE) -> None:
        """Begin the answer; its body ends with the connection."""
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())

    async def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            OSError: The puller is gone.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def begin(self, **changes: Any) -> None:  # noqa: ANN401 - fields of JSON
        """Begin as a peer should: the head, and how it stands, but for these fields."""
        await self.head()
        await self.send(status(self.peer, **changes))

    async def end(self) -> None:
        """Close the connection once all that was sent is on its way."""
        self._writer.close()
        await self._writer.wait_closed()

    async def go_on(self) -> None:
        """Say now and then how it stands, as long as the puller listens."""
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            await self.send(status(self.peer))


class HostilePeer:
    """A server on loopback, on an event loop and a thread of its own.

    Args:
        name: Its node id.
        salt: Of the cluster.

    Attributes:
        port: Where it listens.
        asked: When each request for events came, on the monotonic clock.
        run: The word of its start.
    """

    def __init__(self, name: str, salt: bytes, behaviour: Behaviour) -> None:
        self.name = name
        self.salt = salt
        self.run = secrets.token_hex(8)
        self.asked: list[float] = []
        self.port = 0
        self._behaviour = behaviour
        self._open: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve while the block runs; every connection, and what answers it, ends with it."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            if self._open:
                await asyncio.wait(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, Stream(writer, self)))
        self._open.add(task)
        # Also where the task is cancelled before its first step.
        task.add_done_callback(lambda _: writer.transport.abort())
        task.add_done_callback(self._open.discard)

    async def _answer(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        # The puller may leave at any moment; that is the end of it here.
        with suppress(OSError, asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                target = request.split(b" ", 2)[1].decode()
                if target.startswith("/cluster/events"):
                    self.asked.append(time.monotonic())
                    await self._behaviour(stream)
                    await stream.end()
                    return
                await self._answer_other(stream, target)

    async def _answer_other(self, stream: Stream, target: str) -> None:
        status, body = ("200 OK", self.salt) if target.startswith("/cluster/salt") else ("404 Not Found", b"")
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send(head.encode() + body)


@contextmanager
def hostile_peers(salt: bytes, behaviours: dict[str, Behaviour]) -> Iterator[dict[str, HostilePeer]]:
    """A peer for each behaviour, by its name, while the block runs."""
    peers = {name: HostilePeer(name, salt, behaviour) for name, behaviour in behaviours.items()}
    stop = asyncio.Event()
    started: Future[asyncio.AbstractEventLoop] = Future()

    async def serve() -> None:
        async with AsyncExitStack() as served:
            for peer in peers.values():
                await served.enter_async_context(peer.served())
            started.set_result(asyncio.get_running_loop())
            await stop.wait()

    def run() -> None:
        # asyncio's own loop loses a socket whose server is closed just after it was accepted.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    with ThreadPoolExecutor(1, thread_name_prefix="hostile peers") as thread:
        serving = thread.submit(run)
        loop = started.result(PATIENCE)
        try:
            yield peers
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result(PATIENCE)


@dataclass(frozen=True, slots=True)
class Forged:
    """An event that nobody wrote, sound but for what a test does to it."""

    header: bytes
    body: bytes
    event: Event
    digest: bytes

    def frame(self, *, header: bytes | None = None, body: bytes | None = None) -> bytes:
        """As it is shipped, with these bytes instead of its own."""
        return event_frame(
            self.event.origin.incarnation,
            self.event.seq,
            self.digest,
            self.header if header is None else header,
            self.body if body is None else body,
        )


class Forger:
    """Makes the events of an origin, chained as they should be.

    Args:
        origin: Of the events; a new one if there is none.
        digest: Of the event before the first that is made; where the chain begins if there is none.
        seq: Of that event.
    """

    def __init__(self, origin: Origin | None = None, digest: bytes | None = None, seq: int = 0) -> None:
        self.origin = origin or Origin("forger", secrets.token_hex(8))
        self._digest = codec.genesis_digest(self.origin) if digest is None else digest
        self._seq = seq

    def next(self, key: str = "forged", **changes: Any) -> Forged:  # noqa: ANN401 - fields of an event
        """The next event: a create whose body opens with no key, with these fields changed."""
        body = codec.encode_body(Body(b"nobody-sealed-this"))
        now = time.time_ns() // 1000
        event = Event(
            origin=self.origin,
            seq=self._seq + 1,
            last_seq=self._seq + 1,
            stamp=now,
            type=EventType.CREATED,
            environment="forged",
            key=key,
            category=None,
            version=1,
            created_at=now,
            updated_at=now,
            event_id=secrets.token_bytes(16),
            key_id=secrets.token_bytes(16),
            imported=False,
            replaces=None,
            body_digest=codec.body_digest(body),
        )
        event = event._replace(**changes)
        header = codec.encode_header(event)
        self._digest = codec.chain_digest(self._digest, header)
        self._seq = event.seq
        return Forged(header, body, event, self._digest)


def event_frame(incarnation: str, seq: int, digest: bytes, header: bytes, body: bytes) -> bytes:
    """`E`, the lengths, the number, the chain digest, and what is stored."""
    numbers = struct.pack(">II8sQ32s", len(header), len(body), bytes.fromhex(incarnation), seq, digest)
    return b"E" + numbers + header + body


def status(peer: HostilePeer, **changes: Any) -> bytes:  # noqa: ANN401 - fields of JSON
    """`S`, and how the peer says it stands."""
    document = {
        "node_id": peer.name,
        "run": peer.run,
        "salt": hashlib.sha256(peer.salt).hexdigest(),
        "now": time.time_ns() // 1000,
        "position": Position({}).encode(),
        "state": bytes(32).hex(),
        "entries": 0,
        "head": 0,
        "is_at_head": True,
    }
    return json_frame(b"S", document | changes)


def standing_at(forged: Forged) -> str:
    """The position of a log that ends with an event."""
    return Position({forged.event.origin.incarnation: mark(forged.event.seq, forged.digest)}).encode()


def json_frame(kind: bytes, document: object) -> bytes:
    """A frame whose content is JSON."""
    data = json.dumps(document).encode()
    return kind + struct.pack(">I", len(data)) + data
