"""The calls on the cluster, with clustering off and on: exact shapes, who may ask, and never a value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oscd.api.throttle import BURST
from oscd.errors import Unavailable
from oscd.events.cipher import SALT_BYTES
from oscd.listing import Filters
from oscd.replication.report import ClusterReport, PeerReport, Quarantine, write_report
from oscd.times import microseconds_now, rfc3339
from tests.api.asgi import OTHER_KEY, REPORT, SALT, Answered, Header, Site, assert_problem, opened_site

API_KEY, CLUSTER_KEY = b"an-api-key-of-the-callers", b"a-key-that-only-nodes-have"
WITH_API_KEY: Header = ("X-API-Key", API_KEY.decode())
WITH_CLUSTER_KEY: Header = ("X-API-Key", CLUSTER_KEY.decode())
PEERS = ("b.example:9000", "https://c.example:9000")
SEEN_AT = 1_769_860_800_123_456

LIVE = PeerReport(
    "b.example:9000",
    "b",
    "live",
    is_healthy=True,
    last_seen=SEEN_AT,
    lag_events=0,
    lag_seconds=0.0,
    skew_seconds=-0.25,
    entries=7,
    is_synced=True,
)
LOST = PeerReport("https://c.example:9000", None, "backing_off", last_error="It does not answer.")
FORK = Quarantine("x", "00112233445566aa", 4, "b.example:9000", "another event of this number is known here")


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge of a node of a cluster, whose steward has not reported yet."""
    async with opened_site(
        tmp_path, api_keys=(API_KEY,), cluster_key=lambda: CLUSTER_KEY, peers=PEERS
    ) as site:
        yield site


def report(directory: Path, *peers: PeerReport, quarantined: tuple[Quarantine, ...] = ()) -> None:
    write_report(directory / REPORT, ClusterReport(microseconds_now(), (), peers, quarantined))


async def ask(site: Site, target: str, *headers: Header) -> Any:  # noqa: ANN401 - whatever JSON can say
    answered = await site.ask("GET", target, *headers, user_key=None)
    assert answered.status == 200, answered.body
    assert answered.header("content-type") == "application/json"
    return answered.json()


async def test_a_node_alone_says_so(site: Site) -> None:
    """With clustering off: nulls, an empty list, "standalone", and this node alone, which equals itself."""
    await site.create("k")
    assert await ask(site, "/cluster/status") == {
        "enabled": False,
        "mode": None,
        "node_id": None,
        "total_nodes": None,
        "healthy_nodes": None,
        "nodes": [],
        "quarantined": [],
        "not_ready": [],
    }
    assert await ask(site, "/cluster/health") == {"status": "healthy", "node_id": "tested"}
    assert await ask(site, "/cluster/distribution") == {
        "cluster_mode": "standalone",
        "is_replica": False,
        "all_nodes_synced": True,
        "nodes_distribution": [{"node_id": "tested", "is_local": True, "is_healthy": True, "keys_count": 1}],
    }
    info = await ask(site, "/")
    assert (info["cluster_enabled"], info["cluster"]) == (False, None)
    assert "replication" in info["features"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/cluster/salt", "/cluster/events", "/cluster/%73alt"])
async def test_a_node_alone_has_neither_salt_nor_log_to_ship(site: Site, method: str, path: str) -> None:
    """404 on both paths, whatever the method."""
    assert (await site.ask(method, path, WITH_CLUSTER_KEY)).status == 404


async def test_status_tells_of_the_other_nodes(member: Site, tmp_path: Path) -> None:
    """Counts include this node, the list does not; one that was never met is called what the operator called it."""
    report(tmp_path, LIVE, LOST, quarantined=(FORK,))
    assert await ask(member, "/cluster/status", WITH_API_KEY) == {
        "enabled": True,
        "mode": "replica",
        "node_id": "tested",
        "total_nodes": 3,
        "healthy_nodes": 2,
        "nodes": [
            {
                "node_id": "b",
                "peer": "b.example:9000",
                "state": "live",
                "is_healthy": True,
                "last_seen": rfc3339(SEEN_AT),
                "lag_events": 0,
                "lag_seconds": 0.0,
                "skew_seconds": -0.25,
                "last_error": None,
            },
            {
                "node_id": "https://c.example:9000",
                "peer": "https://c.example:9000",
                "state": "backing_off",
                "is_healthy": False,
                "last_seen": None,
                "lag_events": None,
                "lag_seconds": None,
                "skew_seconds": None,
                "last_error": "It does not answer.",
            },
        ],
        "quarantined": [
            {
                "node_id": "x",
                "incarnation": "00112233445566aa",
                "seq": 4,
                "peer": "b.example:9000",
                "reason": "another event of this number is known here",
            }
        ],
        "not_ready": [],
    }
    assert (await ask(member, "/"))["cluster"] == {
        "enabled": True,
        "mode": "replica",
        "node_id": "tested",
        "total_nodes": 3,
        "healthy_nodes": 2,
    }


async def test_status_before_the_first_report(member: Site) -> None:
    """The configured peers are there, none of them well, and it is said what is waited for."""
    status = await ask(member, "/cluster/status", WITH_API_KEY)
    assert (status["total_nodes"], status["healthy_nodes"]) == (3, 1)
    assert [(node["peer"], node["is_healthy"]) for node in status["nodes"]] == [
        (peer, False) for peer in PEERS
    ]
    assert len(status["not_ready"]) == 1


@pytest.mark.parametrize(
    ("peers", "synced"), [((LIVE,), True), ((LIVE, LOST), False), ((LOST,), False), ((), True)]
)
async def test_distribution_says_who_holds_how_much(
    member: Site, tmp_path: Path, peers: tuple[PeerReport, ...], synced: bool
) -> None:
    """What this node counts itself, what the others said, null where one has said nothing; synced is by digest."""
    report(tmp_path, *peers)
    distribution = await ask(member, "/cluster/distribution", WITH_API_KEY)
    assert (distribution["cluster_mode"], distribution["is_replica"]) == ("replica", True)
    assert distribution["all_nodes_synced"] is synced
    assert distribution["nodes_distribution"] == [
        {"node_id": "tested", "is_local": True, "is_healthy": True, "keys_count": 0},
        *(
            {
                "node_id": peer.node_id or peer.peer,
                "is_local": False,
                "is_healthy": peer.is_healthy,
                "keys_count": peer.entries,
            }
            for peer in peers
        ),
    ]


async def test_metadata_of_all_entries_and_never_a_value(site: Site) -> None:
    """Whoever owns them, in the order of lists, without user key; what is deleted is not there."""
    for key, environment, category in (
        ("b", "e", "x"),
        ("a", "f", "x"),
        ("a", "e", None),
        ("gone", "e", "x"),
    ):
        await site.create(key, "secret-value", environment, category=category, user_key=OTHER_KEY)
    await site.ask("DELETE", "/configs/gone?environment=e", user_key=OTHER_KEY)
    answered = await site.ask("GET", "/cluster/configs", user_key=None)
    assert b"secret" not in answered.body
    assert answered.header("cache-control") == "no-store"
    (full,) = (await site.ask("GET", "/configs?environment=f&mode=full", user_key=OTHER_KEY)).json()
    del full["value"]
    assert answered.json()[2] == full
    assert [(one["environment"], one["key"]) for one in answered.json()] == [
        ("e", "a"),
        ("e", "b"),
        ("f", "a"),
    ]
    for query, keys in (
        ("?category=x", ["b", "a"]),
        ("?environment=e", ["a", "b"]),
        ("?environment=e&category=x", ["b"]),
        ("?environment=&category=", ["a", "b", "a"]),
        ("?category=none", []),
    ):
        assert [one["key"] for one in await ask(site, f"/cluster/configs{query}")] == keys


async def test_metadata_comes_page_by_page_as_of_one_position(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list is sent in parts; what changes while it is read changes nothing of it."""
    monkeypatch.setattr("oscd.api.cluster.PART_ENTRIES", 3)
    for number in range(10):
        await site.create(f"k{number}")
    pages = site.node.inventory(Filters()).pages(3)
    found = await anext(pages)
    await site.ask("DELETE", "/configs/k9?environment=e")
    await site.create("k99")
    found += [entry for page in [page async for page in pages] for entry in page]
    assert [entry.key for entry in found] == [f"k{number}" for number in range(10)]
    assert len(await ask(site, "/cluster/configs")) == 10
    head = await site.ask("HEAD", "/cluster/configs", user_key=None)
    assert (head.status, head.body) == (200, b"")


async def test_the_salt_is_for_nodes(member: Site) -> None:
    """64 raw bytes that nobody may keep; a HEAD tells as much of them as a GET."""
    for method, body in (("GET", SALT), ("HEAD", SALT)):
        answered = await member.ask(method, "/cluster/salt", WITH_CLUSTER_KEY, user_key=None)
        assert (answered.status, answered.body) == (200, body)
        assert answered.header("content-type") == "application/octet-stream"
        assert answered.header("content-length") == "64"
        assert answered.header("cache-control") == "no-store"


async def test_there_may_be_no_salt_yet(tmp_path: Path) -> None:
    """Then 204, with nothing that would describe a body; and no salt that is sent becomes it."""

    def none() -> bytes:
        raise Unavailable("There is none.")

    async with opened_site(tmp_path, api_keys=(API_KEY,), cluster_key=lambda: CLUSTER_KEY, salt=none) as site:
        for _ in range(2):
            answered = await site.ask("GET", "/cluster/salt", WITH_CLUSTER_KEY, user_key=None)
            assert (answered.status, answered.body) == (204, b"")
            assert answered.header("content-type") is None
            assert answered.header("content-length") is None
            assert_problem(await compare(site, SALT), 409)


async def compare(site: Site, *chunks: bytes, key: Header = WITH_CLUSTER_KEY) -> Answered:
    return await site.ask("POST", "/cluster/salt", key, chunks=chunks, user_key=None)


async def test_a_salt_is_compared_and_never_set(member: Site) -> None:
    """Equal 200, different 409, of another size 400, larger than any body 413; then it is what it was."""
    equal = await compare(member, SALT[:10], SALT[10:])
    assert (equal.status, equal.json()["status"]) == (200, "ok")
    assert_problem(await compare(member, b"x" * SALT_BYTES), 409)
    for wrong in (b"", SALT[1:], SALT + b"\0", SALT + SALT):
        assert "64 bytes" in assert_problem(await compare(member, wrong), 400)["detail"]
    assert_problem(await compare(member, b"x" * 70_000), 413)
    assert (await member.ask("GET", "/cluster/salt", WITH_CLUSTER_KEY)).body == SALT


@pytest.mark.parametrize("path", ["/cluster/salt", "//cluster/salt", "/%2Fcluster/salt", "/cluster/%73alt"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_no_api_key_and_no_spelling_opens_the_salt(member: Site, method: str, path: str) -> None:
    """However the path is written: who shows an API key, a wrong key or none gets no salt."""
    for headers in ([WITH_API_KEY], [], [("x-api-key", CLUSTER_KEY.decode()[:-1])]):
        answered = await member.ask(method, path, *headers, chunks=(SALT,), user_key=None)
        assert answered.status in {403, 404}, answered.body
        assert SALT not in answered.body


async def test_what_only_nodes_have_no_api_call_takes(member: Site) -> None:
    """The cluster key opens salt and log, and nothing else."""
    for target in ("/cluster/status", "/cluster/configs", "/configs", "/stats"):
        assert_problem(await member.ask("GET", target, WITH_CLUSTER_KEY), 403)
        assert (await member.ask("GET", target, WITH_API_KEY)).status == 200
    assert (await member.ask("GET", "/cluster/health")).status == 200


async def test_a_rotated_cluster_key_counts_at_once(tmp_path: Path) -> None:
    """The guard of the moment decides: the new key opens, the old one does not."""
    keys = [b"the-first-cluster-key", b"the-second-cluster-key"]
    async with opened_site(tmp_path, api_keys=(API_KEY,), cluster_key=lambda: keys[0]) as site:
        assert (await compare(site, SALT, key=("x-api-key", keys[0].decode()))).status == 200
        keys.reverse()
        assert (await compare(site, SALT, key=("x-api-key", keys[0].decode()))).status == 200
        assert_problem(await compare(site, SALT, key=("x-api-key", keys[1].decode())), 403)


async def test_a_wrong_cluster_key_is_told_of_and_slowed_down(
    member: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with the address and no key, however often it is tried; and the throttle counts each."""
    monkeypatch.setattr("oscd.api.throttle.DELAY_SECONDS", 0)
    for _ in range(3):
        await member.ask("GET", "/cluster/salt", ("x-api-key", "secret-wrong-key"), peer="192.0.2.7")
        await member.ask("GET", "/cluster/salt", peer="192.0.2.8")
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("192.0.2.7 ")
    assert "secret" not in caplog.text
    assert "secret" not in json.dumps(member.lines)

    monkeypatch.setattr("oscd.api.throttle.MAX_DELAYED", 0)
    statuses = [
        (await member.ask("GET", "/cluster/salt", ("x-api-key", "wrong"), peer="192.0.2.9")).status
        for _ in range(BURST + 1)
    ]
    assert statuses == [403] * BURST + [429]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/cluster/status", "GET, HEAD, OPTIONS"),
        ("/cluster/configs", "GET, HEAD, OPTIONS"),
        ("/cluster/salt", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_options_says_what_a_path_takes(member: Site, path: str, allowed: str) -> None:
    """As on every other path, without a key."""
    answered = await member.ask("OPTIONS", path, user_key=None)
    assert answered.status == 200
    assert ", ".join(sorted((answered.header("allow") or "").split(", "))) == allowed
    assert_problem(await member.ask("PUT", path, WITH_CLUSTER_KEY if "salt" in path else WITH_API_KEY), 405)
