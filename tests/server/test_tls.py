"""The TLS context of a node, without a node: versions it speaks, and what it says of its own certificate."""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oscd.server.settings import Settings
from oscd.server.tls import tls_context, validity_warning
from tests.support.certificates import DAY, Authority

SECOND = timedelta(seconds=1)
BEGAN = datetime(2020, 2, 28, 12, 30, tzinfo=UTC)
NO_SECURITY_LEVEL = "DEFAULT:@SECLEVEL=0"
"""Otherwise OpenSSL itself would refuse what is older than TLS 1.2, whatever a context says."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a node with a certificate that counted for two days from `BEGAN` on."""
    authority = Authority(tmp_path)
    identity = authority.server(valid_from=BEGAN, valid_until=BEGAN + 2 * DAY)
    return Settings(
        https_enabled=True,
        ssl_certfile=identity.certificate,
        ssl_keyfile=identity.keyfile,
        ssl_ca_certs=authority.bundle,
    )


@pytest.fixture
def context(settings: Settings) -> ssl.SSLContext:
    context = tls_context(settings)
    assert context is not None
    return context


def test_no_context_is_made_where_tls_is_off() -> None:
    """Without OSC_HTTPS_ENABLED no file is looked at."""
    assert tls_context(Settings(ssl_certfile=Path("none.pem"))) is None


def test_nothing_older_than_tls_1_2_is_spoken(context: ssl.SSLContext) -> None:
    """A client that knows TLS 1.1 at best gets no connection, even where OpenSSL would give it one."""
    context.set_ciphers(NO_SECURITY_LEVEL)
    context.verify_mode = ssl.CERT_NONE
    assert _is_spoken(context, ssl.TLSVersion.TLSv1_2)
    assert _is_spoken(context, ssl.TLSVersion.TLSv1_3)
    assert not _is_spoken(context, ssl.TLSVersion.TLSv1_1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    if not _is_spoken(context, ssl.TLSVersion.TLSv1_1):
        pytest.skip("this OpenSSL speaks no TLS 1.1 at all, so that a refusal of it proves nothing")


def test_a_certificate_is_warned_about_outside_its_time(settings: Settings, context: ssl.SSLContext) -> None:
    """Before its time and after it a certificate gets a sentence with the date; within it, none."""
    began, ends = BEGAN, BEGAN + 2 * DAY
    early, late = (
        validity_warning(context, settings.ssl_certfile, now) for now in (began - SECOND, ends + SECOND)
    )
    assert early is not None
    assert f"not valid before {began:%Y-%m-%dT%H:%M:%SZ}" in early
    assert late is not None
    assert f"expired at {ends:%Y-%m-%dT%H:%M:%SZ}" in late
    for now in (began, began + DAY, ends):
        assert validity_warning(context, settings.ssl_certfile, now) is None


def _is_spoken(context: ssl.SSLContext, version: ssl.TLSVersion) -> bool:
    """Whether a client with this version alone gets a connection."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_ciphers(NO_SECURITY_LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = version
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    serving = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):
            for side in (asking, serving):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError:
        return False
    return asking.version() == serving.version() == version.name.replace("_", ".")
