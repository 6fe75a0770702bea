"""Owns a TCP proxy on loopback that cuts its connections within what the server sends. Must not read what passes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

from tests.support.waiting import PATIENCE

_READ_BYTES = 65536

Pair = tuple[socket.socket, socket.socket]
"""A client's connection, and the one made for it to the server."""


class CuttingProxy:
    """Forwards to a port; each connection is cut after a random number of bytes of the server's, until enough were.

    Half of the cuts are resets and half are plain ends. Connections beyond the last cut are left alone.

    Args:
        target: The port forwarded to, on this machine.
        random: Decides where and how to cut. Every connection's place is drawn when it is made.
        most_cuts: How many connections it cuts.
        most_bytes: How many bytes of the server's a connection that is cut may see.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target: int, random: Random, *, most_cuts: int, most_bytes: int) -> None:
        self._target = target
        self._random = random
        self._most_cuts = most_cuts
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._cuts = 0
        self._pairs: set[Pair] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._run(self._accept)

    @property
    def cuts(self) -> int:
        """How many connections it has cut."""
        return self._cuts

    def cut_all(self) -> None:
        """Cut every connection it has now, whatever their bytes."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair, reset=True)

    def close(self) -> None:
        """End every connection and thread."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _end(pair)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                assert self._closing
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
            except OSError:
                client.close()  # The server is gone, so the client's connection ends as well.
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
                left = self._random.randrange(1, self._most_bytes + 1)
                reset = self._random.random() < 0.5
            self._run(_upstream, pair)
            self._run(self._downstream, pair, left, reset)

    def _downstream(self, pair: Pair, left: int, reset: bool) -> None:
        client, server = pair
        with suppress(OSError):
            while part := server.recv(_READ_BYTES):
                due = len(part) >= left and self._cuts < self._most_cuts
                client.sendall(part[:left] if due else part)
                left -= len(part)
                if due:
                    self._cut(pair, reset=reset)
                    break
        _end(pair)
        with self._lock:
            self._pairs.discard(pair)

    def _cut(self, pair: Pair, *, reset: bool) -> None:
        with self._lock:
            self._cuts += 1
        if reset:
            with suppress(OSError):
                # socket(7): with a linger time of 0 a close sends a reset.
                pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _end(pair)

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()


def _upstream(pair: Pair) -> None:
    client, server = pair
    with suppress(OSError):
        while part := client.recv(_READ_BYTES):
            server.sendall(part)
    _end(pair)


def _end(pair: Pair) -> None:
    for one in pair:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def cutting_proxy(target: int, random: Random, *, most_cuts: int, most_bytes: int) -> Iterator[CuttingProxy]:
    """A proxy while the block runs."""
    proxy = CuttingProxy(target, random, most_cuts=most_cuts, most_bytes=most_bytes)
    try:
        yield proxy
    finally:
        proxy.close()
