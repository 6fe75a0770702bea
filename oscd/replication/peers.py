"""Owns who the peers of a node are: what OSC_CLUSTER_NODES names, as addresses. Must not ask them anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

NODE_HEADER: Final = "X-OSC-Node"
RUN_HEADER: Final = "X-OSC-Run"
"""In the answer of a node that has no salt: its name, and the random word of its start, by which a node that asks
itself knows itself."""

LEAST_TELLING: Final = 8
"""Bytes of a key; a shorter one may well be part of an honest name."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, or what is thought to be one until it has been asked.

    Attributes:
        name: As the operator wrote it; what the log and reports call it.
        url: Where it is, without a trailing slash.
    """

    name: str
    url: str

    @property
    def host(self) -> str:
        """The name or address of its machine."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_encrypted(self) -> bool:
        """Whether what nodes show each other, and the log, go to it over TLS."""
        return self.url.startswith("https:")


def peers_of(entries: Iterable[str], *, tls: bool) -> tuple[Peer, ...]:
    """The peers that were written down, each once.

    Args:
        entries: `host:port` or `http(s)://host:port`.
        tls: Whether this node serves TLS; a bare `host:port` is then believed to do so too.
    """
    scheme = "https" if tls else "http"
    peers: dict[str, Peer] = {}
    for entry in entries:
        named, separator, address = entry.partition("://")
        url = f"{named.lower()}://{address}" if separator else f"{scheme}://{entry}"
        peers.setdefault(url.lower(), Peer(entry, url))
    return tuple(peers.values())


def holds_key(name: str, keys: Collection[bytes]) -> bool:
    """Whether a peer calls itself by one of these keys, which it was shown or has: such a name is not to be told."""
    return any(len(key) >= LEAST_TELLING and key.decode("ascii") in name for key in keys)
