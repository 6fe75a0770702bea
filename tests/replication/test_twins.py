"""One node under two names of OSC_CLUSTER_NODES: it is said once, and it counts once."""

from __future__ import annotations

import pytest

from oscd.events.position import Position
from oscd.replication.link import Link
from oscd.replication.peers import Peer
from oscd.replication.readiness import Readiness
from oscd.replication.twins import Twins


def link_to(name: str, node_id: str | None = None, run: str = "run", *, is_open: bool = True) -> Link:
    link = Link(Peer(name, f"http://{name}"), lambda: None)
    link.sight.node_id, link.sight.run = node_id, run
    link.sight.position = Position({}) if is_open else None
    return link


def test_two_names_of_one_node_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With both of them; not of what was met in an earlier run, nor of nodes that only share a name or none."""
    links = [
        link_to("b:9000", "node-b"),
        link_to("c:9000", "node-c"),
        link_to("10.0.0.2:9000", "node-b"),
        link_to("old:9000", "node-b", is_open=False),
        link_to("other:9000", "node-b", "another-run"),
        link_to("d:9000", is_open=False),
        link_to("e:9000", is_open=False),
    ]
    twins = Twins(links)
    twins.look()
    twins.look()
    assert caplog.messages == [
        "OSC_CLUSTER_NODES: b:9000 and 10.0.0.2:9000 are one node, node-b, which counts once; remove one of them"
    ]


def test_a_first_catch_up_counts_under_every_name_of_a_node() -> None:
    """A second name that does not answer any more keeps nobody waiting; a peer that was never met does."""
    caught_up, again, unmet = link_to("b:9000", "node-b"), link_to("b2:9000", "node-b"), link_to("c:9000")
    unmet.sight.position = None
    readiness = Readiness([caught_up, again, unmet], is_ready=False)
    assert len(readiness.reasons()) == 4
    caught_up.has_caught_up = True
    assert [reason for reason in readiness.reasons() if "answered yet" in reason] == [
        "c:9000 has not answered yet."
    ]
    assert not any("b2:9000" in reason for reason in readiness.reasons())
