"""Owns the outermost layer: every request enters and every answer leaves here, a refused one included.

Denies before anything is parsed, counts bodies as they stream in, adds the headers every answer has, counts the
request and writes its one log line. Must not know an entry, nor what a route does, nor wait for a client: the server
bounds that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from oscd.api.exchange import Exchange, Network, exchange_of, take_origin_form
from oscd.api.guard import (
    ALLOWED_HEADERS,
    EVENTS_PATH,
    PREFLIGHT_SECONDS,
    STREAM_PATH,
    Guard,
    shows_ticket,
    ticket_of,
)
from oscd.api.problems import problem_body, problem_headers
from oscd.api.throttle import FailureThrottle
from oscd.errors import (
    BodyTooLarge,
    Forbidden,
    InternalError,
    NotAPeer,
    NotAuthorized,
    NotFound,
    RequestRefused,
    TooManyRequests,
    Unavailable,
)
from oscd.replication.seldom import Seldom
from oscd.streams.ticket import Ticket

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# All that the framework looks at itself. Handlers read the rest from the `Exchange`, so that no key of a caller is
# in an object of a library, which may show it, and none of them is decoded twice.
FRAMEWORK_HEADERS = (b"host", b"content-length", b"transfer-encoding")
_HELD_BACK = frozenset({NotAuthorized.kind, Forbidden.kind, TooManyRequests.kind})

# They last as long as their clients like, which would drown how long requests take.
_ENDLESS = frozenset({STREAM_PATH, EVENTS_PATH})

_log = logging.getLogger("oscd.api")

# What all requests of one worker together may hold of bodies, imports aside.
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
IMPORT_PATH = "/import"


# Gives what a ticket opens, under the API keys accepted now; raises Forbidden where that is nothing.
Redeem = Callable[[str, Sequence[bytes]], Awaitable[Ticket]]


class RequestLog(Protocol):
    """Writes the one line of a request."""

    def __call__(self, **fields: object) -> None:
        """Write it."""


class RequestCount(Protocol):
    """Counts one request; see `oscd.metrics.counters.Counters.request`."""

    def __call__(
        self, method: str, route: str, status: int, seconds: float | None, error: str | None
    ) -> None:
        """Count it."""


class Edge:
    """An ASGI application around the one that has the routes."""

    def __init__(
        self,
        app: App,
        *,
        guard: Callable[[], Guard],
        throttle: FailureThrottle,
        trusted_proxies: Sequence[Network],
        max_body_bytes: int,
        max_import_bytes: int,
        log: RequestLog,
        count: RequestCount,
        redeem: Redeem,
    ) -> None:
        self._app = app
        self._guard = guard
        self._redeem = redeem
        self._throttle = throttle
        self._trusted = trusted_proxies
        self._bodies = _Buffer(max_body_bytes, MAX_BUFFERED_BYTES)
        # Room of their own: an import takes long, and nobody's small write shall be refused meanwhile.
        self._imports = _Buffer(max_import_bytes, max_import_bytes)
        self._log = log
        self._count = count
        self._strangers = Seldom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = time.perf_counter()
        exchange = exchange_of(scope, self._trusted)
        answer = _Answer(exchange, send, self._guard().cors_headers(exchange))
        try:
            await self._serve(scope, exchange, receive, answer)
        except ConnectionError:
            pass  # The client has gone, or takes nothing: no fault of anybody here, and the line below tells.
        except Exception as error:
            exchange.error = error.kind if isinstance(error, RequestRefused) else InternalError.kind
            if not answer.is_begun:
                raise
            # Too late for a problem: the connection ends without the answer's end, which no client takes for whole.
            _log.error("an answer could not be finished", exc_info=error)
        finally:
            method = scope["method"] if exchange.route != "unmatched" else "other"
            seconds = time.perf_counter() - started
            self._count(
                method,
                exchange.route,
                answer.status,
                None if exchange.route in _ENDLESS else seconds,
                exchange.error,
            )
            self._log(
                request_id=exchange.request_id,
                method=method,
                route=exchange.route,
                status=answer.status,
                whole=answer.is_whole,
                duration_ms=round(seconds * 1000, 3),
                client=exchange.address,
            )

    def _tell_of_stranger(self, address: str) -> None:
        if self._strangers.is_due(address):
            _log.warning(
                "%s shows a wrong cluster key: if it is a node of this cluster, both need the same OSC_CLUSTER_KEY",
                address,
            )

    async def _serve(self, scope: Scope, exchange: Exchange, receive: Receive, answer: _Answer) -> None:
        guard = self._guard()
        try:
            take_origin_form(scope, exchange)
            method, path, query_string = scope["method"], scope["path"], scope["query_string"]
            guard.admit(exchange, method, path, query_string)
            if shows_ticket(method, path, query_string):
                exchange.ticket = await self._redeem(ticket_of(query_string), guard.api_keys)
            if scope["path"].startswith("//"):
                # Werkzeug would strip it to one slash, but another path is another name, however it is encoded.
                raise NotFound("There is nothing at this path; /docs lists what there is.")
        except RequestRefused as refusal:
            if isinstance(refusal, NotAPeer) and b"x-api-key" in exchange.headers:
                self._tell_of_stranger(exchange.address)
            refusal = await held_back(refusal, exchange, self._throttle)
            exchange.error = refusal.kind
            await answer.refuse(refusal)
            return
        if guard.is_preflight(exchange, scope["method"]):
            await answer.preflight()
            return
        # By the path of the origin form: a proxy sends the other one.
        buffer = self._imports if scope["path"] == IMPORT_PATH else self._bodies
        headers = [(name, exchange.headers[name]) for name in FRAMEWORK_HEADERS if name in exchange.headers]

        async def counted() -> Message:
            message = await receive()
            part = message.get("body")
            if part and (exchange.refusal is not None or not buffer.take(exchange, len(part))):
                # The application sees the end, so that it answers now; the server drops what still comes.
                return {**message, "body": b"", "more_body": False}
            return message

        try:
            await self._app({**scope, "headers": headers, "oscd": exchange}, counted, answer.send)
        finally:
            buffer.give_back(exchange)


@dataclass(slots=True)
class _Buffer:
    """What requests may hold of bodies.

    Attributes:
        each: Bytes of one.
        together: Bytes of all at one time.
        taken: Bytes of those that are there now.
    """

    each: int
    together: int
    taken: int = 0

    def take(self, exchange: Exchange, size: int) -> bool:
        """Count a part of a body; False where it must be dropped."""
        if exchange.received + size > self.each:
            exchange.refusal = BodyTooLarge(f"The body exceeds {self.each} bytes.")
        elif self.taken + size > self.together:
            exchange.refusal = Unavailable("Too many large bodies are being received.")
        else:
            exchange.received += size
            self.taken += size
            return True
        return False

    def give_back(self, exchange: Exchange) -> None:
        """Count no more what a request has taken: now, or when nothing of it is in memory any more."""
        if exchange.settled is None or exchange.settled.done():
            self._free(exchange.received)
        else:
            exchange.settled.add_done_callback(lambda _: self._free(exchange.received))

    def _free(self, size: int) -> None:
        self.taken -= size


async def held_back(refusal: RequestRefused, exchange: Exchange, throttle: FailureThrottle) -> RequestRefused:
    """The refusal to answer with, which waits where its address fails often.

    Failed authentications do, and refused derivations: a flood of unknown keys would otherwise be answered as fast
    as it can ask, and take from those who read what it does not get of the key ring.
    """
    if refusal.kind in _HELD_BACK:
        try:
            await throttle.failed(exchange.address)
        except RequestRefused as busy:
            return busy
    return refusal


class _Answer:
    """The answer of one request as it leaves."""

    def __init__(self, exchange: Exchange, send: Send, cors_headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = [(b"x-request-id", exchange.request_id.encode("ascii")), *cors_headers]
        self._left: int | None = None
        self.status = 499  # What a log calls a client that left before it was answered.
        self.is_begun = False
        self.is_whole = False

    async def send(self, message: Message) -> None:
        """Send one ASGI message of the answer.

        A body of known length ends with its last byte: the framework's way to end one, an empty message more, costs
        a way through every layer below.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_begun = True
            self._left = _length(message["headers"])
            message = {**message, "headers": [*message["headers"], *self._headers]}
        elif self.is_whole:
            return
        elif self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left == 0:
                message = {**message, "more_body": False}
        await self._send(message)
        self.is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def refuse(self, refusal: RequestRefused) -> None:
        """Answer with a problem."""
        body = problem_body(refusal)
        headers = [*problem_headers(refusal), (b"content-length", b"%d" % len(body))]
        await self._whole(refusal.status, headers, body)

    async def preflight(self) -> None:
        """Tell a browser what its page may send."""
        await self._whole(
            204,
            [
                (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),
                (b"access-control-allow-headers", ALLOWED_HEADERS.encode()),
                (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
            ],
            b"",
        )

    async def _whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """How many bytes the body of an answer will have, where the answer says so."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None
