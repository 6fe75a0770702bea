"""Owns what is so now of a node's cluster, as gauges: what the steward reported of the peers.

A peer is called what the operator called it, so that a series lasts for as long as its entry in the settings, and no
peer chooses a label. Must not count, nor know a link.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from oscd.replication.members import healthy_nodes, total_nodes
from oscd.replication.report import ClusterReport, PeerReport


def cluster_gauges(report: ClusterReport | None) -> Iterator[Metric]:
    """All of them; at 0, or without a sample for any peer, where clustering is off.

    Args:
        report: None where clustering is off.
    """
    peers: Mapping[str, PeerReport] = {} if report is None else {peer.peer: peer for peer in report.peers}
    total, healthy = (0, 0) if report is None else (total_nodes(report), healthy_nodes(report))
    # Both count this node.
    yield _gauge("osc_cluster_nodes", "Nodes of the cluster", total)
    # The original's name; a gauge should not end like a counter, so it has a twin that does not.
    yield _gauge("osc_cluster_nodes_total", "Nodes of the cluster; as osc_cluster_nodes", total)
    yield _gauge("osc_cluster_nodes_healthy", "Nodes of the cluster that are well", healthy)
    yield _by_peer(
        "osc_replication_link_up",
        "Whether events come from a peer",
        {name: float(peer.is_healthy) for name, peer in peers.items()},
    )
    yield _by_peer(
        "osc_replication_lag_events",
        "Events a peer has that this node lacks",
        {name: peer.lag_events for name, peer in peers.items()},
    )
    yield _by_peer(
        "osc_replication_lag_seconds",
        "For how long this node has lacked events of a peer",
        {name: peer.lag_seconds for name, peer in peers.items()},
    )
    yield _by_peer(
        "osc_replication_skew_seconds",
        "Clock of a peer minus that of this node",
        {name: peer.skew_seconds for name, peer in peers.items()},
    )
    yield _gauge(
        "osc_replication_quarantined",
        "Origins whose events are not taken from a peer",
        0 if report is None else len(report.quarantined),
    )
    yield _gauge(
        "osc_replication_diverged",
        "Peers that hold the same events in another state",
        sum(peer.has_diverged for peer in peers.values()),
    )


def _gauge(name: str, help_text: str, value: int) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _by_peer(name: str, help_text: str, values: Mapping[str, float | None]) -> Metric:
    """A gauge with a sample for each peer of which the value is known."""
    family = GaugeMetricFamily(name, help_text, labels=["peer"])
    for peer, value in values.items():
        if value is not None:
            family.add_metric([peer], value)
    return family
