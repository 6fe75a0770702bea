"""Whatever a peer's status says, the report that is made of it can be written, read back, and shown."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path
from typing import Any, cast

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oscd.api.call import Call
from oscd.api.cluster import Cluster, Membership
from oscd.events.position import Mark, Position
from oscd.node import Node
from oscd.replication.errors import PeerRefused
from oscd.replication.link import Link
from oscd.replication.members import Members
from oscd.replication.peers import Peer
from oscd.replication.report import ClusterReport, read_report, write_report
from oscd.replication.sight import look
from oscd.replication.states import LinkState
from oscd.replication.wire import Frames, PeerStatus
from tests.replication.shipping import NOW, log_of

OURS = log_of("node-a")
(EVENT,) = OURS.write("one")

incarnations = st.binary(min_size=8, max_size=8).map(bytes.hex) | st.just(EVENT.origin.incarnation)
numbers = st.integers(0, 2**63 - 1) | st.sampled_from([0, 1, 2**53, 2**63 - 1])
positions = st.dictionaries(
    incarnations,
    st.builds(Mark, numbers.filter(bool), st.binary(min_size=4, max_size=4)),
    max_size=150,
).map(lambda marks: Position(marks).encode())
texts = st.text(max_size=300) | st.sampled_from(["node-b", "n" * 64, "00" * 32])
anything: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | numbers
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | texts
    | st.lists(texts)
)
documents = st.fixed_dictionaries(
    {
        "node_id": st.just("node-b") | texts,
        "run": texts,
        "salt": texts,
        "now": numbers,
        "position": positions,
        "state": texts,
        "entries": numbers,
        "head": numbers,
        "is_at_head": st.booleans(),
    }
)
bodies = (
    documents.map(orjson.dumps)
    | st.tuples(
        documents, st.dictionaries(st.sampled_from(["now", "entries", "head", "position"]), anything)
    ).map(lambda both: orjson.dumps(both[0] | both[1]))
    | st.binary(max_size=200)
)

MOST = orjson.dumps(
    {
        "node_id": "n" * 64,
        "run": "r" * 300,
        "salt": "",
        "now": 2**63 - 1,
        "position": Position({f"{n:016x}": Mark(2**63 - 1, b"abcd") for n in range(100)}).encode(),
        "state": "",
        "entries": 2**63 - 1,
        "head": 2**63 - 1,
        "is_at_head": True,
    }
)
"""The greatest numbers and the longest texts that a status may have."""


def heard(body: bytes) -> PeerStatus | None:
    """The status in a frame; None where it is refused."""
    try:
        (frame,) = Frames(64).feed(struct.pack(">cI", b"S", len(body)) + body)
    except PeerRefused:
        return None
    assert isinstance(frame, PeerStatus)
    return frame


async def shown(path: Path, written_at: int) -> dict[str, Any]:
    """What `GET /cluster/status` answers of a report."""
    members = Members(("b",), path, clock=lambda: written_at)
    membership = Membership("node-a", salt=lambda: bytes(64), members=members)
    assert await membership.awaited() == ()
    answer = await Cluster(cast("Node", None), membership).status(cast("Call", None))
    assert answer.status_code == 200
    status: dict[str, Any] = orjson.loads(await answer.get_data(as_text=False))
    return status


@settings(max_examples=60)
@example([MOST])
@given(st.lists(bodies, min_size=1, max_size=3))
def test_whatever_a_status_says_can_be_told(statuses: list[bytes]) -> None:
    """Numbers, names and texts of a peer: each is refused where it is read, or written and shown to whoever asks."""
    link = Link(Peer("b", "http://b"), lambda: None)
    link.state = LinkState.LIVE
    for body in statuses:
        status = heard(body)
        if status is not None:
            link.sight.heard(status, NOW, 0)
            link.sight.compared(look(OURS.reading, status), NOW)
    report = ClusterReport(NOW, (), (link.report(NOW),), tuple(link.quarantined()))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cluster.json"
        write_report(path, report)
        assert read_report(path) == report
        told = asyncio.run(shown(path, NOW))
    assert [one["peer"] for one in told["nodes"]] == ["b"]
    assert len(told["quarantined"]) == len(report.quarantined)
