"""What the service manager is told of a node: ready, reloading, alive, stopping; the protocol of sd_notify(3).

Owns: the three variables of that protocol and the datagrams. Must not: decide what is true of the node, leave a
variable to a child process (whose word would then count for the node's), or end the node where nobody listens.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_log = logging.getLogger("oscd.supervisor")

SEND_SECONDS: Final = 0.5
"""How long the manager may take to make room for a datagram; the supervisor has workers to look after meanwhile."""

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The one that started this node, systemd say; one that does not exist is told nothing.

    Args:
        address: Of its socket, as `NOTIFY_SOCKET` has it: a path, or `@` and an abstract name (unix(7)). None where
            nobody wants to know.
        watchdog_seconds: Without a sign of life for so long it kills the node; None where it does not.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = None if address is None else _socket_name(address)
        self._beat_seconds = None if watchdog_seconds is None or address is None else watchdog_seconds / 2
        self._beat_at = 0.0
        self._status = ""

    def ready(self, status: str) -> None:
        """The node serves, for the first time or again after `reloading`."""
        self._send("READY=1", self._new_status(status))

    def reloading(self) -> None:
        """The node reads anew what it reads at SIGHUP; `ready` says that it has."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The node has begun to stop."""
        self._send("STOPPING=1", self._new_status("Stopping"))

    def status(self, status: str) -> None:
        """Say how it goes, in words for `systemctl status`; the same words again are not sent."""
        if status != self._status:
            self._send(self._new_status(status))

    def alive(self, now: float) -> None:
        """Give a sign of life, where one is due: twice in the time after which the node would be killed."""
        if self._beat_seconds is not None and now >= self._beat_at:
            self._beat_at = now + self._beat_seconds
            self._send("WATCHDOG=1")

    def due(self) -> float:
        """When the next sign of life is due, on the monotonic clock."""
        return float("inf") if self._beat_seconds is None else self._beat_at

    def _new_status(self, status: str) -> str:
        self._status = status
        return f"STATUS={status}"

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            # The node serves all the same; what follows from silence is the manager's to decide.
            _log.warning("NOTIFY_SOCKET: %s was not told: %s", assignments[0], error.strerror or "no room")


def taken_from(environ: MutableMapping[str, str], pid: int) -> ServiceManager:
    """Take the manager out of the environment, so that no child speaks for the node (sd_notify(3)).

    Args:
        pid: Of this process. A watchdog that is set for another one is not this one's (sd_watchdog_enabled(3)).
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    interval, watched = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not address.startswith(("/", "@")):
        if address:
            _log.warning(
                "NOTIFY_SOCKET is neither a path nor an abstract name; nobody is told how the node does"
            )
        return ServiceManager()
    is_watched = (
        interval.isascii() and interval.isdecimal() and int(interval) > 0 and watched in ("", str(pid))
    )
    return ServiceManager(address, int(interval) / _MICROSECONDS if is_watched else None)


def _socket_name(address: str) -> str:
    return f"\0{address[1:]}" if address.startswith("@") else address
