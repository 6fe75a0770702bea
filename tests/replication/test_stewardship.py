"""What the steward of a node concludes from its links: may it write, is it ready, are clocks and states sound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from oscd.errors import Unavailable
from oscd.events.log import Reading
from oscd.events.position import Mark, Position
from oscd.events.sqlite.log import SqliteLog
from oscd.events.standing import Own, Standing
from oscd.replication.asking import AGAIN_SECONDS, LATE_SECONDS, Asking
from oscd.replication.claims import Claims
from oscd.replication.continuation import ASK_SECONDS, RECOVER_SECONDS
from oscd.replication.link import HEALTHY_MICROSECONDS, Link
from oscd.replication.peers import Peer
from oscd.replication.readiness import ASKING, PATIENCE_SECONDS, Readiness
from oscd.replication.report import read_report
from oscd.replication.reporting import Reporting
from oscd.replication.seldom import QUIET_SECONDS
from oscd.replication.sight import Look, PeerClock, look
from oscd.replication.states import LinkState
from oscd.replication.take import Held
from oscd.replication.verify import fork
from oscd.replication.vigil import MAX_AHEAD_SECONDS, Vigil
from oscd.replication.wire import PeerStatus
from oscd.times import microseconds_now
from tests.replication.peer_log import log_at, write
from tests.support.waiting import eventually

SECOND = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def link_to(name: str, state: LinkState = LinkState.LIVE) -> Link:
    link = Link(Peer(name, f"http://{name}"), lambda: None)
    link.state = state
    return link


def answer(link: Link, position: Position) -> None:
    """Have the peer of a link say where it stands, on a stream that asked."""
    link.asked_as = (None, True)
    link.sight.position = position


async def position_of(log: SqliteLog) -> Position:
    return await log.read(lambda reading: reading.position())


async def own_of(log: SqliteLog) -> Own:
    return await log.read(lambda reading: reading.own())


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    """A log with one event of its own, started again in a cluster."""
    async with log_at(tmp_path / "a.db", "node-a") as first:
        await write(first, "one")
    async with log_at(tmp_path / "a.db", "node-a", asks=True) as log:
        assert (await own_of(log)).standing is Standing.ASKING
        yield log


async def test_a_log_goes_on_once_every_peer_has_answered(log: SqliteLog) -> None:
    """Invariant 9: until then it takes no writes, however many have; an entry that is this node is not waited for."""
    links = [link_to("b"), link_to("c"), link_to("me", LinkState.ITSELF)]
    asking = Asking(log, links, Claims(), clock=Clock())
    answer(links[0], await position_of(log))
    assert (await asking.look()).standing is Standing.ASKING
    with pytest.raises(Unavailable):
        await write(log, "two")
    answer(links[1], Position({}))
    assert (await asking.look()).standing is Standing.CONTINUES
    before = await own_of(log)
    await write(log, "two")
    assert (await own_of(log)).origin == before.origin


async def test_an_answer_to_another_question_does_not_count(log: SqliteLog) -> None:
    """A peer that was not told that this node asks has not fenced what an older run of it still sends."""
    link = link_to("b")
    link.asked_as, link.sight.position = ("0011223344556677", False), await position_of(log)
    assert (await Asking(log, [link], Claims(), clock=Clock()).look()).standing is Standing.ASKING


async def test_without_every_answer_a_new_incarnation_begins_after_a_while(log: SqliteLog) -> None:
    """Invariant 9: whoever is silent may know of numbers that this node has used; so it uses others."""
    clock, links = Clock(), [link_to("b"), link_to("c")]
    asking = Asking(log, links, Claims(), clock=clock)
    answer(links[0], await position_of(log))
    clock.now += ASK_SECONDS
    assert (await asking.look()).standing is Standing.BEGINS
    before = await own_of(log)
    await write(log, "two")
    assert (await own_of(log)).origin != before.origin
    assert (await asking.look()).standing is Standing.CONTINUES


async def test_an_answer_that_comes_before_the_next_write_is_still_in_time(log: SqliteLog) -> None:
    """Where nothing was written meanwhile there is no need for a new incarnation."""
    clock, link = Clock(), link_to("b")
    asking = Asking(log, [link], Claims(), clock=clock)
    clock.now += ASK_SECONDS
    assert (await asking.look()).standing is Standing.BEGINS
    answer(link, await position_of(log))
    assert (await asking.look()).standing is Standing.CONTINUES


async def test_what_a_peer_has_of_this_node_is_taken_back_first(log: SqliteLog) -> None:
    """While a peer holds more of this node than itself, it waits to take that; but not for ever."""
    clock, link = Clock(), link_to("b")
    asking = Asking(log, [link], Claims(), clock=clock)
    own = await own_of(log)
    answer(link, Position({own.origin.incarnation: Mark(own.seq + 1, b"more")}))
    clock.now += ASK_SECONDS + 1
    assert (await asking.look()).standing is Standing.ASKING
    clock.now += RECOVER_SECONDS
    assert (await asking.look()).standing is Standing.BEGINS


async def test_a_fork_further_back_is_no_reason_to_wait(log: SqliteLog) -> None:
    """Invariant 9: a peer that is ahead parted from this log before its end, so there is nothing to take back."""
    link = link_to("b")
    own = await own_of(log)
    answer(link, Position({own.origin.incarnation: Mark(own.seq + 2, b"more")}))
    asking = Asking(log, [link], Claims(), clock=Clock())
    for reason in ("its stamps do not rise.", fork(own.seq + 1)):
        assert (await asking.look()).standing is Standing.ASKING
        link.sight.held = (Held(own.origin, own.seq + 1, reason),)
    assert (await asking.look()).standing is Standing.BEGINS


async def test_a_node_whose_history_is_contradicted_begins_anew_at_most_once_an_hour(log: SqliteLog) -> None:
    """A peer with another event under our number shows that we were put back; a liar must not show it again and
    again."""
    clock, link = Clock(), link_to("b")
    asking = Asking(log, [link], Claims(), clock=clock)
    answer(link, await position_of(log))
    assert (await asking.look()).standing is Standing.CONTINUES
    for expected in (Standing.BEGINS, Standing.CONTINUES):
        own = await own_of(log)
        wrong = Position({own.origin.incarnation: Mark(own.seq, b"else")})
        link.sight.position = wrong
        link.sight.looked = await log.read(partial(_seen, position=wrong))
        assert (await asking.look()).standing is expected
        await write(log, f"after {expected}")
    clock.now += AGAIN_SECONDS
    assert (await asking.look()).standing is Standing.BEGINS


async def test_a_node_asks_again_where_a_peer_had_more_of_it(log: SqliteLog) -> None:
    """Invariant 9: who is sent more of this node only after all have answered makes it ask once more, before it
    appends again; what it has just appended itself is no such news.
    """
    link, claims = link_to("b"), Claims()
    asking = Asking(log, [link], claims, clock=Clock())
    answer(link, await position_of(log))
    assert (await asking.look()).standing is Standing.CONTINUES
    await write(log, "two")
    own = await own_of(log)
    claims.heard(own.origin.incarnation, await position_of(log))
    assert (await asking.look()).standing is Standing.CONTINUES
    named = Position({own.origin.incarnation: Mark(own.seq + 1, b"more")})
    claims.heard(own.origin.incarnation, named)
    assert (await asking.look()).standing is Standing.ASKING
    with pytest.raises(Unavailable):
        await write(log, "three")


async def test_a_running_node_takes_no_event_of_its_own_from_a_peer(log: SqliteLog) -> None:
    """A next event that somebody has forged is not adopted by whom it is said to be of."""
    clock, link, claims = Clock(), link_to("b"), Claims()
    asking = Asking(log, [link], claims, clock=clock)
    answer(link, await position_of(log))
    assert (await asking.look()).standing is Standing.CONTINUES
    clock.now += LATE_SECONDS
    own = await own_of(log)
    claims.heard(own.origin.incarnation, Position({own.origin.incarnation: Mark(own.seq + 1, b"more")}))
    for one in (asking, Asking(log, [link], claims, clock=clock)):
        assert (await one.look()).standing is Standing.CONTINUES


def _seen(reading: Reading[object], position: Position) -> Look:
    return look(reading, PeerStatus("node-b", "r", "", 0, position, "", 0, 1, is_at_head=True))  # type: ignore[arg-type]


def ready_by(links: list[Link], clock: Clock, standing: Standing = Standing.CONTINUES) -> Readiness:
    readiness = Readiness(links, is_ready=False, clock=clock)
    readiness.own = Own(None, 0, standing)  # type: ignore[arg-type]
    return readiness


def test_a_node_is_ready_after_its_first_catch_up() -> None:
    """It waits for each peer that answers within 5 s to be caught up with, and for no other."""
    clock = Clock()
    slow, late, refused = link_to("b"), link_to("c", LinkState.BACKING_OFF), link_to("d", LinkState.REFUSED)
    readiness = ready_by([slow, late, refused, link_to("me", LinkState.ITSELF)], clock)
    slow.sight.position = Position({})
    assert len(readiness.reasons()) == 2
    clock.now += PATIENCE_SECONDS
    (reason,) = readiness.reasons()
    assert "taking in what b has" in reason
    slow.has_caught_up = True
    assert readiness.reasons() == ()
    late.sight.position = Position({})
    assert readiness.reasons() == ()


def test_a_node_that_was_ready_stays_so_under_the_next_steward() -> None:
    """Another worker takes over the links, and nobody's probe fails meanwhile; what holds writes still counts."""
    readiness = Readiness([link_to("b", LinkState.CONNECTING)], is_ready=True, clock=Clock())
    assert readiness.reasons() == (ASKING,)
    readiness.own = Own(None, 0, Standing.BEGINS)  # type: ignore[arg-type]
    assert readiness.reasons() == ()
    readiness.held = "This node's clock is wrong."
    assert readiness.reasons() == ("This node's clock is wrong.",)
    readiness.salt = "It waits for b."
    assert readiness.reasons() == ("It waits for b.",)


def test_a_peer_is_healthy_while_it_was_heard_of_lately() -> None:
    """A clock that is set back makes nobody look fresh who was last heard of in what is the future now."""
    link, now = link_to("b"), 3_600 * SECOND
    assert not link.report(now).is_healthy
    link.sight.last_seen = now
    ages = (0, HEALTHY_MICROSECONDS, HEALTHY_MICROSECONDS + 1, -SECOND // 10, -SECOND, -3_600 * SECOND)
    found = [link.report(now + age).is_healthy for age in ages]
    assert found == [True, True, False, True, False, False]


def skewed(link: Link, seconds: float) -> None:
    link.sight.position, link.sight.clock = Position({}), PeerClock()
    link.sight.clock.heard(int(seconds * SECOND), 0, 0)


async def test_a_node_far_ahead_of_a_live_peer_takes_no_writes_until_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it stamped would win for a day over what is written later elsewhere."""
    link = link_to("b")
    async with log_at(tmp_path / "a.db", "node-a") as log:
        vigil = Vigil(log, [link])
        skewed(link, -MAX_AHEAD_SECONDS - 1)
        for _ in range(3):
            await vigil.keep()
        with pytest.raises(Unavailable, match="more than 24 h ahead of that of b"):
            await write(log, "one")
        skewed(link, -MAX_AHEAD_SECONDS + 1)
        await vigil.keep()
        await write(log, "one")
        assert vigil.held is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "WARNING"]


async def test_writes_are_held_until_a_clock_shows_that_they_need_not_be(tmp_path: Path) -> None:
    """That the peer which was far behind is gone is no evidence, and neither is another steward or another start."""
    link = link_to("b")
    skewed(link, -MAX_AHEAD_SECONDS - 1)
    async with log_at(tmp_path / "a.db", "node-a", asks=True) as log:
        await log.write(lambda writing: writing.settle(Standing.CONTINUES), size=0)
        vigil = Vigil(log, [link])
        await vigil.keep()
        link.state = LinkState.BACKING_OFF
        link.sight.lost()
        for steward in (vigil, Vigil(log, [link]), Vigil(log, [])):
            await steward.keep()
            assert steward.held == vigil.held
            with pytest.raises(Unavailable, match="ahead of that of b"):
                await write(log, "one")
    async with log_at(tmp_path / "a.db", "node-a", asks=True) as log:
        await log.write(lambda writing: writing.settle(Standing.CONTINUES), size=0)
        other = link_to("c", LinkState.CATCHING_UP)
        steward = Vigil(log, [link, other])
        skewed(other, 0.0)
        await steward.keep()
        with pytest.raises(Unavailable, match="ahead of that of b"):
            await write(log, "one")
        other.state = LinkState.LIVE
        await steward.keep()
        assert steward.held is None
        await write(log, "one")


async def test_a_node_that_is_alone_now_holds_no_writes(tmp_path: Path) -> None:
    """A peer that will not come back is taken out of the settings; nobody is left to compare with then."""
    async with log_at(tmp_path / "a.db", "node-a", asks=True) as log:
        await log.write(lambda writing: writing.hold_writes("The clock is wrong."), size=0)
    async with log_at(tmp_path / "a.db", "node-a") as log:
        await write(log, "one")


async def test_a_clock_that_is_right_for_one_peer_and_not_for_another_holds_writes(tmp_path: Path) -> None:
    """Who of them is wrong nobody can tell from here."""
    behind, level = link_to("b"), link_to("c")
    skewed(behind, -MAX_AHEAD_SECONDS - 1)
    skewed(level, 0.0)
    async with log_at(tmp_path / "a.db", "node-a") as log:
        await Vigil(log, [level, behind]).keep()
        with pytest.raises(Unavailable, match="ahead of that of b"):
            await write(log, "one")


async def test_a_peer_whose_clock_jumps_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 10: each sentence at most once a minute; the last of them is true in the end."""
    clock, link = Clock(), link_to("b")
    async with log_at(tmp_path / "a.db", "node-a") as log:
        vigil = Vigil(log, [link], clock=clock)
        for _ in range(20):
            for seconds in (-MAX_AHEAD_SECONDS - 1, 0.0, -MAX_AHEAD_SECONDS - 1):
                skewed(link, seconds)
                await vigil.keep()
        with pytest.raises(Unavailable):
            await write(log, "one")
        levels = [record.levelname for record in caplog.records]
        assert levels == ["WARNING", "ERROR", "WARNING"]
        assert caplog.messages[-1] == "this node takes writes again"
        clock.now += QUIET_SECONDS
        await vigil.keep()
        assert vigil.held in caplog.messages[3:]


async def test_clocks_that_differ_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A skew over a second is one line, and another one only after the clocks were close."""
    link = link_to("b")
    async with log_at(tmp_path / "a.db", "node-a") as log:
        vigil = Vigil(log, [link])
        for seconds in (3600.0, 3601.0, 0.9, 3600.0, 0.1, -2.0):
            skewed(link, seconds)
            await vigil.keep()
    lines = [message for message in caplog.messages if "the clock of b" in message]
    assert ["3600.0 s ahead of" in lines[0], "2.0 s behind" in lines[1], len(lines)] == [True, True, 2]


async def test_a_divergence_is_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each round says it again, as an error: it never ends by itself."""
    link = link_to("b")
    link.sight.looked = Look(0, is_synced=False, has_diverged=True, forks=())
    async with log_at(tmp_path / "a.db", "node-a") as log:
        Vigil(log, [link]).compare()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "oscd verify" in record.message


async def test_the_report_is_written_at_once_when_something_changes(tmp_path: Path) -> None:
    """Also without a change it comes again within a second or so, and this node itself is not in it."""
    links = [link_to("b"), link_to("me", LinkState.ITSELF)]
    changed = asyncio.Event()
    readiness = ready_by(links, Clock())
    readiness.is_ready = True
    path = tmp_path / "cluster.json"
    writing = asyncio.create_task(Reporting(path, links, readiness, changed, microseconds_now).run())
    try:
        first = await eventually(lambda: read_report(path))
        assert [peer.peer for peer in first.peers] == ["b"]
        links[0].failed("no answer in time")
        changed.set()
        await eventually(lambda: _last_error(path) == "no answer in time")
        seen = read_report(path)
        assert seen is not None
        await eventually(_is_newer(path, seen.written_at))
    finally:
        writing.cancel()
        await asyncio.wait({writing})


def _last_error(path: Path) -> str | None:
    report = read_report(path)
    return None if report is None else report.peers[0].last_error


def _is_newer(path: Path, than: int) -> Callable[[], bool]:
    def check() -> bool:
        report = read_report(path)
        return report is not None and report.written_at > than

    return check


async def test_a_report_that_cannot_be_written_is_told_seldom_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a full disk nor a fault of ours takes the links down; once it can be written it is."""
    link, changed = link_to("b"), asyncio.Event()
    path = tmp_path / "gone" / "cluster.json"
    reporting = Reporting(path, [link], ready_by([link], Clock()), changed, microseconds_now)
    writing = asyncio.create_task(reporting.run())

    async def told(words: str) -> None:
        await eventually(lambda: any(words in message for message in caplog.messages), what=words)

    try:
        await told("No such file")
        link.sight.entries = 2**64
        path.parent.mkdir()
        changed.set()
        await told("no JSON")
        for _ in range(3):
            changed.set()
            await eventually(lambda: not changed.is_set())
        assert read_report(path) is None
        link.sight.entries = 1
        changed.set()
        await eventually(lambda: read_report(path))
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    assert len(caplog.messages) == 2
