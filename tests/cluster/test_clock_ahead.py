"""A node whose clock is an hour ahead: nodes end equal, the skew is told, and whoever writes later wins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import tests.support
from tests.support.cluster import MakeCluster, RunningCluster
from tests.support.log_file import log_of, winners
from tests.support.waiting import wait_until

HOUR = 3600
NEAR = 30.0
"""Seconds by which a skew may be told wrong: far less than it is."""

PROGRAM = Path(tests.support.__file__).with_name("clock_ahead.py")


def test_a_clock_an_hour_ahead_wins_nothing(make_cluster: MakeCluster) -> None:
    """Writes on the other node that come later win over those of the node that is ahead, on both; the skew is in the
    status, a metric and a warning, on both sides.
    """
    cluster = make_cluster(2, each={1: {"CLOCK_AHEAD_SECONDS": str(HOUR)}}, program={1: [str(PROGRAM)]})
    cluster.start()
    cluster.await_ready()
    ahead = put(cluster, 1, "ahead", "")
    later = put(cluster, 0, "later", ahead)
    cluster.await_equal()
    for number in cluster.numbers:
        with cluster.client(number) as client:
            assert (
                client.get("/configs/k?environment=e", headers={"X-OSC-After": later}).json()["value"]
                == "later"
            )
    log = log_of(cluster.nodes[0].database)
    stamps = [one.event.stamp for one in log.values() if one.event.is_of_entry]
    assert stamps == sorted(stamps)
    assert winners(log)["e", "k"].origin.node_id == "n0"
    for number, skew in ((0, HOUR), (1, -HOUR)):
        require_skew_told(cluster, number, skew)
    cluster.await_synced()


def put(cluster: RunningCluster, number: int, value: str, after: str) -> str:
    """Write the entry on a node that has seen what came before; gives the position."""
    with cluster.client(number) as client:
        if after:
            read = client.get("/configs/k?environment=e", headers={"X-OSC-After": after})
            assert read.status_code == 200, read.text
        answer = client.put(
            "/configs/k?environment=e", json={"value": value}, headers={} if after else {"If-None-Match": "*"}
        )
        assert answer.status_code in {200, 201}, answer.text
        return answer.headers["X-OSC-Position"]


def require_skew_told(cluster: RunningCluster, number: int, skew: float) -> None:
    """How far the clock of a node's one peer is ahead, wherever an operator would look."""
    (peer,) = cluster.peer_names(number)
    wait_until(lambda: cluster.peer_status(number, peer)["skew_seconds"] is not None)
    assert abs(cluster.peer_status(number, peer)["skew_seconds"] - skew) < NEAR
    with cluster.client(number) as client:
        metrics = client.get("/metrics").text
    told = re.findall(
        rf'^osc_replication_skew_seconds{{peer="{re.escape(peer)}"}} (\S+)$', metrics, re.MULTILINE
    )
    assert len(told) == 1, metrics
    assert abs(float(told[0]) - skew) < NEAR

    def is_warned() -> bool:
        lines = [
            json.loads(line) for line in cluster.nodes[number].output.splitlines() if line.startswith("{")
        ]
        return any(line["level"] == "warning" and "clock" in line["event"] for line in lines)

    wait_until(is_warned, what="a warning about the clocks")
