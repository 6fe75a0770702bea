"""What nodes ask of each other: the salt, and the log as it is written. Only the cluster key opens either."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oscd.api.throttle import BURST
from oscd.errors import Unavailable
from oscd.events.cipher import SALT_BYTES
from oscd.events.position import Position
from oscd.events.salt import salt_digest
from oscd.replication.source import KEY_REPLACED, MOST_STREAMS, SHUTDOWN
from oscd.replication.wire import CONTENT_TYPE, PeerStatus
from oscd.streams.ticket import credential
from tests.api.asgi import SALT, Answered, Header, Site, assert_problem, opened_site
from tests.api.peering import CLUSTER_KEY, PULLER, WITH_CLUSTER_KEY, pulling
from tests.support.waiting import eventually

API_KEY = b"an-api-key-of-the-callers"
WITH_API_KEY: Header = ("X-API-Key", API_KEY.decode())


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge of a node of a cluster."""
    async with opened_site(tmp_path, api_keys=(API_KEY,), cluster_key=lambda: CLUSTER_KEY) as site:
        yield site


@pytest.fixture
async def open_member(tmp_path: Path) -> AsyncIterator[Site]:
    """The same, but callers need no API key."""
    async with opened_site(tmp_path, cluster_key=lambda: CLUSTER_KEY) as site:
        yield site


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


async def test_the_log_goes_out_as_a_stream(open_member: Site) -> None:
    """Status, type, no caching, no length; then what a puller that stands nowhere lacks, which is all."""
    await open_member.create("k")
    async with pulling(open_member) as pulled:
        assert pulled.status == 200
        assert pulled.header("content-type") == CONTENT_TYPE
        assert pulled.header("cache-control") == "no-store"
        assert pulled.header("content-length") is None
        assert len(pulled.events) == 1
        await open_member.create("k2")
        await eventually(lambda: len(pulled.events) == 2, 20.0)
        assert not pulled.ended


async def test_of_a_stream_a_head_says_as_much(open_member: Site) -> None:
    """And opens none."""
    async with pulling(open_member, method="HEAD") as pulled:
        assert (pulled.whole().status, pulled.whole().body, pulled.ended) == (200, b"", True)
        assert pulled.header("content-type") == CONTENT_TYPE


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"node": "b"},
        {"run": "r"},
        PULLER | {"node": "a name"},
        PULLER | {"node": "x" * 65},
        PULLER | {"node": f"node-{CLUSTER_KEY.decode()}"},
        PULLER | {"run": "\n"},
        PULLER | {"after": "no position"},
        PULLER | {"after": "A" * 5000},
        PULLER | {"salt": "00"},
        PULLER | {"salt": "g" * 64},
        PULLER | {"skip": "0011 2233 445566"},
        PULLER | {"asks": "2"},
    ],
)
async def test_a_pull_that_cannot_be_understood_is_refused(open_member: Site, query: dict[str, str]) -> None:
    """422 that names the field, and no stream."""
    async with pulling(open_member, query) as pulled:
        assert assert_problem(pulled.whole(), 422)["errors"]


@pytest.mark.parametrize("key", [API_KEY, CLUSTER_KEY])
@pytest.mark.parametrize("name", ["node", "run"])
async def test_nobody_is_called_by_a_key(member: Site, name: str, key: bytes) -> None:
    """Invariant 7: names are logged and noted, so one that repeats any key of this node is refused, unrepeated."""
    async with pulling(member, PULLER | {"asks": "1", name: f"a-{key.decode()}"}) as pulled:
        problem = assert_problem(pulled.whole(), 422)
    assert key.decode() not in json.dumps(problem)
    assert await member.log.read(lambda reading: dict(reading.runs())) == {}


async def test_what_a_pull_says_reaches_the_log(open_member: Site) -> None:
    """Where it stands, what it skips, and that it asks: its run is noted then."""
    await open_member.create("k")
    position = await open_member.log.read(lambda reading: reading.position())
    for said in ({"after": position.encode()}, {"skip": next(iter(position.marks)).upper()}):
        async with pulling(open_member, PULLER | said) as pulled:
            assert pulled.events == []
    assert await open_member.log.read(lambda reading: dict(reading.runs())) == {}
    said = {"asks": "1", "salt": salt_digest(SALT).hex().upper(), "after": Position({}).encode()}
    async with pulling(open_member, PULLER | said) as pulled:
        assert len(pulled.events) == 1
    assert await open_member.log.read(lambda reading: dict(reading.runs())) == {"puller": "run-of-puller"}


@pytest.mark.parametrize(("said", "told"), [({"node": "tested"}, "NODE_ID"), ({"salt": "5a" * 32}, "SALT")])
async def test_a_peer_that_cannot_be_one_is_told_what_to_do(
    open_member: Site, said: dict[str, str], told: str
) -> None:
    """409, with a sentence for the operator of the peer."""
    await open_member.create("k")
    async with pulling(open_member, PULLER | said) as pulled:
        assert told in assert_problem(pulled.whole(), 409)["detail"]


async def test_a_node_that_meets_itself_is_told_whom_it_has_met(open_member: Site) -> None:
    """A status with its own run, and an end."""
    async with pulling(open_member, {"node": "tested", "run": "run-of-tested"}) as pulled:
        await pulled.goodbye()
        status = pulled.frames[0]
        assert isinstance(status, PeerStatus)
        assert status.run == "run-of-tested"


async def test_nothing_of_a_pull_is_in_the_log(open_member: Site) -> None:
    """Its line names the route and no query; that it lasted long is no duration of a request."""
    async with pulling(open_member):
        pass
    (line,) = open_member.lines
    assert (line["route"], line["status"]) == ("/cluster/events", 200)
    assert "run-of-puller" not in json.dumps(open_member.lines)
    metrics = (await open_member.ask("GET", "/metrics")).body
    assert (
        b'osc_http_requests_total{endpoint="/cluster/events",method="GET",status_code="200"} 1.0' in metrics
    )
    assert b'osc_http_request_duration_seconds_count{endpoint="/cluster/events"' not in metrics


async def test_a_stream_keeps_no_key(open_member: Site) -> None:
    """It may last for months after the key was needed."""
    async with pulling(open_member) as pulled:
        kept = repr((pulled.scope["headers"], pulled.scope.get("oscd")))
        assert CLUSTER_KEY.decode() not in kept


async def test_a_peer_that_leaves_is_forgotten(open_member: Site) -> None:
    """As many may come as like, one after the other."""
    for _ in range(MOST_STREAMS + 1):
        async with pulling(open_member) as pulled:
            assert pulled.status == 200


async def test_shutdown_and_rotation_end_a_stream(tmp_path: Path) -> None:
    """It says goodbye and why; a pull with the old key is 403, one at a node that shuts down 503."""
    keys = [b"the-first-cluster-key", b"the-second-cluster-key"]
    async with opened_site(tmp_path, cluster_key=lambda: keys[0]) as site:
        assert site.source is not None
        old = ("x-api-key", keys[0].decode())
        async with pulling(site, PULLER, old) as pulled:
            keys.reverse()
            site.source.revoke({credential(keys[0])})
            assert await pulled.goodbye() == KEY_REPLACED
        async with pulling(site, PULLER, old) as pulled:
            assert_problem(pulled.whole(), 403)
        async with pulling(site, PULLER, ("x-api-key", keys[0].decode())) as pulled:
            site.source.end_all()
            assert await pulled.goodbye() == SHUTDOWN
        async with pulling(site, PULLER, ("x-api-key", keys[0].decode())) as pulled:
            assert_problem(pulled.whole(), 503)
            assert pulled.header("retry-after") == "2"


async def test_a_key_that_is_replaced_while_it_is_judged_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams that it had opened are ended by then, so a new one must not slip through."""
    keys = [b"the-first-cluster-key", b"the-second-cluster-key"]
    async with opened_site(tmp_path, cluster_key=lambda: keys[0]) as site:
        monkeypatch.setattr("oscd.api.peers.Pull", lambda *_: keys.reverse())
        async with pulling(site, PULLER, ("x-api-key", keys[0].decode())) as pulled:
            assert_problem(pulled.whole(), 403)
