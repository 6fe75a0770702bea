"""Owns the ways between the nodes of a test: a TCP proxy for each, that cuts, silences and heals it.

All proxies of a test run on one event loop in a thread of their own. Must not read what passes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from tests.support.waiting import PATIENCE

_READ_BYTES = 65536

Result = TypeVar("Result")


class Link:
    """The way from one node to a port of another. Made by `Links`; its methods may be called from any thread.

    Attributes:
        port: Where it listens, on loopback.
        refused: Connections that met a cut.
        begun: Connections that were let pass.
        carried: Bytes that passed, in both directions together.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self._loop = loop
        self._target = target
        self._is_cut = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.refused = 0
        self.begun = 0
        self.carried = 0
        self._silent_at: int | None = None

    @property
    def connections(self) -> int:
        """How many connections it has."""
        return len(self._tasks)

    def cut(self) -> None:
        """Reset every connection, and each new one at once, as a machine does on which nobody listens."""
        self._do(self._cut)

    def silence(self) -> None:
        """Let nothing pass and nothing end, as a network does that drops every packet."""
        self._do(self._passing.clear)

    def silence_after(self, size: int) -> None:
        """Let about so many bytes more pass, then be silent, in the middle of whatever that is."""
        self._do(lambda: self._silence_after(size))

    def heal(self) -> None:
        """Let everything pass again; what was silenced goes on where it was, as TCP would."""
        self._do(self._heal)

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        """End every connection."""
        self._server.close()
        self._cut()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _do(self, function: Callable[[], None]) -> None:
        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)

    def _cut(self) -> None:
        self._is_cut = True
        for writer in tuple(self._open):
            _reset(writer)

    def _silence_after(self, size: int) -> None:
        self._silent_at = self.carried + size

    def _heal(self) -> None:
        self._is_cut = False
        self._silent_at = None
        self._passing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        self._open.add(writer)

        def ended(_: asyncio.Task[None]) -> None:
            """Also where it was cancelled before its first step."""
            _reset(writer)
            self._open.discard(writer)
            self._tasks.discard(task)

        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whatever ends a connection, a reset or a cancellation at the end of the test, is its end and no more.
        with suppress(OSError, asyncio.CancelledError):
            await self._passing.wait()
            if self._is_cut:
                self.refused += 1
                return
            self.begun += 1
            await self._carry(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._open.add(back)
        try:
            ways = {
                asyncio.ensure_future(self._pump(reader, back)),
                asyncio.ensure_future(self._pump(there, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            # What one side has sent before it closed still reaches the other.
            for end in (writer, back):
                end.close()
            # Kept until then, so that the end of the test finds what is still to be sent, and cuts it off.
            for end in (writer, back):
                await end.wait_closed()
        finally:
            self._open.discard(back)
            _reset(back)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_READ_BYTES):
            await self._passing.wait()
            sink.write(data)
            await sink.drain()
            self.carried += len(data)
            if self._silent_at is not None and self.carried >= self._silent_at:
                self._passing.clear()


class Links:
    """The loop that carries all links of a test, in a thread; a context manager."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links")
        self._links: list[Link] = []

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self._links:
            self._wait(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def to(self, port: int) -> Link:
        """A new way to a port of this machine, where nobody needs to listen yet."""
        link = Link(self._loop, port)
        self._wait(link.start())
        self._links.append(link)
        return link

    def _wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, also where it is closing and has something left to send."""
    with suppress(OSError, ValueError, AttributeError):  # the latter two where it has no socket any more
        # socket(7): with a linger time of 0 a close sends a reset.
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
