"""One request to a node and its answer.

Owns: timeouts, how much of an answer is taken, which calls are tried again, and that a library's exception, which
holds the request and its keys, never leaves. Must not know an endpoint.

Redirects are not followed: keys would go to whoever is named. Proxy variables are not read: a proxy would read keys
sent over plain HTTP, and nobody who set one for the web meant this node.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from oscd import __version__
from oscd.client.entries import Json
from oscd.client.errors import NO_NODE, AnswerUnreadable, Unreachable, UsageRefused
from oscd.client.refusals import refusal_of
from oscd.client.target import Target

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
"""Without a byte; a node answers a write that could not begin after 5 s, and derives a new key in one or two."""

SILENCE_SECONDS: Final = 45.0
"""Of a stream, three keep-alives by default; then it is taken for dead."""

EVENT_STREAM: Final = "text/event-stream"
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
TRIES: Final = 4
MAX_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask.

    Attributes:
        path: Percent-encoded.
        body: A JSON value to send; None sends no body.
        with_user_key: Whether the caller's user key goes along.
        answer_seconds: How long there may be no byte of the answer.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Json] | None = field(default=None, repr=False)
    with_user_key: bool = True
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


class Wire:
    """Connections to one node, kept until it is closed.

    Args:
        transport: Stands for the network in tests.
        pause: Sleeps.

    Raises:
        UsageRefused: A file of certificates cannot be used.
    """

    def __init__(
        self,
        target: Target,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target = target
        self._pause = pause
        tls = target.tls()
        self._http = httpx.Client(
            headers={"User-Agent": f"oscd/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=tls
            if tls is not None
            else False,  # False: plain HTTP; making a context takes a tenth of a second
            trust_env=False,
            follow_redirects=False,
            # A node sets none; whatever else answers here shall fill no memory and is sent none back.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            transport=transport,
        )

    @property
    def url(self) -> str:
        """The node's address."""
        return self._target.url

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ask(self, call: Call) -> Answer:
        """Send a call and take its whole answer.

        What is answered "later" is asked again a few times: after 429 any call, as the node refused it before it
        began; after 503 only a read, as a write may have been done all the same.

        Raises:
            Unreachable: There was no whole answer.
            AnswerUnreadable: It is larger than any of a node.
            Refusal: The node answered no.
        """
        tries = 1
        while (
            _is_for_later(call, answer := self._whole(call, self._send(call, call.answer_seconds)))
            and tries < TRIES
        ):
            self._pause(_retry_after(answer))
            tries += 1
        if not 200 <= answer.status < 300:
            raise refusal_of(answer.status, answer.content)
        return answer

    @contextmanager
    def stream(self, call: Call) -> Iterator[Iterator[bytes]]:
        """Open an answer without end; its bytes come as they arrive.

        The iterator raises `Unreachable` where it is cut off, or nothing came for `SILENCE_SECONDS`.

        Raises:
            Unreachable: There was no answer.
            AnswerUnreadable: It is no stream of events, or a refusal larger than any.
            Refusal: The node answered no.
        """
        response = self._send(call, SILENCE_SECONDS)
        if response.status_code != 200:
            answer = self._whole(call, response)
            raise refusal_of(answer.status, answer.content)
        with closing(response):
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != EVENT_STREAM:
                raise AnswerUnreadable(f"{self.url}: answers without a stream; {NO_NODE}")
            yield self._parts(call, response)

    def _send(self, call: Call, silence_seconds: float) -> httpx.Response:
        """Send a call and take the head of its answer."""
        request = self._http.build_request(
            call.method,
            self.url + call.path,
            params=dict(call.query),
            headers=self._headers(call),
            content=_body(call),
            timeout=httpx.Timeout(silence_seconds, connect=CONNECT_SECONDS),
        )
        try:
            return self._http.send(request, stream=True)
        except httpx.RequestError as error:
            failure = self._failure(call, error)
        # After the handler: the library's exception holds the request, and with it the keys.
        raise failure

    def _parts(self, call: Call, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
            return
        except httpx.RequestError as error:
            failure = self._failure(call, error)
        raise failure

    def _whole(self, call: Call, response: httpx.Response) -> Answer:
        content = bytearray()
        with closing(response):
            for part in self._parts(call, response):
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise AnswerUnreadable(f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Answer(response.status_code, headers, bytes(content))

    def _headers(self, call: Call) -> dict[bytes, bytes]:
        headers = {name.encode(): _header(name, text) for name, text in call.headers.items()}
        if call.body is not None:
            headers[b"Content-Type"] = b"application/json"
        if self._target.api_key is not None:
            headers[b"X-API-Key"] = self._target.api_key
        if self._target.user_key is not None and call.with_user_key:
            headers[b"X-User-Key"] = self._target.user_key
        if self._target.actor is not None:
            headers[b"X-Actor"] = self._target.actor
        return headers

    def _failure(self, call: Call, error: httpx.RequestError) -> Unreachable:
        """What went wrong, in words that hold nothing of the request."""
        if isinstance(error, httpx.ConnectTimeout):
            return Unreachable(f"{self.url}: no connection within {CONNECT_SECONDS:g} s")
        if isinstance(error, httpx.ConnectError):
            trust = "OSC_CLIENT_CA_CERTS says whom to trust"
            advice = trust if "CERTIFICATE" in str(error) else "is a node serving there? OSC_URL says where"
            return Unreachable(f"{self.url}: {error}; {advice}")
        how = (
            "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection was cut off"
        )
        unknown = "" if call.method == "GET" else "; whether this was done is not known"
        return Unreachable(f"{self.url}: {how}{unknown}")


def _header(name: str, text: str) -> bytes:
    """A header as RFC 9110 allows it everywhere.

    Raises:
        UsageRefused: It is empty, or holds a character that is not visible ASCII.
    """
    if not (text.isascii() and text.isprintable() and text.strip(" ") == text != ""):
        raise UsageRefused(f"{name}: accepted are visible ASCII characters, as a node gave them")
    return text.encode()


def _body(call: Call) -> bytes | None:
    if call.body is None:
        return None
    try:
        return json.dumps(call.body, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        pass
    raise UsageRefused(
        "the value is not JSON: it holds NaN, Infinity, half a surrogate pair, or too many levels"
    )


def _is_for_later(call: Call, answer: Answer) -> bool:
    return answer.status == 429 or (answer.status == 503 and call.method == "GET")


def _retry_after(answer: Answer) -> float:
    """Seconds to wait, as the node says; its clock never comes as a date."""
    given = answer.headers.get("retry-after", "")
    return min(float(given), MAX_PAUSE_SECONDS) if given.isascii() and given.isdigit() else 1.0
