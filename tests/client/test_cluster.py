"""What a node tells of its cluster: asked without a user key, and trusted only where it has its shape."""

from __future__ import annotations

from typing import Any

import pytest

from oscd.client.cluster import Conflict, Peer, Quarantined, Write
from oscd.client.errors import AnswerUnreadable
from tests.client.answering import answer, service

PEER: dict[str, Any] = {
    "node_id": "node-b",
    "peer": "b:9000",
    "state": "catching_up",
    "is_healthy": True,
    "last_seen": "2026-01-31T12:00:00.000000Z",
    "lag_events": 7,
    "lag_seconds": 0,
    "skew_seconds": -0.25,
    "has_diverged": False,
    "last_error": None,
}
QUARANTINED = {"node_id": "node-c", "incarnation": "c" * 16, "seq": 9, "peer": "b:9000", "reason": "a fork"}
STATUS: dict[str, Any] = {
    "enabled": True,
    "mode": "replica",
    "node_id": "node-a",
    "total_nodes": 2,
    "healthy_nodes": 2,
    "nodes": [PEER],
    "quarantined": [],
    "not_ready": [],
}
OFF = (
    STATUS
    | dict.fromkeys(("mode", "node_id", "total_nodes", "healthy_nodes"))
    | {"enabled": False, "nodes": []}
)
HOLDS: dict[str, Any] = {
    "cluster_mode": "replica",
    "is_replica": True,
    "all_nodes_synced": False,
    "nodes_distribution": [
        {"node_id": "node-a", "is_local": True, "is_healthy": True, "keys_count": 3},
        {"node_id": "node-b", "is_local": False, "is_healthy": True, "keys_count": None},
    ],
}
WRITE = {"node_id": "node-a", "timestamp": "2026-01-31T12:00:00.000000Z", "type": "updated", "version": 2}
MET = {
    "key": "k",
    "environment": "prod",
    "foreign_key": True,
    "winner": WRITE | {"position": "A1"},
    "loser": WRITE | {"node_id": "node-b", "position": "A2"},
}


def test_the_status_of_a_cluster_is_read_whole() -> None:
    """Peers, quarantine and reasons; a number of seconds may come without a point."""
    asked, script = service(answer(STATUS | {"quarantined": [QUARANTINED], "not_ready": ["waits for b"]}))
    status = asked.cluster_status()
    assert (status.enabled, status.node_id, status.total_nodes, status.healthy_nodes) == (
        True,
        "node-a",
        2,
        2,
    )
    seen = "2026-01-31T12:00:00.000000Z"
    assert status.peers == (Peer("node-b", "b:9000", "catching_up", True, seen, 7, 0.0, -0.25, False, None),)
    assert status.quarantined == (Quarantined("node-c", "c" * 16, 9, "b:9000", "a fork"),)
    assert status.not_ready == ("waits for b",)
    assert script.asked[0].url.path == "/cluster/status"
    assert "X-User-Key" not in script.asked[0].headers


@pytest.mark.parametrize(
    ("changed", "is_well"),
    [
        ({}, True),
        ({"nodes": [PEER | {"is_healthy": False}]}, False),
        ({"nodes": [PEER | {"has_diverged": True}]}, False),
        ({"quarantined": [QUARANTINED]}, False),
        ({"not_ready": ["waits for b"]}, False),
        (OFF, True),
    ],
)
def test_a_cluster_is_well_where_nothing_is_amiss(changed: dict[str, Any], is_well: bool) -> None:
    """Every node healthy and in this one's state, this one ready, nothing quarantined; a node alone is well."""
    asked, _ = service(answer(STATUS | changed))
    assert asked.cluster_status().is_well is is_well


def test_what_the_nodes_hold_is_read() -> None:
    """Which node answered, whether all are in one state, and the entries where they are known."""
    asked, _ = service(answer(HOLDS))
    holds = asked.distribution()
    assert (holds.node_id, holds.is_synced, holds.entries) == ("node-a", False, {"node-a": 3, "node-b": None})


def test_conflicts_are_read_in_their_order() -> None:
    """As many as were asked for, the newest first."""
    asked, script = service(answer({"conflicts": [MET, MET | {"key": "older"}], "total": 9}))
    newest, older = asked.conflicts(2)
    winner, loser = (
        Write(node, "2026-01-31T12:00:00.000000Z", "updated", 2, position)
        for node, position in (("node-a", "A1"), ("node-b", "A2"))
    )
    assert newest == Conflict("k", "prod", True, winner, loser)
    assert older.key == "older"
    assert dict(script.asked[0].url.params) == {"limit": "2"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": None},
        {"nodes": [1]},
        {"nodes": [PEER | {"lag_seconds": "1"}]},
        {"not_ready": [1]},
        {"quarantined": [QUARANTINED | {"seq": "9"}]},
    ],
)
def test_an_answer_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    """Nothing of it is shown half."""
    asked, _ = service(answer(STATUS | wrong))
    with pytest.raises(AnswerUnreadable):
        asked.cluster_status()


def test_a_distribution_without_the_asked_node_is_refused() -> None:
    """Exactly one node says that it is the one that answers."""
    asked, _ = service(answer(HOLDS | {"nodes_distribution": HOLDS["nodes_distribution"][1:]}))
    with pytest.raises(AnswerUnreadable, match="which node"):
        asked.distribution()
