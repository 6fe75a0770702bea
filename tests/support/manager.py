"""Owns the socket of a service manager for tests, and what it was told. Must not judge it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE

Datagram = dict[str, str]


class Manager:
    """What systemd is to a service: a socket that takes datagrams.

    Attributes:
        told: Every datagram that was read, in order.
    """

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        self.told: list[Datagram] = []

    def read(self) -> Datagram:
        """The next datagram."""
        lines = self._receiver.recv(65_536).decode().split("\n")
        self.told.append(dict(line.split("=", 1) for line in lines))
        return self.told[-1]

    def read_until(self, wanted: Callable[[Datagram], object]) -> Datagram:
        """Read up to the first datagram that is wanted, and give it."""
        while not wanted(datagram := self.read()):
            pass
        return datagram


@contextmanager
def manager_at(address: Path | str) -> Iterator[Manager]:
    """A manager that listens at a path, or at an abstract name that begins with a zero character."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(PATIENCE)
        receiver.bind(str(address))
        yield Manager(receiver)
