"""What oscd adds to Hypercorn's protocol layer so that no client decides how long or how much.

Owns: the bounds on one request/response exchange, and the one correction of a Hypercorn class. Must not: know
sockets, limits on connections, or what the application does.

Four things Hypercorn 0.18 leaves open:

1. **A response nobody reads.** `send()` waits for ever for a peer that opens no window. Here it waits
   `stall_seconds`, then the connection is aborted.
2. **A request body nobody reads.** Hypercorn hands body parts to a queue of `max_app_queue_size`. When the
   application has answered early (413, say) and reads no more, the connection's reader blocks on the full
   queue, and so does the `http.disconnect` that ends the stream: the connection is never closed. Here what
   the application leaves unread is taken in and dropped. For `LINGER_SECONDS` the answer's end is held back
   meanwhile: closing a connection on unread bytes makes TCP send a reset, which can destroy the very answer
   that said why (RFC 9112, section 9.6).
3. **A response to an HTTP/2 peer with a zero window**: see `BoundedStreamBuffer`.
4. **A response that is read as fast as it is written.** No `send()` of it ever waits, and the event loop stands
   still for everybody else. Here each part of a streamed response gives the others a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import hypercorn.protocol.h2 as hypercorn_h2
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)

LINGER_SECONDS: Final = 1.0
"""How long an answered request may go on sending its body before the connection is closed under it."""

EVENT_STREAM: Final = b"text/event-stream"
PEER_STREAM: Final = b"application/vnd.oscd.events"
"""Answers without an end: to subscribers, and to other nodes."""

_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


class ClientStalled(ConnectionAbortedError):
    """`send()` gave up on a client that does not read; its connection is already cut."""


class BoundedStreamBuffer(StreamBuffer):
    """Hypercorn's buffer of one HTTP/2 response, with its brake repaired.

    `push` is to hold the application back while the buffer is full and `pop`, called by the sending task,
    is to let it go on when the buffer has emptied. In Hypercorn 0.18 `pop` compares the length of *what it
    took out* with the low water mark, not of what is left. While the peer's flow-control window is zero it
    takes nothing out, 0 is below the mark, and the application is let go: each `push` wakes the sending
    task, whose empty `pop` releases that very `push`, so a response to a peer that never opens its window
    is buffered whole, however long it is. `push` also passed on a wake-up left over from an earlier `pop`.
    """

    async def push(self, data: bytes) -> None:
        """Append, and wait while the buffer is full.

        Raises:
            BufferCompleteError: The stream is closed.
        """
        await self._paused.clear()
        await super().push(data)

    async def pop(self, max_length: int) -> bytes:
        """Take out at most `max_length` bytes, which may be none."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


def install_bounded_buffer() -> None:
    """Have every HTTP/2 connection of this process use `BoundedStreamBuffer`.

    Hypercorn names the class in its module and offers no other way in.
    """
    hypercorn_h2.StreamBuffer = BoundedStreamBuffer  # type: ignore[misc]


class BoundedApp:
    """An application as Hypercorn calls it, for one connection.

    Args:
        app: The ASGI application; it sees `http` scopes only.
        stall_seconds: How long one `send()` may wait for the client to read …
        stream_stall_seconds: … in a stream of events …
        peer_stall_seconds: … and in one to another node, which takes what it gets or has gone.
        abort: Cuts the connection.
        spawn: Runs a coroutine until it ends or the connection does.
        on_stream: Called when an answer turns out to be a stream of events.
    """

    def __init__(
        self,
        app: ASGIFramework,
        *,
        stall_seconds: float,
        stream_stall_seconds: float,
        peer_stall_seconds: float,
        abort: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        on_stream: Callable[[], None],
    ) -> None:
        self.app = app
        self.stall_seconds = stall_seconds
        self.stream_stall_seconds = stream_stall_seconds
        self.peer_stall_seconds = peer_stall_seconds
        self.abort = abort
        self.spawn = spawn
        self.on_stream = on_stream

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        """Run the application for one request; a WebSocket handshake is refused with 403."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": None})
            return
        bounded = _Bounded(self, scope, receive, send)
        try:
            with suppress(ClientStalled):  # for the application to see; it is no fault of its own
                await self.app(scope, bounded.receive, bounded.send)
        finally:
            bounded.discard_rest()


class _Bounded:
    """One request and its response."""

    __slots__ = ("_bounds", "_is_cut", "_is_stream", "_receive", "_received", "_send", "_stall_seconds")

    def __init__(
        self, bounds: BoundedApp, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        self._bounds = bounds
        self._receive = receive
        self._send = send
        self._is_cut = False
        self._is_stream = False
        self._stall_seconds = bounds.stall_seconds
        self._received = asyncio.Event()
        if _has_no_body(scope):
            self._received.set()

    async def receive(self) -> ASGIReceiveEvent:
        message = await self._receive()
        if not message.get("more_body", False):  # the last part, or http.disconnect
            self._received.set()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] != "http.response.body":
            if message["type"] == "http.response.start":
                self._judge(_content_type(message))
            await self._send_bounded(message)
        elif not message.get("more_body", False):
            await self._send_last(message)
        else:
            await self._send_bounded(message)
            if not self._is_stream:
                # Sending to a client that reads as fast never waits, so without this nobody else would get a turn.
                # A stream waits for events, or for the log, by itself.
                await asyncio.sleep(0)

    def discard_rest(self) -> None:
        """Take in and drop what the client still sends of its request, if anything."""
        if not self._received.is_set():
            self._bounds.spawn(self._discard())

    async def _discard(self) -> None:
        while not self._received.is_set():
            await self.receive()

    async def _send_last(self, message: HTTPResponseBodyEvent) -> None:
        if not self._received.is_set():
            self.discard_rest()
            await self._send_bounded({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._received.wait()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send_bounded(message)

    async def _send_bounded(self, message: ASGISendEvent) -> None:
        # A timer, not asyncio.timeout: it is taken for every message, and nearly never runs out. Cutting the
        # connection ends the send.
        stalled = asyncio.get_running_loop().call_later(self._stall_seconds, self._cut)
        try:
            await self._send(message)
        finally:
            stalled.cancel()
        if self._is_cut:
            raise ClientStalled("the client does not read")

    def _judge(self, content_type: bytes) -> None:
        if content_type.startswith(EVENT_STREAM):
            self._is_stream = True
            self._stall_seconds = self._bounds.stream_stall_seconds
            self._bounds.on_stream()
        elif content_type.startswith(PEER_STREAM):
            self._stall_seconds = self._bounds.peer_stall_seconds

    def _cut(self) -> None:
        self._is_cut = True
        self._bounds.abort()


def _content_type(message: HTTPResponseStartEvent) -> bytes:
    return next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")


def _has_no_body(scope: HTTPScope) -> bool:
    """Whether the head alone says that no body follows (RFC 9112, section 6.3; HTTP/2 heads do not say)."""
    return scope["http_version"] != "2" and not any(name in _BODY_HEADERS for name, _ in scope["headers"])
