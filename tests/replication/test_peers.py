"""Who the peers are: from what the operator wrote to addresses."""

from __future__ import annotations

import pytest

from oscd.replication.peers import Peer, peers_of


@pytest.mark.parametrize(
    ("entry", "tls", "url"),
    [
        ("node-b:9000", False, "http://node-b:9000"),
        ("node-b:9000", True, "https://node-b:9000"),
        ("http://node-b:9000", True, "http://node-b:9000"),
        ("https://node-b:9000", False, "https://node-b:9000"),
        ("[::1]:9000", True, "https://[::1]:9000"),
        ("HTTPS://node-b:9000", False, "https://node-b:9000"),
        ("Http://node-b:9000", True, "http://node-b:9000"),
    ],
)
def test_plain_http_only_where_it_was_written_or_nothing_serves_tls(entry: str, tls: bool, url: str) -> None:
    """A bare host is spoken to as this node itself is; a scheme that was written down always counts."""
    (peer,) = peers_of([entry], tls=tls)
    assert (peer.name, peer.url, peer.is_encrypted) == (entry, url, url.startswith("https"))


def test_a_peer_that_is_written_twice_is_one() -> None:
    """One address has one link, however often and however it is written."""
    peers = peers_of(["node-b:9000", "http://NODE-B:9000", "node-c:9000"], tls=False)
    assert [peer.name for peer in peers] == ["node-b:9000", "node-c:9000"]


def test_the_host_of_a_peer_stands_without_brackets_and_port() -> None:
    """Who asks whether it is this machine needs the address alone."""
    assert Peer("[::1]:9000", "http://[::1]:9000").host == "::1"
