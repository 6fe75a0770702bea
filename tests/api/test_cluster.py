"""The calls on the cluster, with clustering off and on: exact shapes, who may ask, and never a value."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oscd.listing import Filters
from oscd.replication.report import ClusterReport, PeerReport, Quarantine, write_report
from oscd.times import microseconds_now, rfc3339
from tests.api.asgi import OTHER_KEY, REPORT, USER_KEY, Header, Site, assert_problem, opened_site
from tests.api.peering import CLUSTER_KEY, WITH_CLUSTER_KEY, exchange

API_KEY = b"an-api-key-of-the-callers"
WITH_API_KEY: Header = ("X-API-Key", API_KEY.decode())
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
LOST = PeerReport(
    "https://c.example:9000", None, "backing_off", has_diverged=True, last_error="It does not answer."
)
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
                "has_diverged": False,
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
                "has_diverged": True,
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


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Site, Site]]:
    """Two nodes of a cluster that ask for no API key, and do not see each other."""
    directories = [tmp_path / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    async with (
        opened_site(directories[0], cluster_key=lambda: CLUSTER_KEY, node_id="a") as a,
        opened_site(directories[1], cluster_key=lambda: CLUSTER_KEY, node_id="b") as b,
    ):
        yield a, b


async def test_writes_that_met_are_listed_and_can_be_brought_back(
    two: tuple[Site, Site], tmp_path: Path
) -> None:
    """Both nodes name the same winner and loser, whichever they had first; a rollback to the loser works."""
    a, b = two
    await b.create("b is later")
    for site in two:
        await site.create("shared", f"of {'a' if site is a else 'b'}", category="c")
    await a.create("owned", 1, user_key=USER_KEY)
    await b.create("owned", 2, user_key=OTHER_KEY)
    assert await exchange(a, b, tmp_path) == 3
    assert await exchange(b, a, tmp_path) == 2
    found = [await ask(site, "/cluster/conflicts") for site in two]
    assert [one["total"] for one in found] == [2, 2]
    by_key = [{one["key"]: one for one in conflicts["conflicts"]} for conflicts in found]
    assert by_key[0] == by_key[1]
    shared, owned = by_key[0]["shared"], by_key[0]["owned"]
    assert set(shared) == {"key", "environment", "foreign_key", "winner", "loser"}
    assert set(shared["loser"]) == {"node_id", "timestamp", "type", "version", "position"}
    assert (shared["environment"], shared["foreign_key"], owned["foreign_key"]) == ("e", False, True)
    assert {shared["winner"]["node_id"], shared["loser"]["node_id"]} == {"a", "b"}
    assert shared["winner"]["timestamp"] > shared["loser"]["timestamp"]
    assert (shared["loser"]["type"], shared["loser"]["version"]) == ("created", 1)
    for site in two:
        read = await site.ask("GET", "/configs/shared?environment=e")
        assert read.json()["value"] == f"of {shared['winner']['node_id']}"
    body = {"position": shared["loser"]["position"]}
    restored = await a.ask("POST", "/rollback/shared?environment=e", body=body)
    assert (restored.status, restored.json()["value"]) == (200, f"of {shared['loser']['node_id']}")
    assert (await scraped_conflicts(a)) == 2


async def scraped_conflicts(site: Site) -> float:
    text = (await site.ask("GET", "/metrics")).body.decode()
    (value,) = [
        line.split()[1] for line in text.splitlines() if line.startswith("osc_replication_conflicts_total")
    ]
    return float(value)


async def test_the_newest_conflicts_come_first_and_as_many_as_were_asked_for(
    two: tuple[Site, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list is read in several short views, and is the same list."""
    a, b = two
    for number in range(7):
        for site in two:
            await site.create(f"k{number}")
    await exchange(a, b, tmp_path)
    everything = (await ask(a, "/cluster/conflicts"))["conflicts"]
    assert [one["key"] for one in everything] == [f"k{number}" for number in reversed(range(7))]
    monkeypatch.setattr("oscd.history.conflicts.PAGE_CONFLICTS", 3)
    assert (await ask(a, "/cluster/conflicts"))["conflicts"] == everything
    monkeypatch.setattr("oscd.history.conflicts.PAGE_WORK", 1)
    assert (await ask(a, "/cluster/conflicts"))["conflicts"] == everything
    limited = await ask(a, "/cluster/conflicts?limit=2")
    assert (limited["conflicts"], limited["total"]) == (everything[:2], 7)
    for wrong in ("0", "1001", "x"):
        assert_problem(await a.ask("GET", f"/cluster/conflicts?limit={wrong}"), 422)


async def test_a_node_alone_has_no_conflicts(site: Site) -> None:
    """Commands are decided against what is there."""
    await site.create("k")
    assert await ask(site, "/cluster/conflicts") == {"conflicts": [], "total": 0}
