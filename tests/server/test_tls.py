"""The TLS context of a node, without a node: versions it speaks, and what it says of its own certificate."""

from __future__ import annotations

import dataclasses
import ssl
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oscd.errors import StartRefused
from oscd.server.settings import Settings
from oscd.server.tls import peer_tls_context, served_end, shown_end, tls_context, validity_warning
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


def test_the_ends_of_both_certificates_are_told(tmp_path: Path, settings: Settings) -> None:
    """Of the one that is served, expired or not, and of the one for peers, which is a client's and no server's."""
    authority = Authority(tmp_path / "peers")
    identity = authority.client()
    assert (served_end(settings), shown_end(settings)) == (BEGAN + 2 * DAY, None)
    shown = dataclasses.replace(
        settings,
        cluster_certfile=identity.certificate,
        cluster_keyfile=identity.keyfile,
    )
    assert shown_end(shown) is None, "nobody is shown one where clustering is off"
    both = dataclasses.replace(shown, cluster_enabled=True)
    end = shown_end(both)
    assert end is not None
    assert abs(end - datetime.now(UTC) - DAY) < timedelta(minutes=5)
    assert served_end(both) == BEGAN + 2 * DAY
    assert served_end(Settings()) is None


def test_peers_are_verified_whatever_is_set(tmp_path: Path) -> None:
    """Certificate and name of a peer are checked, with the bundle that is named and with the system's."""
    bundles = (None, Authority(tmp_path).bundle)
    system, own = (peer_tls_context(Settings(cluster_ca_certs=bundle)) for bundle in bundles)
    for context in (system, own):
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(own.get_ca_certs()) == 1


def test_a_node_shows_its_peers_what_is_set_for_them(tmp_path: Path) -> None:
    """Certificate and key may be two files or one; an authority that its operator trusts takes either."""
    authority = Authority(tmp_path)
    identity = authority.client()
    both = tmp_path / "both.pem"
    both.write_bytes(identity.certificate.read_bytes() + identity.keyfile.read_bytes())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.bundle)
    server.verify_mode = ssl.CERT_REQUIRED
    shown = authority.server()
    server.load_cert_chain(shown.certificate, shown.keyfile)
    for certificate, key in ((identity.certificate, identity.keyfile), (both, None)):
        client = peer_tls_context(
            Settings(cluster_ca_certs=authority.bundle, cluster_certfile=certificate, cluster_keyfile=key)
        )
        assert _agreed(server, client)
    assert not _agreed(server, peer_tls_context(Settings(cluster_ca_certs=authority.bundle)))


def test_a_file_for_peers_that_will_not_do_is_named(tmp_path: Path) -> None:
    """The one line that stops the start names the setting, and holds nothing of the key."""
    authority = Authority(tmp_path)
    identity, other = authority.client(), authority.client("other")
    locked = identity.write_key(tmp_path / "locked.key.pem", "open sesame")
    certificate, missing = identity.certificate, tmp_path / "missing.pem"
    for settings, line in (
        (Settings(cluster_ca_certs=missing), "OSC_CLUSTER_CA_CERTS="),
        (Settings(cluster_ca_certs=identity.keyfile), "OSC_CLUSTER_CA_CERTS="),
        (
            Settings(cluster_keyfile=identity.keyfile),
            "OSC_CLUSTER_KEYFILE is set, but not OSC_CLUSTER_CERTFILE",
        ),
        (Settings(cluster_certfile=missing), "OSC_CLUSTER_CERTFILE="),
        (Settings(cluster_certfile=certificate), "OSC_CLUSTER_KEYFILE="),
        (Settings(cluster_certfile=certificate, cluster_keyfile=other.keyfile), "OSC_CLUSTER_KEYFILE="),
        (
            Settings(cluster_certfile=certificate, cluster_keyfile=locked),
            "accepted is a key without a password",
        ),
    ):
        with pytest.raises(StartRefused) as refused:
            peer_tls_context(settings)
        assert str(refused.value).startswith(line)
        assert "\n" not in str(refused.value)


def _is_spoken(context: ssl.SSLContext, version: ssl.TLSVersion) -> bool:
    """Whether a client with this version alone gets a connection."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_ciphers(NO_SECURITY_LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = version
    return _agreed(context, client) == version.name.replace("_", ".")


def _agreed(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The version in which both end up, in memory; None where one of them refuses the other."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):
            for side in (asking, serving):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError:
        return None
    return asking.version() if asking.version() == serving.version() else None
