"""Owns a peer for tests that answers over real sockets with whatever bytes a script says.

Must not know what is asked of it, nor be polite.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from oscd.replication.peers import Peer

Script = Callable[["Visit"], Awaitable[None]]

ANY_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For peers of plain HTTP: it trusts nobody, and takes no time to make."""

KEY = b"the-key-of-the-cluster"


@dataclass(slots=True)
class Visit:
    """One request to the scripted peer.

    Attributes:
        line: The request line.
        headers: In lower case.
    """

    line: str
    headers: dict[str, str]
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        await self.head(status, Content_Length=str(len(body)), **headers)
        await self.send(body)

    async def head(self, status: int = 200, **headers: str) -> None:
        """Send the head of an answer; a body without a length ends with the connection."""
        lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        await self.send("\r\n".join([f"HTTP/1.1 {status} Word", *lines, "", ""]).encode())

    async def forever(self) -> None:
        """Say nothing more, until the test is over."""
        await asyncio.Event().wait()


@dataclass(slots=True)
class ScriptedPeer:
    """Where the scripted peer is, and who came.

    Attributes:
        visits: All requests so far.
        connections: How many are open.
        script: What it does with the next one.
    """

    peer: Peer
    script: Script
    visits: list[Visit] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def scripted_peer(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedPeer]:
    """A peer on a free port of loopback; what is under way at the end is cut off."""
    tasks: set[asyncio.Task[None]] = set()

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    pairs = (line.partition(": ") for line in head[1:] if line)
                    visit = Visit(head[0], {name.lower(): text for name, _, text in pairs}, writer)
                    peer.visits.append(visit)
                    await peer.script(visit)
                    if visit.headers.get("connection") == "close":
                        return
        finally:
            tasks.discard(task)
            peer.connections -= 1
            writer.transport.abort()

    server = await asyncio.start_server(visited, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    peer = ScriptedPeer(Peer(f"127.0.0.1:{port}", f"{scheme}://127.0.0.1:{port}"), script)
    try:
        yield peer
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
