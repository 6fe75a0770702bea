"""The accept loop under TLS: service, stalled handshakes and peers that do not say goodbye."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from oscd.server.connection import Limits
from tests.server.serving import PATIENCE, LoopFactory, read_until, serving
from tests.support.raw_http import read_to_end


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "both.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
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
