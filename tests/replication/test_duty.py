"""The whole duty of a steward, over real sockets and scripted peers: what it concludes from all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from oscd.events.position import Mark, Position
from oscd.events.sqlite.log import SqliteLog
from oscd.events.standing import Own, Standing
from oscd.replication import continuation
from oscd.replication.cluster import Cluster, Mandate
from oscd.replication.peers import Peer
from oscd.replication.reception import Bounds
from oscd.replication.report import ClusterReport, read_report
from oscd.replication.ship import Identity
from oscd.replication.wire import CONTENT_TYPE, PeerStatus, status_frame
from oscd.times import microseconds_now
from tests.replication.peer_log import SALT, SALT_DIGEST, log_at, write
from tests.replication.scripted import ANY_TLS, KEY, Visit, scripted_peer
from tests.support.waiting import eventually


class NoTally:
    """Counts nothing."""

    def ingested(self, events: int) -> None: ...

    def caught_up(self, events: int, seconds: float) -> None: ...


@asynccontextmanager
async def steward(log: SqliteLog, directory: Path, peers: Sequence[Peer]) -> AsyncIterator[Path]:
    """The duty of the steward of `node-a` while the block runs; gives where it reports."""
    report = directory / "cluster.json"
    mandate = Mandate(
        node_id="node-a",
        run="run of a",
        peers=peers,
        key=lambda: KEY,
        tls=lambda: ANY_TLS,
        salt=lambda: SALT,
        salt_path=directory / "salt",
        bounds=Bounds(max_body_bytes=64 * 1024, max_write_bytes=1024 * 1024),
        directory=directory,
        sync_seconds=1.0,
        report=report,
        tally=NoTally(),
    )
    duty = asyncio.create_task(Cluster(mandate, log, microseconds_now).run())
    try:
        yield report
    finally:
        duty.cancel()
        await asyncio.wait({duty})
        assert duty.cancelled(), duty.exception()


def all_live(report: Path) -> ClusterReport | None:
    """The report, once every link in it is live."""
    found = read_report(report)
    return found if found is not None and all(peer.state == "live" for peer in found.peers) else None


async def own_of(log: SqliteLog) -> Own:
    return await log.read(lambda reading: reading.own())


@asynccontextmanager
async def asking_log(directory: Path) -> AsyncIterator[SqliteLog]:
    """A log with one event of its own, started again in a cluster."""
    async with log_at(directory / "a.db", "node-a") as first:
        await write(first, "one")
    async with log_at(directory / "a.db", "node-a", asks=True) as log:
        yield log


def status(node_id: str, position: Position) -> PeerStatus:
    """How a peer stands that has sent all it has."""
    identity = Identity(node_id, f"run of {node_id}", SALT_DIGEST)
    return PeerStatus(
        identity.node_id,
        identity.run,
        identity.salt,
        microseconds_now(),
        position,
        state="",
        entries=0,
        head=1,
        is_at_head=True,
    )


async def tell(visit: Visit, first: PeerStatus) -> None:
    """Answer with this status, again and again."""
    await visit.head(Content_Type=CONTENT_TYPE)
    while True:
        await visit.send(status_frame(replace(first, now=microseconds_now())))
        await asyncio.sleep(0.1)


async def test_a_number_that_a_peer_has_named_once_is_not_issued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 9: a peer names event 2 of this node, is gone, and comes back without it, as all others are."""
    monkeypatch.setattr(continuation, "ASK_SECONDS", 1000.0)
    async with asking_log(tmp_path) as log:
        own = await own_of(log)
        position = await log.read(lambda reading: reading.position())
        more = Position({own.origin.incarnation: Mark(own.seq + 1, b"more")})
        visits = 0

        async def forgets(visit: Visit) -> None:
            nonlocal visits
            visits += 1
            if visits == 1:
                # Two statuses at once: what only the first of them names counts as well.
                await visit.head(Content_Type=CONTENT_TYPE)
                told = [status_frame(status("node-b", stands)) for stands in (more, position)]
                await visit.send(b"".join(told))
                visit.writer.close()
                await visit.forever()
            await tell(visit, status("node-b", position))

        async with (
            scripted_peer(forgets) as one,
            scripted_peer(lambda visit: tell(visit, status("node-c", position))) as two,
            steward(log, tmp_path, [one.peer, two.peer]) as report,
        ):
            await eventually(lambda: visits > 1 and all_live(report), what="both peers to answer")
            monkeypatch.setattr(continuation, "ASK_SECONDS", 0.0)
            found = await own_of(log)
            async with asyncio.timeout(30):
                while found.standing is Standing.ASKING:
                    await asyncio.sleep(0.01)
                    found = await own_of(log)
            assert found.standing is Standing.BEGINS
            await write(log, "two")
            assert (await own_of(log)).origin != own.origin
