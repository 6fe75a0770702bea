"""The accept loop of one worker: connections in, and an end to all of them in bounded time.

Owns: how many connections there are, and the order of shutdown. Must not: bind (`binding.py`), serve a
connection (`connection.py`) or know the application. Why not Hypercorn's own loop:
`docs/adr/002-own-accept-loop.md`.
"""

from __future__ import annotations

import asyncio
import logging
import socket as sockets
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from oscd.server.bounds import install_bounded_buffer
from oscd.server.connection import Connection, Limits, Service

_log = logging.getLogger("oscd.listener")

ACCEPT_BATCH: Final = 64
"""Connections taken in one go before the loop turns to others; a flood of them must not starve requests."""

ACCEPT_REST_SECONDS: Final = 0.2
"""Pause after the system had no descriptor or memory for another connection."""

SETTLE_SECONDS: Final = 0.05
"""At shutdown: time for requests that have arrived, but have not been read yet, to count as in flight."""

ABORT_SECONDS: Final = 0.3
"""At shutdown: time for cancelled connections to clean up."""

MOST_HEAD_BYTES: Final = 64 * 1024
"""Of a request line with its headers. What the original's server takes, because some of its clients send backups in
the query of `/import`; larger ones go in the body. A head that never ends costs so much until its time is up, so all
connections of a worker together may hold 320 MB so, for the 5 000 it has by default."""

REFUSALS: Final = 64
"""Connections over the limit that are told so at one time; further ones are just closed."""

REFUSAL_SECONDS: Final = 1.0
"""How long telling one may take."""

_REFUSAL_BODY: Final = (
    b'{"type":"about:blank","title":"Service unavailable","status":503,'
    b'"detail":"This node has as many connections as it takes; try again."}'
)
REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b"
    % (len(_REFUSAL_BODY), _REFUSAL_BODY)
)


def hypercorn_config(*, keep_alive_seconds: float = 20.0, max_head_bytes: int = MOST_HEAD_BYTES) -> Config:
    """Configure the protocol layer.

    Args:
        keep_alive_seconds: How long a connection may be idle: from its opening, or from its last answer, to
            the *end* of the next request head. So it bounds slow heads as well.
        max_head_bytes: An unfinished request line with headers that is longer gets 431; on HTTP/2 it ends the
            connection. The read that completes it may bring 64 KiB more.

    Raises:
        AttributeError: This Hypercorn does not know one of the settings.
    """
    config = Config()
    wanted = {
        "accesslog": None,  # the application logs each request, without query strings
        "errorlog": logging.getLogger("hypercorn.error"),
        "h11_max_incomplete_size": max_head_bytes,
        "h2_max_header_list_size": max_head_bytes,
        "include_server_header": False,
        "keep_alive_max_requests": 1_000_000,
        "keep_alive_timeout": keep_alive_seconds,
    }
    for name, value in wanted.items():
        # A misspelt attribute would be taken without a word.
        if not hasattr(Config, name):
            raise AttributeError(f"hypercorn.config.Config has no setting {name!r}")
        setattr(config, name, value)
    return config


async def serve(
    app: ASGIFramework,
    *,
    socket: sockets.socket,
    config: Config,
    shutdown: asyncio.Event,
    limits: Limits,
    tls: Callable[[], ssl.SSLContext] | None = None,
    on_closed: Callable[[], None] | None = None,
) -> None:
    """Serve until `shutdown` is set; return at most `grace_seconds` + 0.5 s after it, whatever clients do.

    Then no connection is accepted any more, idle ones close at once, requests in flight finish, and what is
    left when the grace is over is aborted.

    Args:
        app: The ASGI application. It gets no lifespan events, and `http` scopes only.
        socket: Listening and non-blocking; closed at the end.
        config: See `hypercorn_config`.
        shutdown: Set from outside, once.
        limits: See `Limits`.
        tls: Gives the context of the next connection, as it may be renewed; None for plain HTTP.
        on_closed: Called once nobody can connect any more, before requests in flight are waited for: whatever would
            never end by itself is ended there.
    """
    install_bounded_buffer()
    loop = asyncio.get_running_loop()
    listener = _Listener(Service(app, config, limits, tls, WorkerContext(None), loop), socket)
    listener.open()
    try:
        await shutdown.wait()
    finally:
        await listener.close(on_closed)


class _Listener:
    """One listening socket and the connections that came from it."""

    def __init__(self, service: Service, socket: sockets.socket) -> None:
        self._service = service
        self._loop = service.loop
        self._socket = socket
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._refusals: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to accept."""
        self._loop.add_reader(self._socket.fileno(), self._accept)

    async def close(self, on_closed: Callable[[], None] | None) -> None:
        """Stop accepting and end every connection: idle ones first, busy ones when the grace is over."""
        self._stop_accepting()
        if on_closed is not None:
            on_closed()
        await asyncio.sleep(SETTLE_SECONDS)
        await self._service.context.terminated.set()
        for connection in self._connections.values():
            connection.cancel_handshake()
        await _wait(self._connections, self._service.limits.grace_seconds - SETTLE_SECONDS)
        await self._abort_rest()

    def _stop_accepting(self) -> None:
        # What the kernel has completed by now is a connection like any other; closing would reset it.
        self._accept()
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    async def _abort_rest(self) -> None:
        if self._connections:
            _log.warning("closing %d connections whose requests did not end in time", len(self._connections))
        for connection in self._connections.values():
            connection.abort()
        rest = {*self._connections, *self._refusals}
        for task in rest:
            task.cancel()
        await _wait(rest, ABORT_SECONDS)

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it was gone before it was ours
            except OSError as error:
                self._pause(error)
                return
            accepted.setblocking(False)
            self._admit(accepted)

    def _pause(self, error: OSError) -> None:
        """Look away for a moment: the socket stays readable, and trying at once would spin."""
        _log.error("cannot accept connections: %s; again in %g s", error.strerror, ACCEPT_REST_SECONDS)
        self._loop.remove_reader(self._socket.fileno())
        self._resume = self._loop.call_later(ACCEPT_REST_SECONDS, self.open)

    def _admit(self, accepted: sockets.socket) -> None:
        if len(self._connections) < self._service.limits.max_connections:
            connection = Connection(self._service, accepted)
            task = self._loop.create_task(connection.run())
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)
        elif self._service.tls is None and len(self._refusals) < REFUSALS:
            task = self._loop.create_task(_refuse(self._loop, accepted))
            self._refusals.add(task)
            task.add_done_callback(self._refusals.discard)
        else:
            # Telling a TLS client why would cost a handshake, the dearest thing a stranger can ask for.
            accepted.close()


async def _refuse(loop: asyncio.AbstractEventLoop, accepted: sockets.socket) -> None:
    """Answer 503, then read until the client has closed: a reset could overtake the answer."""
    with accepted, suppress(OSError):
        async with asyncio.timeout(REFUSAL_SECONDS):
            await loop.sock_sendall(accepted, REFUSAL)
            accepted.shutdown(sockets.SHUT_WR)
            while await loop.sock_recv(accepted, 64 * 1024):
                pass


async def _wait(tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(set(tasks), timeout=seconds)
