"""A node among peers that hold the cluster key and misbehave: each is named, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from oscd.events.event import Origin
from tests.support.cluster import MakeCluster, RunningCluster, clusters
from tests.support.hostile_peer import (
    Behaviour,
    Forger,
    HostilePeer,
    Stream,
    hostile_peers,
    json_frame,
    standing_at,
    status,
)
from tests.support.load import resident_bytes
from tests.support.log_file import log_of
from tests.support.waiting import wait_until

SALT = bytes(range(64))
YEAR_9999 = 253_370_764_800_000_000
"""µs since 1970."""

MOST_GROWN_BYTES = 64 * 1024 * 1024
MOST_ASKED_PER_SECOND = 2.5
"""A link begins anew after 0.1 s at first, and at most once a second soon."""

WATCHED_SECONDS = 6.0
SLOWEST_SECONDS = 2.0
"""Generous: this machine also runs everybody who misbehaves."""


async def gap(stream: Stream) -> None:
    """An event whose predecessor is kept back."""
    forger = Forger()
    forger.next()
    second = forger.next()
    await stream.begin(position=standing_at(second), head=2)
    await stream.send(second.frame())
    await stream.go_on()


async def changed_body(stream: Stream) -> None:
    """An event whose value was exchanged on the way."""
    event = Forger().next()
    await stream.begin(position=standing_at(event), head=1)
    await stream.send(event.frame(body=event.body.replace(b"nobody", b"anyone")))
    await stream.go_on()


async def changed_header(stream: Stream) -> None:
    """An event that was moved to another entry, while its digest stayed."""
    event = Forger().next()
    await stream.begin(position=standing_at(event), head=1)
    await stream.send(event.frame(header=event.header.replace(b"forged", b"folded")))
    await stream.go_on()


async def replay(stream: Stream) -> None:
    """One event of nobody's over and over."""
    event = Forger().next(last_seq=3)
    await stream.begin(position=standing_at(event), head=1)
    for _ in range(3):
        await stream.send(event.frame())
    await stream.go_on()


async def half_a_write(stream: Stream) -> None:
    """The first two events of three, then another write."""
    forger = Forger()
    await stream.begin()
    for _ in range(2):
        await stream.send(forger.next(last_seq=3).frame())
    await stream.send(Forger().next().frame())
    await stream.go_on()


async def giant_event(stream: Stream) -> None:
    """A header that says it has four gigabytes, and begins."""
    await stream.begin()
    await stream.send(b"E" + b"\xff\xff\xff\xfe" * 2)
    while True:
        await stream.send(bytes(65536))


async def giant_status(stream: Stream) -> None:
    """A status of a gigabyte."""
    await stream.head()
    await stream.send(b"S\x40\x00\x00\x00")
    while True:
        await stream.send(b" " * 65536)


async def endless_write(stream: Stream) -> None:
    """Sound events of one write that never ends."""
    forger = Forger()
    await stream.begin()
    for number in itertools.count():
        await stream.send(forger.next(f"forged-{number}", last_seq=240_000).frame())


async def endless_page(stream: Stream) -> None:
    """A web page without an end."""
    await stream.head(kind="text/html")
    while True:
        await stream.send(b"<p>" * 10_000)


async def elsewhere(stream: Stream) -> None:
    """A redirect, to where nobody may be sent with the cluster key."""
    await stream.head("302 Found", f"Location: http://127.0.0.1:{stream.peer.port}/elsewhere")


async def no_http(stream: Stream) -> None:
    """Another protocol."""
    await stream.send(b"220 mail.example ESMTP\r\n")


async def garbage(stream: Stream) -> None:
    """Random bytes in a stream of events."""
    await stream.begin()
    await stream.send(b"?" + secrets.token_bytes(4000))
    await stream.go_on()


async def silent(stream: Stream) -> None:
    """Nothing at all."""
    await asyncio.Event().wait()


async def stalled(stream: Stream) -> None:
    """A beginning, and then nothing."""
    await stream.begin()
    await asyncio.Event().wait()


async def dripping(stream: Stream) -> None:
    """A status, a byte at a time."""
    await stream.begin()
    for byte in status(stream.peer):
        await stream.send(bytes([byte]))
        await asyncio.sleep(0.5)


async def another_salt(stream: Stream) -> None:
    """A peer of another cluster."""
    await stream.begin(salt=secrets.token_hex(32))
    await stream.go_on()


async def no_status(stream: Stream) -> None:
    """A status without what it should say."""
    await stream.head()
    await stream.send(json_frame(b"S", {"node_id": ["no", "name"]}))
    await stream.go_on()


CONDEMNED: dict[str, Behaviour] = {
    "gap": gap,
    "changed-body": changed_body,
    "replay": replay,
    "half-a-write": half_a_write,
    "giant-event": giant_event,
    "giant-status": giant_status,
    "endless-write": endless_write,
    "endless-page": endless_page,
    "elsewhere": elsewhere,
    "no-http": no_http,
    "garbage": garbage,
    "silent": silent,
    "stalled": stalled,
    "dripping": dripping,
    "another-salt": another_salt,
    "no-status": no_status,
}
"""Of whom nothing more is wanted on that stream."""


async def from_the_future(stream: Stream) -> None:
    """An event of the year 9999, and then one of its origin as it should be."""
    forger = Forger()
    await stream.begin()
    await stream.send(forger.next(stamp=YEAR_9999).frame())
    await stream.send(forger.next().frame())
    await stream.go_on()


async def never_to_be_told(stream: Stream) -> None:
    """An event that says it was written after the year 9999, which no text can say."""
    event = Forger().next(created_at=YEAR_9999 * 2, updated_at=YEAR_9999 * 2)
    await stream.begin(position=standing_at(event))
    await stream.send(event.frame())
    await stream.go_on()


@dataclass(frozen=True, slots=True)
class Forked:
    """Another first event of an origin that the node has."""

    origin: Origin

    async def __call__(self, stream: Stream) -> None:
        event = Forger(self.origin).next()
        await stream.begin(position=standing_at(event))
        await stream.send(event.frame())
        await stream.go_on()


@dataclass(frozen=True, slots=True)
class Mended:
    """An origin whose first event is of the year 9999, until it is put right: made anew, of today."""

    origin: Origin = field(default_factory=lambda: Origin("forger", secrets.token_hex(8)))
    is_sound: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, stream: Stream) -> None:
        changes: dict[str, Any] = {} if self.is_sound.is_set() else {"stamp": YEAR_9999}
        event = Forger(self.origin).next(**changes)
        await stream.begin(position=standing_at(event), head=1)
        await stream.send(event.frame())
        await stream.go_on()


HELD: dict[str, Behaviour] = {
    "from-the-future": from_the_future,
    "never-to-be-told": never_to_be_told,
    "changed-header": changed_header,
}
"""Of whom one origin is not wanted, and one more: `Forked`."""

REASONS = {
    "from-the-future": "24 h ahead",
    "never-to-be-told": "unlike any",
    "changed-header": "fork",
    "forked": "fork",
}


@dataclass(frozen=True, slots=True)
class Among:
    """A node, its one honest peer, and those that misbehave."""

    cluster: RunningCluster
    peers: dict[str, HostilePeer]

    def names(self, name: str) -> str:
        """How the node is told of a hostile peer."""
        return f"127.0.0.1:{self.peers[name].port}"


@pytest.fixture(scope="module")
def among(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Among]:
    with clusters(tmp_path_factory.mktemp("clusters")) as make:
        # A write may have 4 MiB then, so that an endless one is found out soon.
        cluster = make(2, settings={"OSC_MAX_IMPORT_BYTES": "1MiB"})
        cluster.give_salt(SALT)
        cluster.start(1)
        with cluster.client(1) as client:
            wait_until(lambda: write(client, "before") == 201, what="the honest peer to take writes")
        first, *_ = log_of(cluster.nodes[1].database).values()
        held = HELD | {"forked": Forked(first.event.origin)}
        with hostile_peers(SALT, CONDEMNED | held) as peers:
            cluster.more_peers[0] += [f"127.0.0.1:{peer.port}" for peer in peers.values()]
            cluster.start(0)
            yield Among(cluster, peers)


def write(client: httpx.Client, key: str) -> int:
    body = {"key": key, "environment": "honest", "value": 1}
    return client.post("/configs", json=body).status_code


@pytest.mark.parametrize("name", CONDEMNED)
def test_a_peer_that_misbehaves_is_named_with_a_reason(among: Among, name: str) -> None:
    """In `/cluster/status`, in words that repeat nothing of what it sent."""
    peer = among.names(name)
    reason = wait_until(lambda: among.cluster.peer_status(0, peer)["last_error"], what=f"a reason for {name}")
    print(reason)
    assert reason.isprintable()
    assert not set(CONDEMNED) & set(reason.split())
    assert "forged" not in reason


@pytest.mark.parametrize("name", REASONS)
def test_an_origin_that_may_not_be_taken_is_held(among: Among, name: str) -> None:
    """It is named with the peer that showed it, from which event on, and why; the link goes on."""

    def held() -> list[dict[str, Any]]:
        quarantined: list[dict[str, Any]] = among.cluster.status(0)["quarantined"]
        return [one for one in quarantined if one["peer"] == among.names(name)]

    (found,) = wait_until(held, what=f"{name} to be held")
    assert found["seq"] == 1
    assert REASONS[name] in found["reason"]
    # What was held is tried again each round, on a stream of its own.
    wait_until(
        lambda: among.cluster.peer_status(0, among.names(name))["is_healthy"], what=f"{name} to be healthy"
    )


def test_what_was_held_is_taken_once_it_is_sound(make_cluster: MakeCluster) -> None:
    """What time may cure is asked for again with each round of comparisons, so once it is put right at its source it
    comes in without anybody's help, and the quarantine is over.
    """
    mended = Mended()
    cluster = make_cluster(1)
    cluster.give_salt(SALT)
    with hostile_peers(SALT, {"mended": mended}) as peers:
        cluster.more_peers[0].append(f"127.0.0.1:{peers['mended'].port}")
        cluster.start(0)
        wait_until(lambda: cluster.status(0)["quarantined"], what="the origin to be held")
        wait_until(lambda: len(peers["mended"].asked) > 2, what="it to be asked for again")
        assert not log_of(cluster.nodes[0].database)
        mended.is_sound.set()
        wait_until(lambda: log_of(cluster.nodes[0].database), what="the event")
        wait_until(lambda: not cluster.status(0)["quarantined"], what="the end of the quarantine")


def test_nothing_of_it_is_stored_and_nobody_else_is_harmed(among: Among) -> None:
    """While all of them go on, what an honest peer writes is here at once, memory is bounded, and nobody is asked
    without a pause; in the log is nothing but the honest peer's.
    """
    cluster, node = among.cluster, among.cluster.nodes[0]
    for name in CONDEMNED:
        wait_until(lambda: among.peers[name].asked, what=f"{name} to be asked")  # noqa: B023
    before, asked = (
        resident_bytes(node.processes()),
        {name: len(peer.asked) for name, peer in among.peers.items()},
    )
    grown = written = 0
    slowest = 0.0
    until = time.monotonic() + WATCHED_SECONDS
    with cluster.client(0) as here, cluster.client(1) as there:
        while time.monotonic() < until:
            key = f"meanwhile-{written}"
            begun = time.monotonic()
            assert write(there, key) == 201
            wait_until(lambda: here.get(f"/configs/{key}?environment=honest").status_code == 200)  # noqa: B023
            slowest = max(slowest, time.monotonic() - begun)
            grown = max(grown, resident_bytes(node.processes()) - before)
            written += 1
    print(f"{written} writes, at most {slowest:.3f} s, {grown / 1e6:.1f} MB more")
    assert slowest < SLOWEST_SECONDS
    assert grown < MOST_GROWN_BYTES
    often = {
        name: rate
        for name, peer in among.peers.items()
        if (rate := (len(peer.asked) - asked[name]) / WATCHED_SECONDS) > MOST_ASKED_PER_SECOND
    }
    assert not often, often
    honest = cluster.peer_status(0, "n1")
    assert (honest["state"], honest["lag_events"]) == ("live", 0)
    assert {one.event.origin.node_id for one in log_of(node.database).values()} == {"n1"}
    with cluster.client(0) as client:
        listed = client.get("/configs").raise_for_status().json()
        assert {entry["environment"] for entry in listed} == {"honest"}
        assert client.get("/events").raise_for_status().json()
