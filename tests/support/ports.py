"""Owns ports that a node may come back to after a restart. Must not bind one for longer than it takes to look."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LEAST = 10_000

# Not the seeded one: test processes that run side by side are seeded alike and would take the same ports.
_chance = random.SystemRandom()


def lasting_ports(count: int) -> list[int]:
    """So many free ports which the kernel gives to no connection while the node that serves there is down."""
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    found: set[int] = set()
    while len(found) < count:
        port = _chance.randrange(_LEAST, int(ephemeral))
        if port not in found and _is_free(port):
            found.add(port)
    return sorted(found)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
