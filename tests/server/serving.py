"""A listener of oscd in a thread of its own, for tests that speak to it over plain sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hypercorn.typing import ASGIFramework

from oscd.server.binding import bind_listeners
from oscd.server.connection import Limits
from oscd.server.listener import hypercorn_config, serve
from tests.support.raw_http import read_to_end

PATIENCE = 20.0
"""Seconds after which a test gives up on something that should happen at once."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Served:
    """A running listener: its address, its end, and what went wrong in its loop."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.loop: asyncio.AbstractEventLoop
        self.shutdown: asyncio.Event
        self.unhandled: list[dict[str, Any]] = []
        self.left_over: set[asyncio.Task[Any]] = set()
        self.started = threading.Event()
        self.ended = threading.Event()
        self.clients = ExitStack()

    def connect(self) -> socket.socket:
        """Open a connection that lasts as long as the listener, unless the test closes it."""
        return self.clients.enter_context(socket.create_connection(self.address, timeout=PATIENCE))

    def request(self, path: str, head: str = "") -> socket.socket:
        """Send a GET and return the socket to read the answer from."""
        client = self.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: t\r\n{head}\r\n".encode())
        return client

    def wait_for_room(self) -> None:
        """Return once the listener serves one more connection."""
        answer = b""
        while not answer.startswith(b"HTTP/1.1 200 "):
            with self.request("/", "connection: close\r\n") as client:
                answer = read_to_end(client)

    def begin_shutdown(self) -> None:
        self.loop.call_soon_threadsafe(self.shutdown.set)


@contextmanager
def serving(
    app: ASGIFramework,
    limits: Limits,
    loop_factory: LoopFactory,
    *,
    keep_alive_seconds: float = 20.0,
    ssl_context: ssl.SSLContext | None = None,
    on_closed: Callable[[], None] | None = None,
) -> Iterator[Served]:
    """Serve `app` until the block ends; then nothing may be left of it."""
    (sock,) = bind_listeners("127.0.0.1", 0, 1)
    served = Served(sock.getsockname())

    async def main() -> None:
        served.loop = asyncio.get_running_loop()
        served.loop.set_exception_handler(lambda _, context: served.unhandled.append(context))
        served.shutdown = asyncio.Event()
        served.started.set()
        await serve(
            app,
            socket=sock,
            config=hypercorn_config(keep_alive_seconds=keep_alive_seconds),
            shutdown=served.shutdown,
            limits=limits,
            tls=None if ssl_context is None else lambda: ssl_context,
            on_closed=on_closed,
        )
        served.left_over = asyncio.all_tasks() - {asyncio.current_task()}
        served.ended.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert served.started.wait(PATIENCE)
    try:
        yield served
    finally:
        if not served.ended.is_set():
            served.begin_shutdown()
        thread.join(PATIENCE)
        served.clients.close()
    assert not thread.is_alive()
    assert served.unhandled == []
    assert served.left_over == set()


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    """Read until `wanted` has come."""
    got = b""
    while wanted not in got:
        part = client.recv(65536)
        assert part, f"the connection ended before {wanted!r}, after {got!r}"
        got += part
    return got
