"""One accepted connection: its transport, Hypercorn's protocol on it, and every task that runs on its behalf.

Owns: what happens between accept and the last byte. Must not: know how many other connections there are.
"""

from __future__ import annotations

import asyncio
import logging
import socket as sockets
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from oscd.server.bounds import BoundedApp
from oscd.server.handshakes import Handshakes

_log = logging.getLogger("oscd.listener")

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes in a connection's write buffer from which on `send()` waits."""

TLS_CLOSE_SECONDS: Final = 1.0
"""How long a peer may take to answer that TLS ends; shutdown waits for idle connections no longer than
this."""

ORPHAN_SECONDS: Final = 30.0
"""How long an application may go on with a request whose connection is gone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients of one worker can have.

    Attributes:
        max_connections: Open connections at one time; further ones get 503.
        grace_seconds: At shutdown, time for requests in flight to finish.
        stall_seconds: How long one send to a client that does not read may take …
        stream_stall_seconds: … one of a stream of events, whose readers may well pause …
        peer_stall_seconds: … and one of a stream to another node.
        handshake_seconds: How long a TLS handshake may take.
    """

    max_connections: int
    grace_seconds: float = 3.0
    stall_seconds: float = 60.0
    stream_stall_seconds: float = 300.0
    peer_stall_seconds: float = 30.0
    handshake_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections of one listener serve, and how."""

    app: ASGIFramework
    config: Config
    limits: Limits
    tls: Callable[[], ssl.SSLContext] | None
    context: WorkerContext
    loop: asyncio.AbstractEventLoop
    handshakes: Handshakes = field(default_factory=Handshakes)


class Connection:
    """A connection from accept to close.

    Args:
        service: What to serve.
        accepted: The accepted, non-blocking socket; the connection closes it.
    """

    def __init__(self, service: Service, accepted: sockets.socket) -> None:
        self._service = service
        self._accepted = accepted
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._helpers: set[asyncio.Task[None]] = set()
        self._orphaned: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve the connection to its end; a fault on it ends it alone."""
        self._task = asyncio.current_task()
        try:
            reader, writer = await self._open()
            await self._serve(reader, writer)
        except Exception as error:
            if not _is_network_trouble(error):
                # Neither message nor traceback: they may quote what the client sent.
                _log.warning("connection closed after %s", _names(error))
        finally:
            self._release()

    def cancel_handshake(self) -> None:
        """Give up a connection that has not got as far as HTTP."""
        if self._transport is None and self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Drop the connection with whatever is still in its buffers."""
        if self._transport is not None:
            self._transport.abort()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something until it ends or the connection does."""
        task = self._service.loop.create_task(coroutine)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        service = self._service
        tls = None if service.tls is None else service.tls()
        reader = asyncio.StreamReader(loop=service.loop)
        protocol = _Stream(reader, self._lost)
        # Before the handshake, while the kernel still knows.
        address = _address_of(self._accepted) if tls else ""
        try:
            transport, _ = await service.loop.connect_accepted_socket(
                lambda: protocol,
                self._accepted,
                ssl=tls,
                ssl_handshake_timeout=service.limits.handshake_seconds if tls else None,
                ssl_shutdown_timeout=TLS_CLOSE_SECONDS if tls else None,
            )
        except ssl.SSLError as error:
            service.handshakes.failed(address, error)
            raise
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, service.loop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service = self._service
        app = BoundedApp(
            service.app,
            stall_seconds=service.limits.stall_seconds,
            stream_stall_seconds=service.limits.stream_stall_seconds,
            peer_stall_seconds=service.limits.peer_stall_seconds,
            abort=self.abort,
            spawn=self.spawn,
            on_stream=self._be_patient,
        )
        await _Server(app, service.loop, service.config, service.context, {}, reader, writer)

    def _be_patient(self) -> None:
        """Have the kernel, too, wait for a reader of a stream; what it inherited suits short answers."""
        milliseconds = int(self._service.limits.stream_stall_seconds * 1000)
        with suppress(OSError):  # The connection may be gone.
            self._accepted.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, milliseconds)

    def _lost(self) -> None:
        if self._task is not None and not self._task.done():
            self._orphaned = self._service.loop.call_later(ORPHAN_SECONDS, self._task.cancel)

    def _release(self) -> None:
        if self._transport is None:
            self._accepted.close()
        else:
            self._transport.abort()
        if self._orphaned is not None:
            self._orphaned.cancel()
        for helper in self._helpers:
            helper.cancel()


class _Server(TCPServer):
    """Hypercorn's side of a connection, which also notices that an idle client has closed.

    Hypercorn 0.18 goes on to wait for the next request until the idle time is over, so each client that opened,
    asked and closed would hold its place for `keep_alive_timeout` more.
    """

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        if not self.reader.at_eof():
            await super()._idle_timeout()


class _Stream(asyncio.StreamReaderProtocol):
    """A stream that tells when its connection is gone."""

    def __init__(self, reader: asyncio.StreamReader, lost: Callable[[], None]) -> None:
        super().__init__(reader)
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost()


def _address_of(accepted: sockets.socket) -> str:
    try:
        return str(accepted.getpeername()[0])
    except OSError:  # it is gone already
        return "a client"


def _is_network_trouble(error: BaseException) -> bool:
    """Whether it is only that the peer went away or broke TLS, in one task or in several."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_network_trouble(inner) for inner in error.exceptions)
    return isinstance(error, OSError)


def _names(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_names(inner) for inner in error.exceptions)
    return type(error).__name__
