"""The report of the steward: what was written is read back, and nothing else passes for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from oscd.replication.report import ClusterReport, PeerReport, Quarantine, read_report, write_report

REPORT = ClusterReport(
    written_at=1_700_000_000_000_000,
    not_ready=("This node has no salt yet: node-b has not answered.",),
    peers=(
        PeerReport("node-a:9000"),
        PeerReport(
            peer="https://node-b:9000",
            node_id="node-b",
            state="live",
            is_healthy=True,
            last_seen=1_700_000_000_000_000,
            lag_events=3,
            lag_seconds=0.25,
            skew_seconds=-0.5,
            entries=7,
            is_synced=False,
            last_error="no answer within 2 s",
        ),
    ),
    quarantined=(Quarantine("node-c", "00" * 8, 4, "node-a:9000", "another event with this number"),),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """A report, and the one that replaces it, come back equal, and no draft stays."""
    path = tmp_path / "cluster.json"
    for report in (REPORT, ClusterReport(written_at=2)):
        write_report(path, report)
        assert read_report(path) == report
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_there_is_no_report(tmp_path: Path) -> None:
    """Before the first election there is nothing to read, and that is no error."""
    assert read_report(tmp_path / "cluster.json") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"written_at":1,"not_ready":[],"peers":[{"peer":"a',
        b"[]",
        b"{}",
        b'{"written_at":1,"not_ready":[],"peers":["a"],"quarantined":[]}',
        b'{"written_at":1,"not_ready":[],"peers":[{"peer":"a","colour":"red"}],"quarantined":[]}',
        b"\xff",
    ],
    ids=["empty", "torn", "a list", "no fields", "no object", "a field too many", "no text"],
)
def test_what_is_no_report_reads_as_none(tmp_path: Path, content: bytes) -> None:
    """A torn file, or one of another version, is passed over until the next one replaces it."""
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    assert read_report(path) is None
