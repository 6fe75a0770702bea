"""Binding: who gets a port, on which addresses, with which options, and how connections spread."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from oscd.errors import StartRefused
from oscd.server.binding import UNACKNOWLEDGED_MS, bind_listeners


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _bind(opened: ExitStack, host: str, port: int, count: int) -> list[socket.socket]:
    return [opened.enter_context(sock) for sock in bind_listeners(host, port, count)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_all_sockets_share_one_port_of_the_kernels_choice(opened: ExitStack, host: str) -> None:
    """With port 0, every socket listens on the same address and port, and it can be reached."""
    sockets = _bind(opened, host, 0, 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    socket.create_connection(sockets[0].getsockname()[:2], timeout=5).close()


def test_a_name_with_both_kinds_of_address_means_ipv4(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to IPv6 first is served where `127.0.0.1` reaches it."""
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    (sock,) = _bind(opened, "both", 0, 1)
    assert sock.family == socket.AF_INET


def test_a_port_another_program_listens_on_is_refused(opened: ExitStack) -> None:
    """A port in use stops the start with one line that names it and what to do."""
    port = opened.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
    with pytest.raises(StartRefused, match=f"port {port}.*in use") as refused:
        bind_listeners("127.0.0.1", port, 2)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_port_another_oscd_listens_on_is_refused(opened: ExitStack, workers: int) -> None:
    """Sharing is for the workers of one node: a second node on the port is refused like any other program."""
    port = _bind(opened, "127.0.0.1", 0, workers)[0].getsockname()[1]
    with pytest.raises(StartRefused, match="in use"):
        bind_listeners("127.0.0.1", port, workers)


@pytest.mark.parametrize("host", ["no.such.name.invalid", "a" * 300, "192.0.2.1"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    """A name that does not resolve, or an address of another machine, stops the start with one line."""
    with pytest.raises(StartRefused, match="OSC_HOST") as refused:
        bind_listeners(host, 0, 1)
    assert "\n" not in str(refused.value)


def test_accepted_connections_inherit_the_options(opened: ExitStack) -> None:
    """What is set on the listening socket holds for each connection: no delay, keep-alive, an end to silence."""
    (sock,) = _bind(opened, "127.0.0.1", 0, 1)
    opened.enter_context(socket.create_connection(sock.getsockname(), timeout=5))
    sock.settimeout(5)
    accepted = opened.enter_context(sock.accept()[0])
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS


def test_connections_spread_over_all_sockets(opened: ExitStack) -> None:
    """Of 64 connections every one of four sockets gets some (none for one of them: once in 10^7 runs)."""
    sockets = _bind(opened, "127.0.0.1", 0, 4)
    for _ in range(64):
        opened.enter_context(socket.create_connection(sockets[0].getsockname(), timeout=5))
    taken = [_accept_all(opened, sock) for sock in sockets]
    assert sum(taken) == 64
    assert min(taken) > 0


def _accept_all(opened: ExitStack, sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            opened.enter_context(sock.accept()[0])
        except BlockingIOError:
            return count
        count += 1
