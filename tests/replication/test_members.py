"""What a worker says of the cluster: what the steward wrote, for as long as it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oscd.replication import members as members_module
from oscd.replication.members import (
    FRESH_MICROSECONDS,
    NO_STEWARD,
    SILENT_MICROSECONDS,
    Members,
    believed,
    healthy_nodes,
    is_synced,
    total_nodes,
)
from oscd.replication.report import ClusterReport, PeerReport, read_report, write_report

CONFIGURED = ("b:9000", "https://c:9000")
WELL = PeerReport("b:9000", "b", "live", is_healthy=True, is_synced=True)
BEHIND = replace(WELL, peer="c:9000", node_id="c", is_synced=False)


def test_before_the_first_report_nothing_is_known_of_any_peer() -> None:
    """Each configured peer is listed as one that nobody has met, and it is said why."""
    report = believed(None, CONFIGURED, 7)
    assert report.peers == (PeerReport("b:9000"), PeerReport("https://c:9000"))
    assert report.not_ready == (NO_STEWARD,)
    assert (total_nodes(report), healthy_nodes(report), is_synced(report)) == (3, 1, False)


def test_a_report_that_is_not_renewed_makes_nobody_healthy() -> None:
    """What was known stays to be seen, but nobody can say any more that a peer is well."""
    report = ClusterReport(1_000, ("Waits.",), (WELL, BEHIND))
    assert believed(report, CONFIGURED, 1_000 + SILENT_MICROSECONDS) is report
    old = believed(report, CONFIGURED, 1_001 + SILENT_MICROSECONDS)
    assert [peer.node_id for peer in old.peers] == ["b", "c"]
    assert (total_nodes(old), healthy_nodes(old), is_synced(old)) == (3, 1, False)
    assert old.not_ready == ("Waits.", NO_STEWARD)


def test_a_report_from_before_the_clock_was_set_back_makes_nobody_healthy() -> None:
    """However far back it was set: its steward may be dead, and the next report comes within a second."""
    report = ClusterReport(3_600_000_000, (), (WELL,))
    assert healthy_nodes(believed(report, CONFIGURED, 3_600_000_000 - 100_000)) == 2
    set_back = believed(report, CONFIGURED, 1_000)
    assert (healthy_nodes(set_back), set_back.not_ready) == (1, (NO_STEWARD,))


def test_all_are_synced_only_where_each_is() -> None:
    """Counts say nothing of it: digests do, and only of nodes that can be looked at."""
    assert is_synced(ClusterReport(0))
    well = replace(WELL, peer="d:9000", node_id="d")
    assert is_synced(ClusterReport(0, (), (WELL, well)))
    for other in (BEHIND, replace(well, is_synced=None), replace(well, is_healthy=False)):
        assert not is_synced(ClusterReport(0, (), (WELL, other)))


def test_a_node_of_two_names_counts_once() -> None:
    """It is well, and equal, where it is so under one of them; names that nobody has met yet are all counted."""
    again = replace(WELL, peer="127.0.0.1:9000", is_healthy=False, is_synced=None)
    report = ClusterReport(0, (), (WELL, again))
    assert (total_nodes(report), healthy_nodes(report), is_synced(report)) == (2, 2, True)
    unmet = (PeerReport("x:9000"), PeerReport("y:9000"), PeerReport("b", "x:9000"))
    report = ClusterReport(0, (), (WELL, again, *unmet))
    assert (total_nodes(report), healthy_nodes(report), is_synced(report)) == (5, 2, False)


async def test_many_who_ask_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read as seldom as its age allows, whatever the clock does."""
    now, path, looks = 50_000_000, tmp_path / "cluster.json", 0

    def counted(path: Path) -> ClusterReport | None:
        nonlocal looks
        looks += 1
        return read_report(path)

    monkeypatch.setattr(members_module, "read_report", counted)
    members = Members(CONFIGURED, path, clock=lambda: now)
    assert (await members.report()).not_ready == (NO_STEWARD,)
    write_report(path, ClusterReport(now, (), (WELL,)))
    for _ in range(10):
        assert (await members.report()).not_ready == (NO_STEWARD,)
    assert looks == 1
    now += FRESH_MICROSECONDS
    assert (await members.report()).peers == (WELL,)
    now -= 2 * FRESH_MICROSECONDS
    write_report(path, ClusterReport(now, (), (BEHIND,)))
    assert (await members.report()).peers == (BEHIND,)
    assert looks == 3
