"""The accept loop under TLS: service, stalled handshakes and peers that do not say goodbye."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from oscd.server.connection import Limits
from tests.server.serving import PATIENCE, LoopFactory, Served, read_until, serving
from tests.support.certificates import Authority
from tests.support.raw_http import read_to_end
from tests.support.waiting import wait_until


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    identity = Authority(tmp_path).server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.keyfile)
    return context


async def _hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    assert scope["type"] == "http"
    body = scope["scheme"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_tls_is_served_and_an_idle_peer_does_not_delay_shutdown(
    loop_factory: LoopFactory, tls: ssl.SSLContext
) -> None:
    """A TLS client is answered; idle and silent, it does not have to agree to the end of the connection."""
    with serving(_hello, Limits(10, grace_seconds=PATIENCE), loop_factory, ssl_context=tls) as served:
        plain = served.connect()
        client = served.clients.enter_context(_client_context().wrap_socket(plain))
        client.sendall(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        read_until(client, b"https")
        served.begin_shutdown()
        assert served.ended.wait(PATIENCE / 2)


def test_stalled_handshake_is_cut_off(loop_factory: LoopFactory, tls: ssl.SSLContext) -> None:
    """Who connects and never begins TLS loses the connection after the handshake limit."""
    limits = Limits(10, handshake_seconds=0.3)
    with serving(_hello, limits, loop_factory, ssl_context=tls) as served:
        assert read_to_end(served.connect()) == b""


def test_stalled_handshake_does_not_delay_shutdown(loop_factory: LoopFactory, tls: ssl.SSLContext) -> None:
    """A connection that has not got as far as HTTP is not a request in flight."""
    limits = Limits(10, grace_seconds=PATIENCE, handshake_seconds=PATIENCE)
    with serving(_hello, limits, loop_factory, ssl_context=tls) as served:
        silent = served.connect()
        served.begin_shutdown()
        assert read_to_end(silent) == b""
        assert served.ended.wait(PATIENCE / 2)


def test_plain_http_on_a_tls_port_is_closed(loop_factory: LoopFactory, tls: ssl.SSLContext) -> None:
    """What is not TLS gets no HTTP answer, and nothing is reported as a fault of the server."""
    with serving(_hello, Limits(10), loop_factory, ssl_context=tls) as served:
        assert b"HTTP/" not in read_to_end(served.request("/"))


def test_a_client_that_is_refused_is_told_of_once(
    loop_factory: LoopFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a certificate, and with one of another authority: the log says who and what to do, and not each time;
    of a client that gives up by itself it says nothing.
    """
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    shown = ours.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.bundle)
    context.load_cert_chain(shown.certificate, shown.keyfile)
    context.verify_mode = ssl.CERT_REQUIRED
    for shows, reason in (
        (None, "it shows no certificate"),
        (theirs.client(), "its certificate is not accepted"),
    ):
        caplog.clear()
        with serving(_hello, Limits(10), loop_factory, ssl_context=context) as served:
            served.connect().close()
            for _ in range(3):
                refuse_to_serve(served, ours.trusting(shows))
            wait_until(lambda: caplog.messages)
            client = served.clients.enter_context(
                ours.trusting(ours.client(f"good-{reason[:6]}")).wrap_socket(
                    served.connect(), server_hostname="127.0.0.1"
                )
            )
            client.sendall(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
            read_until(client, b"https")
        (line,) = caplog.messages
        assert line.startswith(f"127.0.0.1 is refused: {reason}")
        assert "OSC_CLUSTER_CERTFILE" in line


def refuse_to_serve(served: Served, client: ssl.SSLContext) -> None:
    """Connect, and be refused, in the handshake or, since TLS 1.3, after what the client takes for its end."""
    with (
        suppress(ssl.SSLError, ConnectionError),
        client.wrap_socket(served.connect(), server_hostname="127.0.0.1") as connected,
    ):
        assert connected.recv(1) == b""
