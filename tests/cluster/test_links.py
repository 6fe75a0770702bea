"""The links of a test's cluster do what tests believe of them, as a partition that leaks proves nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.links import Link, Links
from tests.support.waiting import PATIENCE, wait_until

SHORT = 0.3
"""Seconds in which what may pass has long passed."""


@contextmanager
def echoing() -> Iterator[int]:
    """A server that says back what it is told; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with closing(client):
            try:
                while data := client.recv(4096):
                    client.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


@pytest.fixture
def link() -> Iterator[Link]:
    with echoing() as port, Links() as links:
        yield links.to(port)


def connected(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), PATIENCE)


def test_what_is_silenced_waits_and_then_passes(link: Link) -> None:
    """Nothing passes and nothing ends while a link is silenced, on connections old and new; then all of it does."""
    with connected(link) as old:
        old.sendall(b"1")
        assert old.recv(10) == b"1"
        link.silence()
        with connected(link) as new:
            for client in (old, new):
                client.sendall(b"2")
                client.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    client.recv(10)
                client.settimeout(PATIENCE)
            link.heal()
            assert old.recv(10) == b"2"
            assert new.recv(10) == b"2"


def test_a_silence_may_begin_in_the_middle(link: Link) -> None:
    """Once enough has passed nothing more does, until the link is healed."""
    with connected(link) as client:
        client.sendall(b"1")
        assert client.recv(10) == b"1"
        link.silence_after(1)
        client.sendall(b"2")
        client.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            client.recv(10)
        link.heal()
        client.settimeout(PATIENCE)
        assert client.recv(10) == b"2"
        client.sendall(b"3")
        assert client.recv(10) == b"3"


def test_a_cut_ends_everything_until_it_is_healed(link: Link) -> None:
    """Connections are reset, new ones at once, counted; after it is healed new ones work."""
    with connected(link) as old:
        old.sendall(b"1")
        assert old.recv(10) == b"1"
        link.cut()
        with pytest.raises(ConnectionError):
            old.recv(10)
    with pytest.raises(ConnectionError), connected(link) as new:
        new.recv(10)
    assert link.refused == 1
    wait_until(lambda: link.connections == 0, what="the end of every connection")
    link.heal()
    with connected(link) as again:
        again.sendall(b"3")
        assert again.recv(10) == b"3"
