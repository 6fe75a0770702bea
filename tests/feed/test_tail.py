"""What comes after a reader's place: the shared window, the re-read, and who is woken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscd.errors import LogCorrupt, OscdError, Unavailable
from oscd.events.event import Event
from oscd.events.log import Reading
from oscd.events.memory import MemoryStore
from oscd.events.position import Position, decode_position
from oscd.feed.bell import Bell
from oscd.feed.frame import frame
from oscd.feed.place import NoPlace, Place, place_at_head, place_of
from oscd.feed.tail import SyncPoint, Tail, Told
from tests.feed.merging import MergingLog, Result, Step, apply, cluster, live, meet, ref, run, steps
from tests.support.waiting import eventually

START = Place(0, Position({}).encode())
NEVER = 3600.0


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    """Pages that end inside writes, and many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oscd.feed.tail.PAGE_EVENTS", 2)
        yield


@asynccontextmanager
async def tail_of(
    log: MergingLog,
    *,
    window_events: int = 512,
    poll_seconds: float = NEVER,
    bell: Bell | None = None,
    synced: Callable[[], int] = lambda: 0,
) -> AsyncIterator[Tail]:
    tail = Tail(log, bell or Bell(), synced=synced, window_events=window_events, poll_seconds=poll_seconds)
    tail.start()
    yield tail
    await tail.close()


async def settled(tail: Tail, log: MergingLog) -> None:
    """Wait until the tail has read the whole log."""
    await eventually(lambda: tail.head == len(log.recorded))


class Reader:
    """A reader of everything, and an independent account of what it must be told.

    Attributes:
        told: Incarnation and seq of all it has passed, on whichever node.
        entries: What it holds, by the frames it was told.
    """

    def __init__(self) -> None:
        self.at = START.at
        self.told: set[tuple[str, int]] = set()
        self.entries: dict[str, Event] = {}
        self._greatest: dict[str, Event] = {}

    async def read(self, log: MergingLog, pages: int) -> None:
        """Go to a node and read so many pages, or to the end; whole writes, as a client keeps no others."""
        place = place_of(log.reading(), decode_position(self.at))
        if place is NoPlace.NOT_YET:
            missing = self.told - {ref(r.event) for r in log.recorded}
            assert missing, "the node holds all that the reader was told"
            return
        assert isinstance(place, Place)
        tail = Tail(log, Bell())
        while place.offset < len(log.recorded) and (
            pages > 0 or place.at != self.at or self._is_inside(log, place)
        ):
            told, place = await tail.reread(place)
            for one in told:
                self._pass(log, one)
            self.at = place.at
            pages -= 1
        if place.offset == len(log.recorded):
            assert place.ahead == {}, "at the end of a log nothing is ahead"
            assert decode_position(place.at) == log.reading().position()

    def _is_inside(self, log: MergingLog, place: Place) -> bool:
        event = log.recorded[place.offset - 1].event
        return place.offset > 0 and event.seq != event.last_seq

    def _pass(self, log: MergingLog, one: Told) -> None:
        event = log.recorded[one.offset - 1].event
        known = self._greatest.get(event.key)
        if ref(event) in self.told:
            assert one.frame is None, "what it was told elsewhere is passed over"
        else:
            assert one.frame == frame(known, event), "it is told the effect on what it has been told"
        if event.is_of_entry and (known is None or event.precedence > known.precedence):
            self._greatest[event.key] = event
        self.told.add(ref(event))
        if one.frame is not None:
            apply(self.entries, one.frame)
        assert one.ends_write == (event.seq == event.last_seq)
        self._check_position(log, one)

    def _check_position(self, log: MergingLog, one: Told) -> None:
        """`at` covers all whole writes that were told, nothing else, and never lies inside a write."""
        marks = decode_position(one.at).marks
        events = {ref(r.event): r.event for r in log.recorded}
        whole: dict[str, int] = {}
        for incarnation, seq in self.told:
            event = events.get((incarnation, seq))
            if event is not None and event.seq == event.last_seq:
                whole[incarnation] = max(whole.get(incarnation, 0), seq)
        assert {name: mark.seq for name, mark in marks.items()} == whole


@settings(max_examples=500, deadline=None)
@given(steps(3, ("write", "write", "pull", "read", "read"), most=40), st.integers(0, 2))
async def test_who_moves_between_nodes_is_told_each_effect_once(history: list[Step], last: int) -> None:
    """Invariant 5: wherever a reader resumes, it is told exactly what it was not told, and ends with the winners.

    The nodes write and pull from each other all the while, so each log has its own order.
    """
    logs, reader = cluster(3), Reader()
    for step in history:
        if step.kind == "read":
            await reader.read(logs[step.node], step.amount)
        else:
            run(logs, [step])
    meet(logs)
    await reader.read(logs[last], 1_000_000)
    everything = [r.event for r in logs[0].recorded]
    assert reader.told == {ref(event) for event in everything}
    assert reader.entries == live(everything)


@settings(deadline=None)
@given(steps(2), st.data())
async def test_the_window_tells_what_a_reread_tells(history: list[Step], data: st.DataObject) -> None:
    """Invariant 10: how near the head a reader is makes no difference to what it is told."""
    log, other = cluster(2)
    run([log, other], history)
    meet([log, other])
    whole = log.recorded
    begin = data.draw(st.sampled_from(log.ends_of_writes()))
    log.recorded = whole[:begin]
    async with tail_of(log, window_events=data.draw(st.integers(1, 12))) as tail:
        tail.attach(lambda: None, place_at_head(log.reading()))
        log.recorded = whole
        await settled(tail, log)
        reread, places = await _reread(tail, place_at_head(log.cut(begin).reading()))
        for place in places:
            recent = tail.recent(place)
            rest = [one for one in reread if one.offset > place.offset]
            assert recent is None or list(recent) == rest


async def _reread(tail: Tail, place: Place) -> tuple[list[Told], list[Place]]:
    """Everything past a place, and all the places on the way."""
    reread: list[Told] = []
    places = [place]
    while True:
        told, place = await tail.reread(place)
        if not told:
            return reread, places
        reread += told
        places += [Place(one.offset, one.at) for one in told]


def written(*sizes: int) -> MergingLog:
    """A node's log with writes of so many events."""
    (log,) = cluster(1)
    write(log, *sizes)
    return log


def write(log: MergingLog, *sizes: int) -> None:
    for size in sizes:
        log.append([("updated", key, "") for key in "abcdefgh"[:size]])


async def test_the_window_is_bounded_and_who_falls_out_rereads() -> None:
    """Invariant 10: of the events that came since, only the last are kept, and nobody is told part of them."""
    log = written(1)
    async with tail_of(log, window_events=3) as tail:
        tail.attach(lambda: None, place_at_head(log.reading()))
        write(log, 1, 1, 1, 1, 1)
        tail._bell.ring()
        await settled(tail, log)
        kept = [tail.recent(Place(offset, "")) for offset in range(8)]
        assert [None if told is None else [one.offset for one in told] for told in kept] == [
            *(None, None, None),
            *([4, 5, 6], [5, 6], [6], [], []),
        ]
        told, place = await tail.reread(place_at_head(log.cut(1).reading()))
        assert [one.offset for one in told] == [2, 3]
        assert place.offset == 3


async def test_who_has_something_ahead_is_not_served_from_the_window() -> None:
    """What the window holds is meant for readers who were told all before it."""
    log, other = cluster(2)
    write(other, 1)
    async with tail_of(log) as tail:
        tail.attach(lambda: None, place_at_head(log.reading()))
        write(log, 1)
        log.pull(other)
        await settled(tail, log)
        place = place_of(log.reading(), other.reading().position())
        assert isinstance(place, Place)
        assert place.ahead == {other.origin.incarnation: 1}
        assert tail.recent(place) is None
        told, after = await tail.reread(place)
        # Both wrote entry `a`; the other's stamp is the same and its name is greater.
        assert [one.frame for one in told] == [None, None]
        assert after == place_at_head(log.reading())


async def test_a_tail_without_readers_reads_nothing() -> None:
    """A worker with no subscriber does not read the log, whatever rings; the first one begins at its head."""
    log, bell = written(1, 1), Bell()
    async with tail_of(log, bell=bell, poll_seconds=0.001) as tail:
        for _ in range(20):
            bell.ring()
            await asyncio.sleep(0)
        assert log.reads == 0
        tail.attach(lambda: None, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
        assert tail.head == 2
        assert tail.recent(place_at_head(log.reading())) == ()
        assert tail.recent(Place(1, "")) is None


async def test_a_tail_that_all_readers_left_rests() -> None:
    """Once the last reader has gone the log is read no more."""
    log, bell = written(1), Bell()
    async with tail_of(log, bell=bell) as tail:

        def wake() -> None:
            pass

        tail.attach(wake, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
        tail.detach(wake)
        write(log, 1)
        seen = log.reads
        for _ in range(20):
            bell.ring()
            await asyncio.sleep(0)
        assert (log.reads, tail.head) == (seen, 1)


async def test_the_first_reader_after_all_left_begins_a_new_window() -> None:
    """What was committed while nobody read is in no window: who was told it elsewhere is not told it again."""
    log, bell = written(1), Bell()
    async with tail_of(log, bell=bell) as tail:

        def first() -> None:
            pass

        tail.attach(first, place_at_head(log.reading()))
        write(log, 1)
        bell.ring()
        await settled(tail, log)
        tail.detach(first)
        write(log, 3)
        head = place_at_head(log.reading())
        tail.attach(lambda: None, head)
        assert (tail.head, tail.recent(head), tail.recent(Place(4, ""))) == (5, (), None)
        write(log, 2)
        bell.ring()
        await settled(tail, log)
        told = tail.recent(head)
        assert told is not None
        assert [one.offset for one in told] == [6, 7]
        assert told[-1].at == place_at_head(log.reading()).at


async def test_a_reading_that_began_for_readers_who_left_is_dropped() -> None:
    """What was read for the readers before is not put into the window of those after."""
    log, bell = written(1), Bell()
    began, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MergingLog):
        async def read(self, function: Callable[[Reading[MemoryStore]], Result], *, size: int = 0) -> Result:
            result = await super().read(function, size=size)
            began.set()
            await go_on.wait()
            return result

    slow = Slow(log.origin.node_id)
    slow.recorded = log.recorded
    start = place_at_head(slow.reading())
    async with tail_of(slow, bell=bell) as tail:

        def first() -> None:
            pass

        tail.attach(first, start)
        write(slow, 1)
        await began.wait()
        tail.detach(first)
        write(slow, 1)
        head = place_at_head(slow.reading())
        tail.attach(lambda: None, head)
        go_on.set()
        write(slow, 1)
        bell.ring()
        await settled(tail, slow)
        told = tail.recent(head)
        assert told is not None
        assert [(one.offset, one.at) for one in told] == [(4, place_at_head(slow.reading()).at)]
        assert tail.recent(start) is None


async def test_every_reader_is_woken_by_what_comes() -> None:
    """One read of the log serves all readers at its head, and each is woken once there is something."""
    log, bell = written(1), Bell()
    async with tail_of(log, bell=bell) as tail:
        woken = [asyncio.Event() for _ in range(5)]
        for event in woken:
            tail.attach(event.set, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
        assert not any(event.is_set() for event in woken)
        reads = log.reads
        write(log, 1)
        bell.ring()
        await eventually(lambda: all(event.is_set() for event in woken))
        await settled(tail, log)
        assert log.reads <= reads + 2


async def test_a_lost_ring_delays_and_loses_nothing() -> None:
    """Invariant 4: a tail with readers looks by itself now and then."""
    log = written(1)
    async with tail_of(log, poll_seconds=0.01) as tail:
        woken = asyncio.Event()
        head = place_at_head(log.reading())
        tail.attach(woken.set, head)
        for size in (1, 2, 3):
            write(log, size)
            await settled(tail, log)
        assert woken.is_set()
        told = tail.recent(head)
        assert told is not None
        assert [one.offset for one in told] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "trouble", [Unavailable("the disk reports errors"), LogCorrupt("not what was appended")]
)
async def test_trouble_with_the_log_is_told_once_and_survived(
    trouble: OscdError, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever keeps the log from being read, the tail tries again, and goes on where it was."""
    log, bell = written(1), Bell()
    caplog.set_level(logging.WARNING, "oscd.feed")
    async with tail_of(log, bell=bell, poll_seconds=0.005) as tail:
        head = place_at_head(log.reading())
        tail.attach(lambda: None, head)
        await eventually(lambda: log.reads)
        log.trouble = trouble
        write(log, 1, 1)
        bell.ring()
        seen = log.reads
        await eventually(lambda: log.reads >= seen + 3)
        assert [record.message for record in caplog.records] == [f"streams wait for the log: {trouble}"]
        assert tail.head == 1
        log.trouble = None
        await settled(tail, log)
        told = tail.recent(head)
        assert told is not None
        assert [one.offset for one in told] == [2, 3]
        log.trouble = trouble
        write(log, 1)
        await eventually(lambda: len(caplog.records) == 2)


async def test_a_reread_passes_the_trouble_on_and_keeps_the_place() -> None:
    """A reader whose page cannot be read is told so, and finds the same page once it can."""
    log = written(2)
    tail = Tail(log, Bell())
    log.trouble = Unavailable("the disk reports errors")
    with pytest.raises(Unavailable):
        await tail.reread(START)
    log.trouble = None
    told, _ = await tail.reread(START)
    assert [one.offset for one in told] == [1, 2]


async def test_a_place_inside_a_write_resumes_before_it() -> None:
    """A position covers whole writes: after the first events of one it still is that of the write before."""
    log = written(1, 3)
    tail = Tail(log, Bell())
    told, place = await tail.reread(START)
    before, after = place_at_head(log.cut(1).reading()).at, place_at_head(log.reading()).at
    assert [(one.offset, one.ends_write, one.at) for one in told] == [(1, True, before), (2, False, before)]
    assert place == Place(2, before)
    told, place = await tail.reread(place)
    assert [(one.offset, one.ends_write, one.at) for one in told] == [(3, False, before), (4, True, after)]
    assert await tail.reread(place) == ([], place)


async def test_a_closed_tail_reads_no_more() -> None:
    """After `close` no ring makes it look, and a second close is no fault."""
    log, bell = written(1), Bell()
    async with tail_of(log, bell=bell) as tail:
        tail.attach(lambda: None, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
    seen = log.reads
    write(log, 1)
    bell.ring()
    await asyncio.sleep(0)
    assert log.reads == seen
    await tail.close()


async def test_a_merged_backlog_is_told_once_the_tail_has_passed_it() -> None:
    """The point of a sync lies behind every event that was counted, and each reader is woken for it."""
    log, bell, total = written(1), Bell(), 0

    def woken() -> None:
        seen.append((tail.head, tail.sync_point))

    seen: list[tuple[int, SyncPoint]] = []
    async with tail_of(log, bell=bell, synced=lambda: total) as tail:
        tail.attach(woken, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
        write(log, 2, 3)
        total = 5
        bell.ring()
        await eventually(lambda: tail.sync_point.total)
        assert tail.sync_point == SyncPoint(6, 5)
        assert seen[-1] == (6, SyncPoint(6, 5))
        assert {point for _, point in seen[:-1]} == {SyncPoint(0, 0)}
        write(log, 1)
        bell.ring()
        await settled(tail, log)
        assert tail.sync_point == SyncPoint(6, 5)


async def test_a_backlog_that_is_counted_while_the_tail_reads_waits_for_the_next_look() -> None:
    """What is counted after the log was read may not have been passed: it is told behind its events."""
    log, bell, total = written(1), Bell(), 0

    class Growing(MergingLog):
        async def read(self, function: Callable[[Reading[MemoryStore]], Result], *, size: int = 0) -> Result:
            result = await super().read(function, size=size)
            if len(self.recorded) == 2:  # the tail has looked, and a backlog comes only now
                nonlocal total
                write(self, 1)
                total = 1
            return result

    growing = Growing(log.origin.node_id)
    growing.recorded = log.recorded
    async with tail_of(growing, bell=bell, synced=lambda: total) as tail:
        tail.attach(lambda: None, place_at_head(growing.reading()))
        await eventually(lambda: growing.reads)
        write(growing, 1)
        bell.ring()
        await settled(tail, growing)
        assert (tail.head, tail.sync_point) == (3, SyncPoint(0, 0))
        bell.ring()
        await eventually(lambda: tail.sync_point.total)
        assert tail.sync_point == SyncPoint(3, 1)


async def test_a_sync_whose_ring_was_lost_is_found_by_looking() -> None:
    """Invariant 4: the number is compared at each look, though nothing else has happened."""
    log, total = written(2), 0
    async with tail_of(log, poll_seconds=0.01, synced=lambda: total) as tail:
        tail.attach(lambda: None, place_at_head(log.reading()))
        await eventually(lambda: log.reads)
        total = 2
        await eventually(lambda: tail.sync_point.total)
        assert tail.sync_point == SyncPoint(2, 2)
