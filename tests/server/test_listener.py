"""The accept loop over real sockets: limits, slow and silent clients, and an end in bounded time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import uvloop
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from oscd.replication.wire import CONTENT_TYPE
from oscd.server.connection import Connection, Limits
from tests.server.serving import PATIENCE, LoopFactory, read_until, serving
from tests.support.raw_http import read_to_end

CHUNK = b"x" * 16384
Event = TypeVar("Event", bound=h2.events.Event)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


class App:
    """A tiny application that tells the test how far it has come."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.sent = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        handlers: dict[str, Callable[[ASGISendCallable], Any]] = {
            "/held": self.held,
            "/endless": self.endless,
            "/refuse": self.refuse,
            "/events": self.events,
            "/peer": self.peer,
        }
        self.begun.set()
        try:
            await handlers.get(scope["path"], self.hello)(send)
        finally:
            self.ended.set()

    async def start(self, send: ASGISendCallable, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, send: ASGISendCallable, body: bytes, *, more: bool = False) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def hello(self, send: ASGISendCallable) -> None:
        await self.start(send, 200, (b"content-length", b"5"))
        await self.body(send, b"hello")

    async def held(self, send: ASGISendCallable) -> None:
        await self.start(send)
        await asyncio.to_thread(self.release.wait, PATIENCE)
        await self.body(send, b"finished")

    async def endless(self, send: ASGISendCallable) -> None:
        await self.start(send)
        while True:
            await self.body(send, CHUNK, more=True)
            self.sent += len(CHUNK)

    async def events(self, send: ASGISendCallable) -> None:
        """A stream of events that nobody reads; like a real one it waits for something between its parts."""
        await self.start(send, 200, (b"content-type", b"text/event-stream; charset=utf-8"))
        while True:
            await self.body(send, CHUNK, more=True)
            await asyncio.sleep(0)

    async def peer(self, send: ASGISendCallable) -> None:
        """The log on its way to another node, which does not read."""
        await self.start(send, 200, (b"content-type", CONTENT_TYPE.encode()))
        while True:
            await self.body(send, CHUNK, more=True)

    async def refuse(self, send: ASGISendCallable) -> None:
        """Answer without having read one byte of the body."""
        await self.start(send, 413, (b"content-length", b"4"))
        await self.body(send, b"much")


def test_shutdown_closes_idle_connections_and_lets_requests_finish(loop_factory: LoopFactory) -> None:
    """At shutdown an idle connection ends while a request still runs, which gets its whole answer."""
    app = App()
    with serving(app, Limits(10, grace_seconds=PATIENCE), loop_factory) as served:
        idle, silent, busy = served.request("/"), served.connect(), served.request("/held")
        read_until(idle, b"hello")
        read_until(busy, b"\r\n\r\n")
        served.begin_shutdown()
        assert read_to_end(idle) == b""
        assert read_to_end(silent) == b""
        assert not served.ended.is_set()
        app.release.set()
        assert b"finished" in read_to_end(busy)
        assert served.ended.wait(PATIENCE)


def test_shutdown_refuses_new_connections(loop_factory: LoopFactory) -> None:
    """After shutdown began the port takes no new connection, though a request still runs."""
    app = App()
    with serving(app, Limits(10, grace_seconds=PATIENCE), loop_factory) as served:
        idle, busy = served.connect(), served.request("/held")
        read_until(busy, b"\r\n\r\n")
        served.begin_shutdown()
        assert read_to_end(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        app.release.set()
        read_to_end(busy)


def test_what_never_ends_by_itself_is_ended_once_nobody_can_connect(loop_factory: LoopFactory) -> None:
    """At shutdown `on_closed` comes after the port is closed, so nothing endless can begin after it, and before
    requests in flight are waited for, so that they end in time."""
    app = App()
    outcomes: list[str] = []

    def end_all() -> None:
        try:
            socket.create_connection(served.address, timeout=PATIENCE).close()
        except ConnectionRefusedError:
            outcomes.append("refused")
        app.release.set()

    with serving(app, Limits(10, grace_seconds=PATIENCE), loop_factory, on_closed=end_all) as served:
        busy = served.request("/held")
        read_until(busy, b"\r\n\r\n")
        served.begin_shutdown()
        assert b"finished" in read_to_end(busy)
        assert served.ended.wait(PATIENCE)
    assert outcomes == ["refused"]


@pytest.mark.parametrize("reads", [True, False])
def test_never_ending_response_does_not_hold_shutdown(loop_factory: LoopFactory, reads: bool) -> None:
    """A response without end is cut when the grace is over, whether or not its client reads."""
    app = App()
    with (
        serving(app, Limits(10, grace_seconds=0.3), loop_factory) as served,
        served.request("/endless") as client,
    ):
        assert app.begun.wait(PATIENCE)
        served.begin_shutdown()
        if reads:
            read_to_end(client)
        assert served.ended.wait(PATIENCE)
    assert app.ended.is_set()


def test_connections_over_the_limit_get_503(loop_factory: LoopFactory) -> None:
    """Over the limit a connection is told 503 with Retry-After; when another one ends there is room again."""
    with serving(App(), Limits(2), loop_factory) as served:
        first, second = served.request("/"), served.request("/")
        read_until(first, b"hello")
        read_until(second, b"hello")
        refused = read_to_end(served.request("/"))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in refused
        assert refused.endswith(b"}")
        first.close()
        served.wait_for_room()


def test_slow_request_head_is_cut_off(loop_factory: LoopFactory) -> None:
    """A client that trickles its request head is closed when the idle time is over, without an answer."""
    with (
        serving(App(), Limits(10), loop_factory, keep_alive_seconds=0.3) as served,
        served.connect() as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nhost: t\r\nx-slow: ")
        assert read_to_end(client) == b""


def test_oversized_head_gets_431(loop_factory: LoopFactory) -> None:
    """A request head that goes on beyond the limit is answered 431 and never reaches the application."""
    app = App()
    with serving(app, Limits(10), loop_factory) as served:
        client = served.connect()
        client.sendall(b"GET / HTTP/1.1\r\nhost: t\r\nx-big: " + b"a" * 80_000)
        assert read_to_end(client).startswith(b"HTTP/1.1 431 ")
    assert not app.begun.is_set()


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3\r\ntransfer-encoding: chunked, identity\r\n",
        "x : y\r\n",
        "a: b\r\n c\rd: e\r\n",
    ],
)
def test_ambiguous_framing_is_refused(loop_factory: LoopFactory, head: str) -> None:
    """A head that two servers could frame differently (request smuggling) is refused; the connection ends."""
    app = App()
    with serving(app, Limits(10), loop_factory) as served:
        answer = read_to_end(served.request("/", head))
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert not app.begun.is_set()


def test_websocket_handshake_is_refused(loop_factory: LoopFactory) -> None:
    """There are no WebSockets here: a handshake gets 403 and the application never hears of it."""
    app = App()
    head = (
        "connection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    with serving(app, Limits(10), loop_factory) as served, served.request("/", head) as client:
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert not app.begun.is_set()


@pytest.mark.parametrize("megabytes", [1, 64])
def test_early_answer_reaches_a_client_that_still_sends(loop_factory: LoopFactory, megabytes: int) -> None:
    """An answer given before the body was read arrives, and the connection's place is free afterwards."""
    app = App()
    with serving(app, Limits(1), loop_factory) as served:
        client = served.connect()
        size = megabytes * 1024 * 1024
        client.sendall(f"POST /refuse HTTP/1.1\r\nhost: t\r\ncontent-length: {size}\r\n\r\n".encode())
        sender = threading.Thread(target=_send_all, args=(client, b"b" * size))
        sender.start()
        assert read_until(client, b"much").startswith(b"HTTP/1.1 413 ")
        sender.join(PATIENCE)
        client.close()
        served.wait_for_room()


def test_early_answer_to_a_body_that_never_ends_frees_the_connection(loop_factory: LoopFactory) -> None:
    """A client that goes on sending after its answer is closed, not waited for."""
    app = App()
    with serving(app, Limits(1), loop_factory) as served, served.connect() as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        part = b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK)
        with pytest.raises(ConnectionError):
            _send_for_ever(client, part)
    assert app.ended.is_set()


def test_client_that_does_not_read_is_cut_off(loop_factory: LoopFactory) -> None:
    """A client that takes no more of its answer loses its connection, and the application is told."""
    app = App()
    with serving(app, Limits(1, stall_seconds=0.3), loop_factory) as served, served.request("/endless"):
        assert app.ended.wait(PATIENCE)
        served.wait_for_room()


def test_reader_of_a_stream_may_pause_for_longer(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is not read has a bound of its own, which the kernel is told, too; then it is cut as well."""
    asked: list[int] = []
    be_patient = Connection._be_patient

    def noted(connection: Connection) -> None:
        be_patient(connection)
        asked.append(connection._accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    monkeypatch.setattr(Connection, "_be_patient", noted)
    stream, answer = App(), App()
    limits = Limits(1, stall_seconds=0.2, stream_stall_seconds=3600.0)
    with (
        serving(stream, replace(limits, grace_seconds=0.1), loop_factory) as patient,
        serving(answer, limits, loop_factory) as strict,
        patient.request("/events"),
    ):
        assert stream.begun.wait(PATIENCE)
        with strict.request("/endless"):
            # The answer begins after the stream, and is cut before it.
            assert answer.ended.wait(PATIENCE)
        assert not stream.ended.is_set()
    assert asked == [3_600_000]
    app = App()
    with (
        serving(app, Limits(1, stall_seconds=3600.0, stream_stall_seconds=0.2), loop_factory) as served,
        served.request("/events"),
    ):
        assert app.ended.wait(PATIENCE)
        served.wait_for_room()


def test_another_node_that_takes_nothing_is_cut_off(loop_factory: LoopFactory) -> None:
    """It takes what it gets or has gone, so it has less time than anybody else."""
    app = App()
    limits = Limits(1, stall_seconds=3600.0, stream_stall_seconds=3600.0, peer_stall_seconds=0.2)
    with serving(app, limits, loop_factory) as served, served.request("/peer"):
        assert app.ended.wait(PATIENCE)
        served.wait_for_room()


def test_http2_peer_with_a_zero_window_costs_bounded_memory(loop_factory: LoopFactory) -> None:
    """invariant 10: of an endless response to an HTTP/2 client without a window only a little is taken."""
    app = App()
    with serving(app, Limits(10, grace_seconds=0.2), loop_factory) as served, served.connect() as client:
        peer = _http2_without_window()
        peer.send_headers(1, _http2_request("/endless"), end_stream=True)
        client.sendall(peer.data_to_send())
        assert app.begun.wait(PATIENCE)
        for number in range(200):
            # Each answered ping is a turn of the server's loop in which the application could have sent more.
            peer.ping(number.to_bytes(8, "big"))
            client.sendall(peer.data_to_send())
            while not any(
                isinstance(e, h2.events.PingAckReceived) for e in peer.receive_data(client.recv(65536))
            ):
                pass
        assert app.sent < 256 * 1024
        assert app.sent > 0


def test_http2_response_goes_on_when_the_window_opens(loop_factory: LoopFactory) -> None:
    """A held back HTTP/2 response is not lost: as much as the window then allows arrives."""
    with serving(App(), Limits(10, grace_seconds=0.2), loop_factory) as served, served.connect() as client:
        peer = _http2_without_window()
        peer.send_headers(1, _http2_request("/endless"), end_stream=True)
        client.sendall(peer.data_to_send())
        wanted, got = 1024 * 1024, 0
        peer.increment_flow_control_window(wanted, 1)
        peer.increment_flow_control_window(wanted)
        client.sendall(peer.data_to_send())
        while got < wanted:
            got += sum(
                len(e.data)
                for e in peer.receive_data(client.recv(65536))
                if isinstance(e, h2.events.DataReceived)
            )


def test_answers_name_no_server_software(loop_factory: LoopFactory) -> None:
    """An answer carries a date but no `server` header."""
    with serving(App(), Limits(10), loop_factory) as served, served.request("/") as client:
        head = read_until(client, b"hello").lower()
        assert b"\r\ndate:" in head
        assert b"\r\nserver:" not in head


def _send_all(client: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):  # the server may close before it has seen all
        client.sendall(data)


def _send_for_ever(client: socket.socket, part: bytes) -> None:
    while True:
        client.sendall(part)


def _received(kind: type[Event], peer: h2.connection.H2Connection, client: socket.socket) -> list[Event]:
    data = client.recv(65536)
    assert data, "the connection ended"
    return [event for event in peer.receive_data(data) if isinstance(event, kind)]


def _http2_without_window() -> h2.connection.H2Connection:
    peer = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=True))
    peer.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    peer.initiate_connection()
    return peer


def _http2_request(path: str) -> list[tuple[str, str]]:
    return [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "t")]
