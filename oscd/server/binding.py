"""The listening sockets: one per worker, all on one port, made once by the supervisor.

Owns: resolving, binding and the TCP options that accepted connections inherit. Must not: accept.

Each worker has a `SO_REUSEPORT` socket of its own and the kernel deals connections out between them by a
hash of both ends; processes that accept from one shared socket leave most of the work to whichever wakes
first. The supervisor keeps every socket open, so that connections made while a worker is being replaced
wait for the next one in its queue.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Final

from oscd.errors import StartRefused

BACKLOG: Final = 1024
"""Connections that the kernel has completed and no worker has taken yet, per worker."""

UNACKNOWLEDGED_MS: Final = 60_000
"""A peer that acknowledges nothing, or keeps its receive window at zero, for so long is gone (RFC 5482)."""

KEEPALIVE_IDLE_SECONDS: Final = 60
KEEPALIVE_INTERVAL_SECONDS: Final = 15
KEEPALIVE_PROBES: Final = 4

_IN_WORDS: Final = {
    errno.EADDRINUSE: "the port is in use; stop what listens there, or choose another OSC_HOST_PORT",
    errno.EACCES: "not allowed; ports below 1024 need a privilege, choose another OSC_HOST_PORT",
    errno.EADDRNOTAVAIL: "this machine has no such address; check OSC_HOST",
}


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host, by name or address, stays on this machine; no name is resolved."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bind_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Open `count` listening sockets on one address.

    Args:
        host: An IPv4 or IPv6 address, or a name. Of a name's addresses the first is taken, an IPv4 one
            before IPv6.
        port: 0 to 65535; 0 lets the kernel choose one, the same for all.
        count: At least 1.

    Raises:
        StartRefused: The name cannot be resolved, or the address is not ours to listen on.
    """
    family, address = _resolve(host, port)
    with ExitStack() as opened:
        try:
            first = opened.enter_context(_listen(family, address, shared=False))
            # The first socket listens alone, so whoever has the port, even another oscd, makes this fail.
            # Only then does it admit its siblings: no moment at which two services could both succeed.
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            address = first.getsockname()
            rest = [opened.enter_context(_listen(family, address, shared=True)) for _ in range(count - 1)]
        except OSError as error:
            reason = _IN_WORDS.get(error.errno or 0, error.strerror)
            raise StartRefused(f"cannot listen on {host} port {port}: {reason}") from error
        opened.pop_all()
    return [first, *rest]


def _resolve(host: str, port: int) -> tuple[int, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise StartRefused(
            f"cannot listen on {host}: OSC_HOST must be an address or a name of this machine"
        ) from error
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _listen(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `::` means IPv6 alone: an IPv4 peer would show as ::ffff:a.b.c.d and match no configured
            # address.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_inherited_options(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        opened.pop_all()
    return sock


def _set_inherited_options(sock: socket.socket) -> None:
    """Set what Linux copies to each accepted connection (tcp(7)), which then costs no call per connection."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
