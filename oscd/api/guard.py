"""Owns who may ask: host, page origin, API key, cluster key. Runs on headers alone, before any of the body is read.

Must not parse a body, know a route's meaning, or say which part of a key was wrong.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address

from oscd.api.exchange import Exchange
from oscd.api.validation import parse_query
from oscd.errors import Forbidden, Invalid, NotAPeer, NotAuthorized, NotFound

OPEN_PATHS = frozenset(
    {
        "/",
        "/health",
        "/ready",
        "/metrics",
        "/cluster/health",
        "/sse/health",
        "/docs",
        "/docs/oscd-docs.css",
        "/docs/oscd-docs.js",
        "/openapi.json",
    }
)
# The one path that a ticket opens.
STREAM_PATH = "/sse/subscribe"
# What only nodes of the cluster may see: the shipped log, and the salt. No API key opens these paths.
EVENTS_PATH = "/cluster/events"
SALT_PATH = "/cluster/salt"
PEER_PATHS = frozenset({EVENTS_PATH, SALT_PATH})
# Characters of an IPv6 address with an IPv4 one in it and a zone: what is longer is none, and is not remembered.
_LONGEST_ADDRESS = 64
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Nothing can be decided while one of these says two things; whatever else came twice is refused after them.
_DECIDING = frozenset({"host", "origin", "x-api-key"})
_HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::[0-9]*)?")

PREFLIGHT_SECONDS = 600
ALLOWED_HEADERS = (
    "X-API-Key, X-User-Key, X-Actor, X-Request-ID, X-OSC-After, X-Backup-Password, If-Match, If-None-Match, "
    "Content-Type, Last-Event-ID"
)
EXPOSED_HEADERS = "ETag, Location, Link, Retry-After, X-Request-ID, X-OSC-Position"


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one node.

    Attributes:
        api_keys: The accepted keys; empty where none is required.
        hosts: Names that `Host` may hold besides the harmless ones; None where any host may be asked for.
        origins: Page origins that may call; `*` is any.
        cluster_keys: What nodes may show each other; empty where clustering is off.
    """

    api_keys: tuple[bytes, ...] = field(repr=False)
    hosts: frozenset[str] | None
    origins: frozenset[str]
    cluster_keys: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> frozenset[bytes]:
        """Every key that opens something here."""
        return frozenset((*self.api_keys, *self.cluster_keys))

    def admit(self, exchange: Exchange, method: str, path: str, query_string: bytes = b"") -> None:
        """Let a request in.

        One that shows a ticket instead of an API key is let through to the edge, which redeems the ticket.

        Raises:
            Forbidden: It may not ask: host, origin, API key or cluster key.
            NotFound: Only nodes of a cluster have this path, and this node is in none.
            BadRequest: One of the headers that decide came twice.
        """
        exchange.require_single(_DECIDING)
        if self.hosts is not None and not _is_harmless(exchange.host, self.hosts):
            raise Forbidden(
                "Host: this name is not served here; the operator may list it in OSC_ALLOWED_HOSTS."
            )
        if path in PEER_PATHS:
            self._admit_peer(exchange, method)
        elif not self.api_keys:
            self._refuse_foreign_page(exchange, method)
        elif (
            path not in OPEN_PATHS
            and method != "OPTIONS"
            # Of a request that shows both, both must be good.
            and (b"x-api-key" in exchange.headers or not shows_ticket(method, path, query_string))
        ):
            exchange.api_key = self._require_api_key(exchange.headers.get(b"x-api-key", b""))

    def cors_headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """What lets a page of a listed origin read the answer."""
        if not self.origins:
            return []
        headers = [(b"vary", b"Origin")]
        origin = exchange.text(b"origin")
        if origin is not None and self._is_listed(origin):
            headers += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
            ]
        return headers

    def is_preflight(self, exchange: Exchange, method: str) -> bool:
        """Whether a browser asks on behalf of a listed origin what it may send."""
        origin = exchange.text(b"origin")
        return (
            method == "OPTIONS"
            and b"access-control-request-method" in exchange.headers
            and origin is not None
            and self._is_listed(origin)
        )

    def _is_listed(self, origin: str) -> bool:
        return "*" in self.origins or origin.lower() in self.origins

    def _refuse_foreign_page(self, exchange: Exchange, method: str) -> None:
        if b"origin" not in exchange.headers or method in SAFE_METHODS:
            return
        origin = exchange.headers[b"origin"].decode("latin-1")
        if self._is_listed(origin):
            return
        if origin.lower() != f"{exchange.scheme}://{exchange.host}":
            raise Forbidden("Origin: pages of this origin may not change anything here (OSC_CORS_ORIGINS).")

    def _admit_peer(self, exchange: Exchange, method: str) -> None:
        if not self.cluster_keys:
            raise NotFound("There is nothing at this path: clustering is off (OSC_CLUSTER_ENABLED).")
        if method == "OPTIONS":
            return
        shown = _accepted(exchange.headers.get(b"x-api-key", b""), self.cluster_keys)
        if shown is None:
            raise NotAPeer("X-API-Key: this path takes the cluster key (OSC_CLUSTER_KEY), and no API key.")
        exchange.cluster_key = shown

    def _require_api_key(self, given: bytes) -> bytes:
        """The accepted key that was given."""
        accepted = _accepted(given, self.api_keys)
        if accepted is None:
            raise Forbidden("X-API-Key is missing or wrong.")
        return accepted


def _accepted(given: bytes, keys: Iterable[bytes]) -> bytes | None:
    """The key that was given; None where it is none of these."""
    # Every key is compared, in constant time, so that the time tells neither which one was close nor how.
    matches = [key for key in keys if hmac.compare_digest(given, key)]
    return matches[0] if matches else None


def shows_ticket(method: str, path: str, query_string: bytes) -> bool:
    """Whether a request would open a stream, and shows a ticket for it."""
    if path != STREAM_PATH or method not in {"GET", "HEAD"}:
        return False
    return any(part.startswith(b"ticket=") and part != b"ticket=" for part in query_string.split(b"&"))


def ticket_of(query_string: bytes) -> str:
    """The ticket a request shows.

    Raises:
        Forbidden: What it shows cannot be one.
    """
    try:
        return parse_query(query_string, {"ticket"}).get("ticket", "")
    except Invalid:
        raise Forbidden("ticket: it must be given once, in a query that is percent-encoded UTF-8.") from None


def require_user_key(exchange: Exchange, min_length: int) -> str:
    """The user key of a request that reads or writes values.

    Raises:
        NotAuthorized: It is missing or too short.
    """
    user_key = exchange.text(b"x-user-key")
    if user_key is None:
        raise NotAuthorized("X-User-Key is missing: it is the key that values are encrypted with.")
    if len(user_key) < min_length:
        raise NotAuthorized(f"X-User-Key is too short: it has at least {min_length} characters.")
    return user_key


def _is_harmless(host: str, listed: Collection[str]) -> bool:
    """Whether a name cannot have been rebound by a stranger's DNS: an IP literal, a local name, or a listed one."""
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts[1].strip("[]")
    if host in listed or name in listed or name == "localhost" or _is_single_label(name):
        return True
    return len(name) <= _LONGEST_ADDRESS and _is_address(name)


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_single_label(name: str) -> bool:
    return name != "" and "." not in name and ":" not in name
