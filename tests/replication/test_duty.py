"""The whole duty of a steward, over real sockets and scripted peers: what it concludes from all of them together."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from oscd.events.event import Origin
from oscd.events.position import Mark, Position
from oscd.events.sqlite.log import SqliteLog
from oscd.events.standing import Own, Standing
from oscd.replication import continuation
from oscd.replication.cluster import Cluster, Mandate
from oscd.replication.peers import Peer
from oscd.replication.report import ClusterReport, read_report
from oscd.replication.ship import Identity
from oscd.replication.verify import MAX_AHEAD
from oscd.replication.wire import CONTENT_TYPE, PeerStatus, event_frame, status_frame
from oscd.replication.writes import Bounds
from oscd.times import microseconds_now
from tests.replication.peer_log import SALT, SALT_DIGEST, log_at, shipper, write
from tests.replication.scripted import ANY_TLS, KEY, Script, Visit, scripted_peer
from tests.replication.shipping import NOW, frame_of, invented
from tests.support.waiting import eventually


class NoTally:
    """Counts nothing."""

    def ingested(self, events: int) -> None: ...

    def caught_up(self, events: int, seconds: float) -> None: ...


@asynccontextmanager
async def steward(
    log: SqliteLog, directory: Path, peers: Sequence[Peer], *, sync_seconds: float = 1.0
) -> AsyncIterator[Path]:
    """The duty of the steward of `node-a` while the block runs; gives where it reports."""
    report = directory / "cluster.json"
    mandate = Mandate(
        node_id="node-a",
        run="run-of-a",
        peers=peers,
        key=lambda: KEY,
        secrets=lambda: (KEY,),
        tls=lambda: ANY_TLS,
        salt=lambda: SALT,
        salt_path=directory / "salt",
        bounds=Bounds(max_body_bytes=64 * 1024, max_write_bytes=1024 * 1024),
        directory=directory,
        sync_seconds=sync_seconds,
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


async def settled(log: SqliteLog) -> Standing:
    """Where its own history stands, once it asks no more; sooner than what is not to be had is given up."""
    found = await own_of(log)
    async with asyncio.timeout(continuation.RECOVER_SECONDS / 2):
        while found.standing is Standing.ASKING:
            await asyncio.sleep(0.01)
            found = await own_of(log)
    return found.standing


@asynccontextmanager
async def asking_log(directory: Path) -> AsyncIterator[SqliteLog]:
    """A log with one event of its own, started again in a cluster."""
    async with log_at(directory / "a.db", "node-a") as first:
        await write(first, "one")
    async with log_at(directory / "a.db", "node-a", asks=True) as log:
        yield log


def status(node_id: str, position: Position) -> PeerStatus:
    """How a peer stands that has sent all it has."""
    identity = Identity(node_id, f"run-of-{node_id}", SALT_DIGEST)
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
            assert await settled(log) is Standing.BEGINS
            await write(log, "two")
            assert (await own_of(log)).origin != own.origin


async def test_a_peer_that_parted_from_this_history_further_back_is_not_waited_for(tmp_path: Path) -> None:
    """Invariant 9: what it has of this node is ahead, and cannot be taken back, as its first event shows."""
    async with log_at(tmp_path / "a.db", "node-a") as log:
        await write(log, "one")
    shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
    async with log_at(tmp_path / "a.db", "node-a") as log:
        await write(log, "two")
    async with (
        log_at(tmp_path / "a.db", "node-a", asks=True) as log,
        log_at(tmp_path / "copy.db", "node-a") as copy,
    ):
        await write(copy, "other", "history")
        async with (
            scripted_peer(shipper(copy, "node-b")) as peer,
            steward(log, tmp_path, [peer.peer]),
        ):
            assert await settled(log) is Standing.BEGINS


async def test_what_time_may_cure_is_tried_again_each_sync_interval(tmp_path: Path) -> None:
    """An origin that is stamped ahead; not one that will stay held until somebody does something."""
    ahead = microseconds_now() + 2 * MAX_AHEAD

    def serves(node_id: str, origin: Origin, stamp: int) -> Script:
        (made,) = invented(origin, stamp=stamp)
        body = b"{}" if stamp == NOW else made.body

        async def serve(visit: Visit) -> None:
            await visit.head(Content_Type=CONTENT_TYPE)
            first = status(node_id, Position({}))
            await visit.send(status_frame(replace(first, is_at_head=False)))
            await visit.send(event_frame(frame_of(made.event, body)))
            while True:
                await visit.send(status_frame(replace(first, now=microseconds_now())))
                await asyncio.sleep(0.05)

        return serve

    async with (
        log_at(tmp_path / "a.db", "node-a") as log,
        scripted_peer(serves("node-b", Origin("node-y", "11" * 8), ahead)) as one,
        scripted_peer(serves("node-c", Origin("node-z", "22" * 8), NOW)) as two,
        steward(log, tmp_path, [one.peer, two.peer], sync_seconds=0.1) as report,
    ):
        await eventually(lambda: len(one.visits) >= 4, what="four tries")
        found = await eventually(lambda: all_live(report))
        assert {held.node_id for held in found.quarantined} == {"node-y", "node-z"}
        assert len(two.visits) == 1
