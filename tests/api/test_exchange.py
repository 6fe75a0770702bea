"""What a request says of itself, and how much of what a proxy says of it is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from oscd.api.exchange import Exchange, exchange_of
from tests.api.asgi import Header, http_scope

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]
PROXY = "10.0.0.1"
STRANGER = "203.0.113.9"
CLIENT = "198.51.100.7"


def read(*headers: Header, peer: str = PROXY, trusted: bool = True) -> Exchange:
    return exchange_of(http_scope("GET", "/", headers, peer=peer), TRUSTED if trusted else ())


@pytest.mark.parametrize("peer", [PROXY, STRANGER, "2001:db8:1::1"])
def test_without_trusted_proxies_nothing_forwarded_is_believed(peer: str) -> None:
    """`X-Forwarded-*` means nothing where no proxy is trusted, or the peer is none of them."""
    forwarded = [
        ("x-forwarded-for", CLIENT),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
    ]
    untrusted = read(*forwarded, peer=peer, trusted=False)
    assert (untrusted.address, untrusted.scheme, untrusted.host) == (peer, "http", "localhost:9000")
    stranger = read(*forwarded, peer=STRANGER)
    assert (stranger.address, stranger.scheme, stranger.host) == (STRANGER, "http", "localhost:9000")


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([CLIENT], CLIENT),
        ([f"{STRANGER}, {CLIENT}"], CLIENT),
        ([f"{STRANGER},{CLIENT}, 10.9.9.9"], CLIENT),
        ([f"{STRANGER}, {CLIENT}", "10.9.9.9"], CLIENT),
        ([STRANGER, CLIENT], CLIENT),
        (["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (["2001:db8::7"], "2001:db8::7"),
        (["unknown"], PROXY),
        ([f"{CLIENT}, unknown"], PROXY),
        ([f"{CLIENT}:443"], PROXY),
        ([f"{CLIENT}, , 10.2.2.2"], "10.2.2.2"),
        ([""], PROXY),
        ([","], PROXY),
        ([], PROXY),
        (["1.2.3.4.5, 10.2.2.2"], "10.2.2.2"),
    ],
)
def test_the_client_is_the_last_address_no_proxy_of_ours_added(lines: list[str], address: str) -> None:
    """Whatever a client wrote before the proxies' own entries is never taken for its address."""
    assert read(*(("x-forwarded-for", line) for line in lines)).address == address


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http", "https"], "https"),
        (["https, http"], "http"),
        (["ftp"], "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(lines: list[str], scheme: str) -> None:
    """Of several the last counts, the one a trusted proxy has added; nonsense counts for nothing."""
    assert read(*(("x-forwarded-proto", line) for line in lines)).scheme == scheme


def test_the_host_is_what_the_nearest_proxy_says() -> None:
    """A forwarded host replaces `Host`, an empty one does not."""
    assert read(("x-forwarded-host", "evil.example, Config.Example")).host == "config.example"
    assert read(("x-forwarded-host", "")).host == "localhost:9000"


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 64])
def test_a_callers_request_id_is_kept(given: str) -> None:
    """An id of the allowed characters is the caller's to choose."""
    assert read(("x-request-id", given)).request_id == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\n", "é", "a/b", '"', "a,b"])
def test_another_request_id_is_replaced_by_a_new_one(given: str) -> None:
    """What could break a log line or a header is no id; each request gets one of its own."""
    first, second = read(("x-request-id", given)).request_id, read(("x-request-id", given)).request_id
    assert given not in {first, second}
    assert first != second


def test_text_of_an_empty_header_is_none() -> None:
    """A header without a value is as good as absent, and bytes are Latin-1, as in all HTTP."""
    exchange = read(("x-actor", ""), ("x-user-key", "cl\xe9"))
    assert exchange.text(b"x-actor") is None
    assert exchange.text(b"x-absent") is None
    assert exchange.text(b"x-user-key") == "clé"
