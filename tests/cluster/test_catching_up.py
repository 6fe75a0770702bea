"""A node that was away is brought up to date, whatever happens to it meanwhile, and says so to its readers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from opensecureconf_client import OpenSecureConfClient, SSEEventData  # type: ignore[import-untyped]

from tests.support import original
from tests.support.cluster import API_KEY, RunningCluster, clusters
from tests.support.history import Filters
from tests.support.log_file import log_of
from tests.support.node import USER_KEY, key_headers
from tests.support.subscriber import Subscriber, Wanted, stands_at
from tests.support.waiting import PATIENCE, eventually, wait_until

WRITES = 6
ENTRIES = 1000
"""Of one write, which takes some half a megabyte."""
PASSED_BYTES = 1_250_000
"""More than two writes, and less than half of all: a link that begins anew passes the beginning of one in vain."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Two nodes of two workers each; a test takes an environment of its own, and leaves them equal."""
    with clusters(tmp_path_factory.mktemp("clusters")) as make:
        cluster = make(2, settings={"OSC_WORKERS": "2"})
        cluster.start()
        cluster.await_ready()
        yield cluster


def test_a_steward_that_is_killed_in_a_catch_up_is_replaced(cluster: RunningCluster) -> None:
    """Another worker becomes the steward and takes in the rest, nothing twice; a reader is told each event once."""
    cluster.await_equal()
    start = cluster.standings()[1].position
    node = cluster.nodes[1]
    before = len(log_of(node.database))
    cluster.kill(1)
    for number in range(WRITES):
        take_in(cluster, "backlog", number)
    missed = len(log_of(cluster.nodes[0].database))
    cluster.links[1, 0].silence_after(PASSED_BYTES)
    try:
        cluster.start(1)
        wait_until(lambda: len(log_of(node.database)) > before, what="the first write to be taken in")
        steward = wait_until(node.steward_pid, what="a steward")
        os.kill(steward, signal.SIGKILL)
        wait_until(lambda: node.steward_pid() not in {None, steward}, what="another steward")
        assert len(log_of(node.database)) < missed, "the catch-up was over before the steward was killed"
    finally:
        cluster.heal()
    end = cluster.await_equal().position
    cluster.await_synced()
    require_told_once(cluster, start, end)


def take_in(cluster: RunningCluster, environment: str, number: int) -> None:
    """Write many new entries on the first node, at once."""
    password = "a password of a backup"
    entries = [
        {"key": f"e{number}-{n:05}", "value": "v" * 100, "environment": environment, "category": None}
        for n in range(ENTRIES)
    ]
    body = {"backup_data": original.backup(password, entries), "overwrite": False}
    with cluster.client(0) as client:
        report = client.post("/import", json=body, headers={"X-Backup-Password": password})
    assert report.json()["imported"] == ENTRIES, report.text


def require_told_once(cluster: RunningCluster, start: str, end: str) -> None:
    """The second node holds and tells each event of the backlog once."""
    wanted = Wanted(Filters(environment="backlog"), key_headers(api_key=API_KEY), after=start)
    subscriber = Subscriber(cluster.ports[1], wanted)
    subscriber.open()
    assert subscriber.read_until(stands_at(end))
    subscriber.close()
    frames = [frame for frame in subscriber.history.attempts[0].frames if frame.is_change]
    assert {frame.event for frame in frames} == {"created"}
    told = [frame.data["key"] for frame in frames]
    assert len(told) == WRITES * ENTRIES
    assert len(set(told)) == len(told)


async def test_the_published_client_is_told_of_a_backlog(cluster: RunningCluster) -> None:
    """Its listener on a node that was down hears every change that it missed, then `sync` with their number."""
    cluster.await_equal()
    cluster.kill(1)
    with cluster.client(0) as client:
        for number in range(WRITES):
            body = {"key": f"k{number}", "environment": "missed", "value": number}
            client.post("/configs", json=body).raise_for_status()
    cluster.links[1, 0].cut()
    cluster.start(1)
    heard: list[SSEEventData] = []

    async def listen(event: SSEEventData) -> None:
        heard.append(event)

    with OpenSecureConfClient(cluster.nodes[1].base_url, USER_KEY, api_key=API_KEY) as listening:
        # Without a log level that client raises.
        async with listening.create_sse_client(
            on_event=listen, log_level="ERROR", environment="missed"
        ) as sse:
            await sse.connect()
            await eventually(lambda: heard, what="the stream to open")
            cluster.links[1, 0].heal()
            await eventually(lambda: heard[-1].event_type == "sync", PATIENCE, what="the sync")
    told = [(one.event_type, one.key, one.node_id) for one in heard]
    assert told == [
        ("connected", None, told[0][2]),
        *(("created", f"k{number}", "n0") for number in range(WRITES)),
        ("sync", None, "n1"),
    ]
    assert heard[-1].data == {"events": WRITES}
