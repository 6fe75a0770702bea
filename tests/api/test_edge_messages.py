"""What passes between the server, the edge and the framework, message by message."""

from __future__ import annotations

from typing import Any

from oscd.api.edge import Edge, Message, Receive, Scope, Send
from oscd.api.guard import Guard
from oscd.api.throttle import FailureThrottle
from oscd.streams.ticket import Tickets

HEADERS = [
    (b"host", b"localhost"),
    (b"content-length", b"0"),
    (b"x-user-key", b"a user key"),
    (b"x-api-key", b"an API key"),
    (b"cookie", b"a=b"),
]


class Framework:
    """Answers as Quart does: one message per part of the body, then an empty one."""

    def __init__(self, parts: list[bytes], length: int | None) -> None:
        self.parts = parts
        self.length = length
        self.seen: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = scope
        headers = [] if self.length is None else [(b"content-length", b"%d" % self.length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def bodies(framework: Framework, method: str = "GET") -> list[tuple[bytes, bool]]:
    """The body messages that reach the server: bytes, and whether more will come."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    edge = Edge(
        framework,
        guard=lambda: Guard(api_keys=(b"an API key",), hosts=None, origins=frozenset()),
        throttle=FailureThrottle(),
        trusted_proxies=(),
        max_body_bytes=1024,
        max_import_bytes=1024,
        log=lambda **_: None,
        count=lambda *_: None,
        redeem=Tickets(lambda: bytes(64)).redeem,
    )
    await edge(scope_of(method), receive, send)
    return [(message["body"], message["more_body"]) for message in sent[1:]]


def scope_of(method: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/configs",
        "raw_path": b"/configs",
        "query_string": b"",
        "headers": HEADERS,
        "client": ("127.0.0.1", 1),
    }


async def test_a_body_of_known_length_ends_with_its_last_byte() -> None:
    """The server hears of the end with the last part, and hears of nothing after it."""
    assert await bodies(Framework([b"ab", b"cd"], 4)) == [(b"ab", True), (b"cd", False)]


async def test_an_empty_body_of_known_length_ends_once() -> None:
    """A length of zero is a known length."""
    assert await bodies(Framework([b""], 0)) == [(b"", False)]


async def test_a_body_of_unknown_length_ends_where_the_framework_ends_it() -> None:
    """No part of a stream is held back or taken for the last."""
    assert await bodies(Framework([b"ab", b"cd"], None)) == [(b"ab", True), (b"cd", True), (b"", False)]


async def test_the_answer_to_head_ends_though_its_length_never_comes() -> None:
    """A length without a body leaves the end to the framework."""
    assert await bodies(Framework([], 4), "HEAD") == [(b"", False)]


async def test_the_framework_is_shown_no_key_of_a_caller() -> None:
    """Invariant 7: a library's request object cannot show what it never got."""
    framework = Framework([b"ab"], 2)
    await bodies(framework)
    assert framework.seen["headers"] == [(b"host", b"localhost"), (b"content-length", b"0")]
    assert framework.seen["oscd"].headers[b"x-user-key"] == b"a user key"
