"""One link over real sockets: what it takes in, and what becomes of a peer that does not keep to the protocol."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from oscd.errors import Unavailable
from oscd.events import codec
from oscd.events.event import Origin
from oscd.events.sqlite.log import SqliteLog
from oscd.replication import calls as calls_module
from oscd.replication import pipe, puller, reception, ship
from oscd.replication.calls import Calls
from oscd.replication.link import Link
from oscd.replication.puller import keep_up
from oscd.replication.reception import LARGE_EVENTS
from oscd.replication.ship import Identity
from oscd.replication.states import LinkState
from oscd.replication.stream import Home
from oscd.replication.verify import MAX_AHEAD
from oscd.replication.wire import CONTENT_TYPE, EventFrame, event_frame, goodbye_frame, status_frame
from oscd.replication.writes import Bounds
from oscd.times import microseconds_now
from tests.replication.peer_log import SALT_DIGEST, Shipper, keys_of, log_at, pull_of, shipper, write
from tests.replication.scripted import ANY_TLS, KEY, ScriptedPeer, Visit, scripted_peer
from tests.replication.shipping import NOW, draft, frame_of, invented
from tests.support.waiting import eventually

BOUNDS = Bounds(max_body_bytes=64 * 1024, max_write_bytes=8 * 1024 * 1024)
OURS = Identity("node-a", "run-of-a", SALT_DIGEST)


@dataclass
class Node:
    """A node with links, as its steward has them."""

    log: SqliteLog
    directory: Path
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    sync_seconds: float = 3600
    taken: int = 0

    def link(self, peer: ScriptedPeer, changed: Callable[[], object] = lambda: None) -> Link:
        """Begin a link to a peer, which tells of each change."""
        home = Home(
            identity=OURS,
            log=self.log,
            bounds=BOUNDS,
            directory=self.directory,
            members=lambda: frozenset({"node-a", "node-b"}),
            tally=self,
            changed=lambda: None,
            clock=microseconds_now,
            sync_seconds=self.sync_seconds,
        )
        link = Link(peer.peer, changed)
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY, silence_seconds=calls_module.SILENCE_SECONDS)
        self.tasks.append(asyncio.create_task(keep_up(link, calls, home)))
        return link

    def ingested(self, events: int) -> None:
        self.taken += events

    def caught_up(self, events: int, seconds: float) -> None:
        assert seconds >= 0
        self.merged.append(events)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def node_at(directory: Path) -> AsyncIterator[Node]:
    async with log_at(directory / "a.db", "node-a") as log:
        node = Node(log, directory)
        try:
            yield node
        finally:
            await node.close()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_at(tmp_path) as node:
        yield node


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    async with log_at(tmp_path / "b.db", "node-b") as log:
        yield log


async def live(link: Link) -> None:
    await eventually(lambda: link.state is LinkState.LIVE, what=f"a live link; {link.last_error}")


async def failed(link: Link, words: str) -> None:
    await eventually(lambda: words in (link.last_error or ""), what=f"{words!r}, not {link.last_error!r}")


async def test_what_a_peer_has_and_what_it_commits_is_taken_in(node: Node, other: SqliteLog) -> None:
    """A backlog comes first and is told of, then each commit; the link then knows that both are equal."""
    await write(other, "first", "second")
    async with scripted_peer(shipper(other, "node-b", run="run-of-b")) as peer:
        link = node.link(peer)
        await live(link)
        assert await keys_of(node.log) == ["first", "second"]
        await write(other, "third")
        await eventually(lambda: link.sight.looked is not None and link.sight.looked.is_synced)
        await eventually_has(node.log, ["first", "second", "third"])
        assert (node.merged, node.taken) == ([2], 3)
        report = link.report(microseconds_now())
    assert (report.state, report.is_healthy, report.node_id) == ("live", True, "node-b")
    assert (report.lag_events, report.lag_seconds) == (0, 0.0)
    assert report.skew_seconds is not None
    assert abs(report.skew_seconds) < 1
    assert await node.log.read(lambda reading: dict(reading.runs())) == {"node-b": "run-of-b"}


async def eventually_has(log: SqliteLog, keys: list[str]) -> None:
    """Wait until a log has these events."""
    found: list[str] = []
    async with asyncio.timeout(30):
        while found != keys:
            found = await keys_of(log)
            await asyncio.sleep(0.01)


async def test_a_link_says_what_it_needs(node: Node, other: SqliteLog) -> None:
    """It asks from where its log stands, for anything but its own events, and shows who it is."""
    await write(node.log, "own")
    serve = shipper(other, "node-b")
    async with scripted_peer(serve) as peer:
        await live(node.link(peer))
    (pull,) = serve.pulls
    own = await node.log.read(lambda reading: reading.own())
    assert pull.after == await node.log.read(lambda reading: reading.position())
    assert (pull.node_id, pull.run, pull.salt) == (OURS.node_id, OURS.run, OURS.salt)
    assert (pull.skip, pull.asks) == (own.origin.incarnation, False)


async def test_a_large_write_arrives_whole(node: Node, other: SqliteLog, tmp_path: Path) -> None:
    """A write too large for memory waits in a file without a name, and nothing of that stays."""
    keys = [f"key-{number}" for number in range(LARGE_EVENTS + 500)]
    await write(other, "before")
    await write(other, *keys)
    async with scripted_peer(shipper(other, "node-b")) as peer:
        await live(node.link(peer))
    assert await keys_of(node.log) == ["before", *keys]
    assert not list(tmp_path.glob(".oscd-incoming-*"))


async def test_a_peer_in_the_midst_of_a_large_write_is_alive(node: Node, other: SqliteLog) -> None:
    """No status comes between its events, however long that takes: the bytes show that it is there."""
    go_on = asyncio.Event()

    async def slow(visit: Visit) -> None:
        await _says_who_it_is(visit, serve)
        await go_on.wait()
        first, _ = invented(Origin("node-b", "00" * 8), ["a", "b"])
        await visit.send(event_frame(frame_of(first.event, first.body)))
        await visit.forever()

    serve = shipper(other, "node-b")
    async with scripted_peer(slow) as peer:
        link = node.link(peer)
        await eventually(lambda: link.sight.position is not None)
        heard_at = link.sight.last_seen
        assert heard_at is not None
        go_on.set()
        await eventually(lambda: (link.sight.last_seen or 0) > heard_at)
        assert await keys_of(node.log) == []


async def test_after_a_broken_stream_a_link_goes_on_where_it_stood(node: Node, other: SqliteLog) -> None:
    """What was taken is not asked for again, and the report says what happened."""
    await write(other, "first")
    serve = shipper(other, "node-b")
    async with scripted_peer(serve) as peer:
        link = node.link(peer)
        await live(link)
        peer.visits[-1].writer.transport.abort()
        await write(other, "second")
        await eventually(lambda: len(serve.pulls) == 2)
        await eventually_has(node.log, ["first", "second"])
    (position,) = (set(pull.after.marks) for pull in serve.pulls[1:])
    assert len(position) == 1
    assert link.last_error is not None


async def test_a_backlog_is_counted_whole_however_often_its_stream_breaks(
    node: Node, other: SqliteLog
) -> None:
    """Whoever is told of what was merged is told of all of it: the count is the link's, not the stream's."""
    await write(other, "first", "second")

    async def breaks(visit: Visit) -> None:
        await visit.head(Content_Type=CONTENT_TYPE)
        await visit.send(status_frame(await serve.status(is_at_head=False)))
        pull = pull_of(visit)
        shipping = await other.read(partial(ship.begin, pull=pull))
        await visit.send((await other.read(partial(ship.page, shipping=shipping, skip=None))).data)
        await eventually(lambda: node.taken == 2)
        await write(other, "third")
        peer.script = serve
        visit.writer.transport.abort()

    serve = shipper(other, "node-b")
    async with scripted_peer(breaks) as peer:
        link = node.link(peer)
        await live(link)
        assert (node.merged, node.taken) == ([3], 3)
        peer.visits[-1].writer.transport.abort()
        await eventually(lambda: len(node.merged) == 2)
        assert node.merged == [3, 0]


async def test_the_address_of_the_node_itself_is_left_alone(
    node: Node, other: SqliteLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever answers with our name and our run is this node, which is said once; nothing is taken from it."""
    caplog.set_level(logging.INFO, "oscd.cluster")
    await write(other, "never")
    async with scripted_peer(Shipper(other, OURS)) as peer:
        link = node.link(peer)
        await eventually(lambda: link.state is LinkState.ITSELF)
        await eventually(lambda: caplog.messages)
        assert (link.last_error, len(peer.visits)) == (None, 1)
        (line,) = caplog.messages
        assert line.startswith(f"{peer.peer.name}: leads to this very node")
    assert await keys_of(node.log) == []


async def test_what_was_taken_for_the_node_itself_is_looked_at_again(
    node: Node, other: SqliteLog, caplog: pytest.LogCaptureFixture
) -> None:
    """An address may lead elsewhere one day, and a liar may say our name: nobody is written off for ever."""
    caplog.set_level(logging.INFO, "oscd.cluster")
    node.sync_seconds = 0.01
    await write(other, "first")
    async with scripted_peer(Shipper(other, OURS)) as peer:
        states: set[LinkState] = set()
        link = node.link(peer, lambda: states.add(link.state))
        await eventually(lambda: len(peer.visits) >= 4)
        assert states == {LinkState.ITSELF}
        peer.script = shipper(other, "node-b")
        await live(link)
        await eventually_has(node.log, ["first"])
    assert len([line for line in caplog.messages if "this very node" in line]) == 1


Spoiled = Callable[[Visit, Shipper], Awaitable[None]]


async def _says_who_it_is(visit: Visit, serve: Shipper) -> None:
    await visit.head(Content_Type=CONTENT_TYPE)
    await visit.send(status_frame(await serve.status(is_at_head=False)))


async def _giant_frame(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    await visit.send(b"E\xff\xff\xff\xff\xff\xff\xff\xf0" + bytes(48))
    await visit.forever()


async def _garbage(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    await visit.send(b"<html>" * 1000)
    await visit.forever()


async def _endless_write(visit: Visit, serve: Shipper) -> None:
    """One write that goes on and on, beyond what any import makes."""
    await _says_who_it_is(visit, serve)
    body = codec.encode_body(draft("key", size=40_000).body)
    digest = None
    for seq in itertools.count(1):
        (one,) = invented(Origin("node-b", "00" * 8), [f"key-{seq}"], seq=seq, stamp=NOW + seq)
        frame = frame_of(one.event._replace(last_seq=100_000), body, digest)
        digest = frame.digest
        await visit.send(event_frame(frame))


async def _no_status(visit: Visit, serve: Shipper) -> None:
    (one,) = invented(Origin("node-b", "00" * 8))
    await visit.head(Content_Type=CONTENT_TYPE)
    await visit.send(event_frame(frame_of(one.event, one.body)))
    await visit.forever()


async def _changed_body(visit: Visit, serve: Shipper) -> None:
    (one,) = invented(Origin("node-b", "00" * 8))
    await _says_who_it_is(visit, serve)
    data = event_frame(frame_of(one.event, one.body))
    await visit.send(data[:-1] + bytes([data[-1] ^ 1]))
    await visit.forever()


async def _gap(visit: Visit, serve: Shipper) -> None:
    origin = Origin("node-b", "00" * 8)
    (one,) = invented(origin, seq=2, before=b"x" * 32)
    await _says_who_it_is(visit, serve)
    await visit.send(event_frame(frame_of(one.event, one.body, b"x" * 32)))
    await visit.forever()


async def _drip(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    (one,) = invented(Origin("node-b", "00" * 8))
    for byte in event_frame(frame_of(one.event, one.body)):
        await visit.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def _silence(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    await visit.forever()


async def _goodbye(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    await visit.send(goodbye_frame("the node is shutting down"))
    await visit.forever()


async def _goodbye_with_the_key(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    await visit.send(goodbye_frame(f"you have shown {KEY.decode()}"))
    await visit.forever()


async def _named_by_the_key(visit: Visit, serve: Shipper) -> None:
    await visit.head(Content_Type=CONTENT_TYPE)
    status = await serve.status(is_at_head=True)
    await visit.send(status_frame(replace(status, node_id=f"node-{KEY.decode()}")))
    await visit.forever()


async def _renamed(visit: Visit, serve: Shipper) -> None:
    await _says_who_it_is(visit, serve)
    status = await serve.status(is_at_head=True)
    await visit.send(status_frame(replace(status, node_id=KEY.decode())))
    await visit.forever()


async def _page(visit: Visit, serve: Shipper) -> None:
    await visit.answer(200, b"<html></html>", Content_Type="text/html")


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (_giant_frame, "larger than any"),
        (_garbage, "no frame of events"),
        (_endless_write, "a write that is larger than any may be"),
        (_no_status, "before it says who it is"),
        (_changed_body, "body is missing or was changed"),
        (_gap, "it sends event 2 of an origin of which this node has 0"),
        (_drip, "less than 64 KiB a second"),
        (_silence, "it said nothing"),
        (_goodbye, "goodbye: the node is shutting down"),
        (_goodbye_with_the_key, "it says goodbye"),
        (_named_by_the_key, "it repeats a key of this node as its name"),
        (_renamed, "it calls itself something else than before"),
        (_page, "something else than events"),
    ],
    ids=lambda value: value.__name__.lstrip("_") if callable(value) else None,
)
async def test_of_a_peer_that_misbehaves_nothing_is_stored(
    node: Node,
    other: SqliteLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoiled: Spoiled,
    words: str,
) -> None:
    """The link is given up with a reason, nothing of its stream is in the log, and another link goes on."""
    for module in (calls_module, pipe):
        monkeypatch.setattr(module, "SILENCE_SECONDS", 0.4)
    async with AsyncExitStack() as stack:
        third = await stack.enter_async_context(log_at(tmp_path / "c.db", "node-c"))
        good = await stack.enter_async_context(scripted_peer(shipper(third, "node-c")))
        serve = shipper(other, "node-b")
        bad = await stack.enter_async_context(scripted_peer(lambda visit: spoiled(visit, serve)))
        well, ill = node.link(good), node.link(bad)
        await live(well)
        await failed(ill, words)
        await write(third, "from c")
        await eventually_has(node.log, ["from c"])
        assert well.last_error is None
        assert KEY.decode() not in str(ill.report(microseconds_now()))


async def test_a_fork_is_quarantined_and_other_origins_go_on(node: Node, other: SqliteLog) -> None:
    """Of an origin whose events differ there nothing is taken; it is named, and the rest of the stream is not."""
    origin = Origin("node-z", "0123456789abcdef")
    (ours,), (theirs,) = invented(origin, ["ours"]), invented(origin, ["theirs"])
    (after,) = invented(origin, ["after"], seq=2, before=theirs.digest, stamp=theirs.event.stamp + 10)

    async def forked(visit: Visit) -> None:
        await _says_who_it_is(visit, serve)
        await visit.send(event_frame(frame_of(after.event, after.body, theirs.digest)))
        (good,) = invented(Origin("node-y", "11" * 8), ["good"])
        await visit.send(event_frame(frame_of(good.event, good.body)))
        while True:
            await visit.send(status_frame(await serve.status(is_at_head=True)))
            await asyncio.sleep(0.05)

    async def honest(visit: Visit) -> None:
        await _says_who_it_is(visit, serve)
        await visit.send(event_frame(frame_of(ours.event, ours.body)))
        await visit.send(status_frame(await serve.status(is_at_head=True)))
        await visit.forever()

    serve = shipper(other, "node-b")
    async with scripted_peer(honest) as first, scripted_peer(forked) as second:
        await live(node.link(first))
        link = node.link(second)
        await live(link)
        (quarantined,) = link.quarantined()
    assert await keys_of(node.log) == ["ours", "good"]
    assert (quarantined.node_id, quarantined.incarnation, quarantined.seq) == (
        "node-z",
        origin.incarnation,
        2,
    )
    assert quarantined.peer == second.peer.name
    assert "fork" in quarantined.reason


@pytest.mark.parametrize("last", [["last"], [f"large-{number}" for number in range(4)]], ids=len)
async def test_what_was_cut_before_its_origin_was_held_is_passed_over(
    node: Node, other: SqliteLog, monkeypatch: pytest.MonkeyPatch, last: list[str]
) -> None:
    """The next batch is cut while one is judged; the rest of a held origin in it is no gap, and starves nobody."""
    monkeypatch.setattr(reception, "BATCH_EVENTS", 2)
    monkeypatch.setattr(reception, "LARGE_EVENTS", 3)
    ahead = microseconds_now() + 2 * MAX_AHEAD
    held = [invented(Origin("node-z", "00" * 8), ["first"], stamp=ahead)]
    for number, keys in enumerate((["second"], ["third"], last)):
        (*_, before) = held[-1]
        held.append(
            invented(
                before.event.origin, keys, seq=number + 2, before=before.digest, stamp=ahead + number + 1
            )
        )
    good = invented(Origin("node-y", "11" * 8), ["good"])

    async def serves(visit: Visit) -> None:
        await visit.head(Content_Type=CONTENT_TYPE)
        status = await serve.status(is_at_head=True)
        data = b"".join(
            event_frame(
                EventFrame(one.event.origin.incarnation, one.event.seq, one.digest, one.header, one.body)
            )
            for one in itertools.chain(*held, good)
        )
        await visit.send(status_frame(replace(status, is_at_head=False)) + data + status_frame(status))
        await visit.forever()

    serve = shipper(other, "node-b")
    async with scripted_peer(serves) as peer:
        link = node.link(peer)
        await live(link)
        assert link.last_error is None
        assert [(one.seq, one.node_id) for one in link.quarantined()] == [(1, "node-z")]
    assert await keys_of(node.log) == ["good"]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (
            Identity("node-a", "another-run", SALT_DIGEST),
            "it is called node-a too; give one of the two another",
        ),
        (Identity("node-b", "run-of-b", "00" * 32), "it has another salt; this log is empty"),
    ],
    ids=["one name", "another salt"],
)
async def test_two_that_do_not_belong_together_refuse_each_other(
    node: Node, other: SqliteLog, identity: Identity, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says what to do; nothing is taken, and the next try is not soon."""
    await write(other, "foreign")
    async with scripted_peer(Shipper(other, identity)) as peer:
        link = node.link(peer)
        await failed(link, words)
        assert link.state is LinkState.REFUSED
        assert len(peer.visits) == 1
    assert await keys_of(node.log) == []
    assert len([line for line in caplog.messages if words in line]) == 1


async def test_a_wrong_key_is_told_once_and_makes_no_busy_loop(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it asks, with the pauses of one that is refused, the log has one line."""
    monkeypatch.setattr(puller, "REFUSED_PAUSE_SECONDS", 0.05)

    async def refuses(visit: Visit) -> None:
        await visit.answer(403, b'{"detail":"X-API-Key: this path takes the cluster key"}')

    with caplog.at_level(logging.INFO, "oscd.cluster"):
        async with scripted_peer(refuses) as peer:
            link = node.link(peer)
            await eventually(lambda: len(peer.visits) >= 4)
    assert link.last_error == "it answers 403: X-API-Key: this path takes the cluster key"
    (line,) = caplog.messages
    assert link.last_error in line
    assert KEY.decode() not in line


async def test_trouble_with_the_own_log_is_a_reason_to_wait(
    node: Node, other: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk here is no fault of the peer: the link says so, and goes on when there is room."""
    await write(other, "first")
    is_full = True
    take_in = node.log.write

    async def full(function: Callable[..., object], *, size: int) -> object:
        if is_full and size:
            raise Unavailable("The disk is full.")
        return await take_in(function, size=size)

    monkeypatch.setattr(node.log, "write", full)
    async with scripted_peer(shipper(other, "node-b")) as peer:
        link = node.link(peer)
        await failed(link, "this node cannot take anything in: The disk is full.")
        is_full = False
        await eventually_has(node.log, ["first"])


async def test_a_fault_of_ours_ends_no_link_for_good(
    node: Node, other: SqliteLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody expected is logged whole, once and not at each try, and the link begins anew."""
    await write(other, "first")
    take_in = node.log.write
    is_broken = True

    async def broken(function: Callable[..., object], *, size: int) -> object:
        if is_broken:
            raise RuntimeError("no luck")
        return await take_in(function, size=size)

    monkeypatch.setattr(node.log, "write", broken)
    async with scripted_peer(shipper(other, "node-b")) as peer:
        link = node.link(peer)
        await failed(link, "an error of its own (RuntimeError)")
        await eventually(lambda: len(peer.visits) >= 3)
        is_broken = False
        await eventually_has(node.log, ["first"])
    (record,) = (record for record in caplog.records if record.exc_info)
    assert (record.levelname, peer.peer.name in record.message) == ("ERROR", True)
