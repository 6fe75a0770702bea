"""Owns what is known of one request from its headers alone, before any of its body is read.

Must not decide anything: the guard does.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote

from oscd.errors import BadRequest, RequestRefused
from oscd.streams.ticket import Ticket

Network = IPv4Network | IPv6Network
Headers = Iterable[tuple[bytes, bytes]]

# Headers that mean one thing, so that two of them mean nothing: the request is refused before a choice is made.
SINGLE = frozenset(
    {
        b"x-api-key",
        b"x-user-key",
        b"x-actor",
        b"x-osc-after",
        b"x-request-id",
        b"x-backup-password",
        b"last-event-id",
        b"content-type",
        b"host",
        b"origin",
    }
)

# Headers that hold a secret.
KEYS = frozenset({b"x-api-key", b"x-user-key", b"x-backup-password"})

_ABSOLUTE_FORM = re.compile(rb"https?://([^/]+)(/.*)?", re.IGNORECASE | re.DOTALL)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """One request on its way through the edge.

    Attributes:
        request_id: The caller's, or a new one.
        headers: Lower-case name → value; of a repeated one all, as one list (RFC 9110 §5.3).
        repeated: Names that must come once and came twice; of each the last value counts until it is refused.
        address: The client's address, as far as it can be believed.
        scheme: `http` or `https`, as the client sees it.
        host: The `Host` the client sees, lower-case; "" where there is none.
        route: Template of the matched route, for logs and metrics.
        api_key: Which of the accepted API keys it showed; None where none is required, or none was shown.
        cluster_key: The cluster key it showed; only a path of nodes takes one, and no other request has any.
        ticket: What the ticket opens that it showed.
        raw_headers: The server's own list of the headers.
        received: Bytes of the body so far.
        settled: Done when nothing of the body is in memory any more, where that may be after the answer.
        refusal: Why the body was not taken, where it was not.
        error: `kind` of the refusal it is answered with, for metrics.
    """

    request_id: str
    headers: dict[bytes, bytes]
    repeated: list[str]
    address: str
    scheme: str
    host: str
    route: str = "unmatched"
    api_key: bytes | None = field(default=None, repr=False)
    cluster_key: bytes | None = field(default=None, repr=False)
    ticket: Ticket | None = None
    raw_headers: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)
    received: int = 0
    settled: asyncio.Future[None] | None = field(default=None, repr=False)
    refusal: RequestRefused | None = field(default=None)
    error: str | None = None

    def text(self, name: bytes) -> str | None:
        """A header as text, decoded as Latin-1 like everything HTTP; None where absent or empty."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else None

    def forget_keys(self) -> None:
        """Let go of the keys it showed: a stream may last for days after they were needed."""
        for name in KEYS:
            self.headers.pop(name, None)
        self.raw_headers[:] = [header for header in self.raw_headers if header[0].lower() not in KEYS]

    def require_single(self, names: Collection[str] | None = None) -> None:
        """Refuse what cannot be understood in one way.

        Args:
            names: Look at these headers only; None: at all that must come once.

        Raises:
            BadRequest: A header came twice that must come once.
        """
        for name in self.repeated:
            if names is None or name in names:
                raise BadRequest(f"{name}: this header was given twice; send it once.")


def exchange_of(scope: dict[str, Any], trusted: Sequence[Network]) -> Exchange:
    """Read what a request says of itself.

    Args:
        scope: The ASGI scope.
        trusted: Networks whose `X-Forwarded-*` headers are believed.
    """
    headers: dict[bytes, bytes] = {}
    repeated: list[str] = []
    for name, value in scope["headers"]:
        if name not in headers:
            headers[name] = value
        elif name in SINGLE:
            repeated.append(name.decode("latin-1"))
            headers[name] = value
        else:
            headers[name] += b", " + value
    peer = scope.get("client")
    exchange = Exchange(
        request_id=_request_id(headers.get(b"x-request-id")),
        headers=headers,
        repeated=repeated,
        address=peer[0] if peer else "",
        scheme=scope["scheme"],
        host=headers.get(b"host", b"").decode("latin-1").lower(),
        raw_headers=scope["headers"],
    )
    if trusted and _is_trusted(exchange.address, trusted):
        _believe_proxy(exchange, trusted)
    return exchange


def take_origin_form(scope: dict[str, Any], exchange: Exchange) -> None:
    """Reduce the absolute form of a request target, as proxies get it, to its path; its host beats `Host`.

    RFC 9112 §3.2. `OPTIONS *` stays as it is, and no route is there.

    Raises:
        BadRequest: The target is neither a path nor an http(s) URL.
    """
    target: bytes = scope["raw_path"]
    if target.startswith(b"/") or target == b"*":
        return
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise BadRequest("The request target must be a path that begins with /.")
    exchange.host = absolute[1].decode("latin-1").lower()
    scope["raw_path"] = absolute[2] or b"/"
    scope["path"] = unquote(scope["raw_path"].decode("latin-1"))


def _request_id(given: bytes | None) -> str:
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return secrets.token_hex(8)


def _believe_proxy(exchange: Exchange, trusted: Sequence[Network]) -> None:
    """Take the client's address, scheme and host from the proxy; the last address no proxy of ours has added."""
    for forwarded in reversed((exchange.text(b"x-forwarded-for") or "").split(",")):
        address = _address(forwarded.strip())
        if address is None:
            break
        exchange.address = str(address)
        if not _is_trusted(exchange.address, trusted):
            break
    scheme = _last(exchange.text(b"x-forwarded-proto"))
    if scheme in {"http", "https"}:
        exchange.scheme = scheme
    exchange.host = _last(exchange.text(b"x-forwarded-host")) or exchange.host


def _last(forwarded: str | None) -> str:
    """What the nearest proxy has added; what stands before it anybody may have sent."""
    return (forwarded or "").rpartition(",")[2].strip().lower()


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _address(address)
    return parsed is not None and any(parsed in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
