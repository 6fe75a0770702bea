"""Streams of a node with four workers while many write: each subscriber hears exactly what it should, once, in order.

What really happened is read from the node after the load, must agree with what the writers were answered, and then
judges every stream by the six guarantees.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.conftest import StartNode
from tests.support.changes import CATEGORIES, ENVIRONMENTS, Load, key_of
from tests.support.guarantees import findings
from tests.support.history import Filters, History
from tests.support.node import OTHER_USER_KEY, USER_KEY, RunningNode, key_headers
from tests.support.proxy import cutting_proxy
from tests.support.subscriber import AsyncSubscriber, Condition, Subscriber, Wanted, stands_at
from tests.support.truth import Model, Truth, judged
from tests.support.waiting import PATIENCE

WRITERS = 8
WRITES = 2000
SUBSCRIBERS = 40
CUTS = 100

SHOWN_FINDINGS = 10
"""Of all findings about a stream, those that a failed test shows."""

KEEPALIVE = {"OSC_SSE_KEEPALIVE_INTERVAL": "1"}
"""With each keep-alive comes where the stream stands, so a subscriber knows that it missed nothing."""


@pytest.fixture
def node(start_node: StartNode) -> RunningNode:
    """A fresh node with four workers: what a stream tells of it is this test's alone."""
    return start_node(OSC_WORKERS="4", **KEEPALIVE)


@pytest.fixture
def seed() -> str:
    """Decides what a test does; printed, so that it can be done again."""
    drawn = str(random.getrandbits(64))
    print(f"seed {drawn}")
    return drawn


def mixed_filters(dice: random.Random, count: int) -> list[Filters]:
    """Filters of all combinations, as evenly as it goes; the first one is none."""
    keys = [None, *(key_of(writer, 0) for writer in range(WRITERS))]
    drawn = [
        Filters(
            dice.choice(keys[1:]) if by_key else None,
            dice.choice(ENVIRONMENTS) if by_environment else None,
            dice.choice([category for category in CATEGORIES if category]) if by_category else None,
        )
        for by_key, by_environment, by_category in itertools.islice(
            itertools.cycle(itertools.product([False, True], repeat=3)), count
        )
    ]
    assert drawn[0] == Filters()
    return drawn


def is_connected(history: History) -> bool:
    """Whether the first frame of the latest connection has come."""
    return bool(history.attempts[-1].frames)


def stands_at_end(load: Load) -> Condition:
    """Whether a subscriber was told all of a load, which may still go on."""
    return lambda history: bool(load.end) and stands_at(load.end)(history)


def has_frames(count: int) -> Condition:
    """Whether the latest connection was told so many frames."""
    return lambda history: len(history.attempts[-1].frames) >= count


async def everything(port: int, load: Load) -> Truth:
    """The log from before the load to its end, which must be what the writers were answered."""
    replay = AsyncSubscriber(port, Wanted(after=load.start))
    await replay.open()
    assert await replay.read_until(stands_at(load.end)), replay.history.attempts[-1].ended
    await replay.close()
    truth, disagreements = judged(replay.history, load.writes)
    assert not disagreements, disagreements[:SHOWN_FINDINGS]
    assert len(truth.events) == len(load.writes)
    assert {event.effect.event for event in truth.events} == {"created", "updated", "deleted"}
    moved = [e for e in truth.events if e.effect.event == "updated" and e.effect.before != e.effect.after]
    assert moved, "no entry ever moved to another category"
    return truth


def require_all_guarantees(histories: Sequence[History], truth: Truth) -> None:
    """Judge each stream by all six; each that concerns anything must have been told something."""
    for history in histories:
        found = findings(history, truth)
        assert not found, f"{history.filters}: {len(found)} findings, {found[:SHOWN_FINDINGS]}"


async def test_each_subscriber_hears_exactly_its_events_once_in_log_order(
    node: RunningNode, seed: str
) -> None:
    """40 subscribers with mixed filters on four workers under 8 writers: all six guarantees hold for each."""
    load = Load(node.port, seed, writers=WRITERS, writes=WRITES)
    dice = random.Random(seed)
    subscribers = [
        # From the head as it is now and from a given place are the same place here.
        AsyncSubscriber(node.port, Wanted(wanted, after=dice.choice([None, load.start])))
        for wanted in mixed_filters(dice, SUBSCRIBERS)
    ]
    for subscriber in subscribers:
        await subscriber.open()
        assert await subscriber.read_until(is_connected)

    async def follow(subscriber: AsyncSubscriber) -> None:
        assert await subscriber.read_until(stands_at_end(load)), subscriber.history.attempts[-1].ended
        await subscriber.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(load.run))
        for subscriber in subscribers:
            group.create_task(follow(subscriber))
    truth = await everything(node.port, load)
    require_all_guarantees([subscriber.history for subscriber in subscribers], truth)


@contextmanager
def under_load(load: Load) -> Iterator[Future[None]]:
    """The load beside the block, which must have ended with it."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)
        yield running
        running.result(PATIENCE)


@pytest.mark.parametrize(
    ("wanted", "most_frames"),
    [
        pytest.param(Filters(), 30, id="everything"),
        pytest.param(Filters(category="red"), 12, id="a category"),
    ],
)
async def test_a_subscriber_that_is_cut_off_100_times_misses_nothing(
    node: RunningNode, seed: str, wanted: Filters, most_frames: int
) -> None:
    """Closed or reset after any frame, and resumed on whichever worker accepts, it hears every event once."""
    load = Load(node.port, seed, writers=WRITERS, writes=WRITES)
    dice = random.Random(seed)
    # It reads little at a time, so that what is cut off is often half a frame, or waits unread.
    subscriber = Subscriber(node.port, Wanted(wanted, after=load.start), read_bytes=1000)

    def follow() -> int:
        """Gives how many of the cuts fell into the load."""
        subscriber.open()
        during = 0
        for _ in range(CUTS):
            assert subscriber.read_until(has_frames(dice.randrange(1, most_frames)))
            dice.choice([subscriber.close, subscriber.cut])()
            during += not load.end
            subscriber.resume()
        return during

    with under_load(load) as running:
        during = await asyncio.to_thread(follow)
        await asyncio.wrap_future(running)
    assert await asyncio.to_thread(subscriber.read_until, stands_at(load.end))
    subscriber.close()
    assert len(subscriber.history.attempts) == CUTS + 1
    assert during, "the load was over before the first cut"
    require_all_guarantees([subscriber.history], await everything(node.port, load))


async def test_a_subscriber_that_is_cut_off_within_frames_misses_nothing(
    node: RunningNode, seed: str
) -> None:
    """A proxy cuts at any byte, 100 times: a frame that came in part was not told, and every event comes once."""
    load = Load(node.port, seed, writers=WRITERS, writes=WRITES)

    def follow(subscriber: Subscriber) -> None:
        subscriber.open()
        while not subscriber.read_until(stands_at_end(load)):
            assert len(subscriber.history.attempts) <= CUTS, subscriber.history.attempts[-1].ended
            subscriber.resume()
        subscriber.close()

    with cutting_proxy(node.port, random.Random(seed), most_cuts=CUTS, most_bytes=6000) as proxy:
        subscriber = Subscriber(proxy.port, Wanted(after=load.start, keep_raw=True))
        with under_load(load):
            await asyncio.to_thread(follow, subscriber)
        assert proxy.cuts == CUTS == len(subscriber.history.attempts) - 1
    cut_off = [attempt.raw for attempt in subscriber.history.attempts[:-1]]
    assert any(not raw.endswith(b"\n\n") for raw in cut_off), "no frame was ever cut within"
    require_all_guarantees([subscriber.history], await everything(node.port, load))


async def test_who_starts_with_a_snapshot_ends_with_the_state(node: RunningNode, seed: str) -> None:
    """Started at random moments of the load, some of them cut off early: each ends with exactly what it filters."""
    load = Load(node.port, seed, writers=WRITERS, writes=WRITES)
    dice = random.Random(seed)
    subscribers = [
        AsyncSubscriber(node.port, Wanted(wanted, snapshot=True))
        for wanted in mixed_filters(dice, SUBSCRIBERS)
    ]

    async def follow(subscriber: AsyncSubscriber, begins: int, cut_after: int | None) -> None:
        while load.acknowledged < begins:  # noqa: ASYNC110 - the writers are threads, which know no event of this loop
            await asyncio.sleep(0.01)
        await subscriber.open()
        if cut_after is not None:
            await subscriber.read_until(has_frames(cut_after))
            await subscriber.resume()
        assert await subscriber.read_until(stands_at_end(load)), subscriber.history.attempts[-1].ended
        await subscriber.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(load.run))
        for number, subscriber in enumerate(subscribers):
            cut_after = dice.randrange(1, 6) if number % 4 == 3 else None
            group.create_task(follow(subscriber, dice.randrange(WRITES), cut_after))
    truth = await everything(node.port, load)
    histories = [subscriber.history for subscriber in subscribers]
    require_all_guarantees(histories, truth)
    for history in histories:
        assert Model.of(history).held == truth.state(len(truth.events), history.filters)
    frames = [frame for history in histories for frame in history.last_run().frames()]
    assert any(frame.event == "snapshot" for frame in frames), "nobody was ever shown an entry"
    assert any(frame.is_change for frame in frames), "nobody was ever told of a change after its snapshot"


async def test_values_reach_only_who_shows_the_key(node: RunningNode) -> None:
    """With `values=true` own values come, another's are null; without the key no byte of a value is ever sent."""
    own, others = ([f"secret-{secrets.token_hex(16)}" for _ in range(2)] for _ in range(2))
    asked = {
        "own": Wanted(headers=key_headers(), values=True, keep_raw=True),
        "own, not asked": Wanted(headers=key_headers(), keep_raw=True),
        "other": Wanted(headers=key_headers(OTHER_USER_KEY), values=True, keep_raw=True),
        "no key": Wanted(keep_raw=True),
        "no key, asked": Wanted(values=True, keep_raw=True),
    }
    live = {name: AsyncSubscriber(node.port, wanted) for name, wanted in asked.items()}
    for subscriber in live.values():
        await subscriber.open()
        await subscriber.read_until(is_connected)
    await asyncio.to_thread(_write, node, USER_KEY, "mine", own)
    end = await asyncio.to_thread(_write, node, OTHER_USER_KEY, "theirs", others)
    shown = {
        name: AsyncSubscriber(
            node.port, Wanted(headers=wanted.headers, values=wanted.values, snapshot=True, keep_raw=True)
        )
        for name, wanted in asked.items()
    }
    for subscriber in shown.values():
        await subscriber.open()
    for subscriber in (*live.values(), *shown.values()):
        told = await subscriber.read_until(stands_at(end))
        # Who asks for values and shows no key may be refused instead.
        assert told or subscriber.history.attempts[0].status == 401
        await subscriber.close()

    def values(subscriber: AsyncSubscriber, key: str) -> list[object]:
        (attempt,) = subscriber.history.attempts
        return [f.data["data"] for f in attempt.frames if f.data.get("key") == key and f.event != "deleted"]

    first, second = ({"value": value} for value in own)
    assert values(live["own"], "mine") == [first, second, first]
    assert values(live["own"], "theirs") == [None] * 3
    assert values(live["other"], "theirs") == [
        {"value": others[0]},
        {"value": others[1]},
        {"value": others[0]},
    ]
    assert values(live["other"], "mine") == [None] * 3
    assert values(live["own, not asked"], "mine") == values(live["no key"], "mine") == [None] * 3
    assert values(shown["own"], "mine") == [first]
    assert values(shown["own"], "theirs") == values(shown["other"], "mine") == [None]
    assert values(shown["no key"], "mine") == values(shown["own, not asked"], "mine") == [None]
    deleted = [f for f in live["own"].history.attempts[0].frames if f.event == "deleted"]
    assert [frame.data["data"] for frame in deleted] == [None] * 2
    for streams in (live, shown):
        _require_no_value(streams, own, may_see={"own"})
        _require_no_value(streams, others, may_see={"other"})


def _require_no_value(streams: dict[str, AsyncSubscriber], values: Sequence[str], may_see: set[str]) -> None:
    """No byte of these values in a stream of who may not see them; who may, shows that they can be found."""
    found = {
        name
        for name, subscriber in streams.items()
        for value in values
        if value.encode() in subscriber.history.attempts[0].raw
    }
    assert found == may_see


def _write(node: RunningNode, user_key: str, key: str, values: Sequence[str]) -> str:
    """Create, update, delete and create an entry anew; gives the last position."""
    first, second = values
    path = f"/configs/{key}?environment=told"
    entry = {"key": key, "environment": "told", "value": first}
    with node.client(user_key) as client:
        steps: list[Callable[[], object]] = [
            lambda: client.post("/configs", json=entry).raise_for_status(),
            lambda: client.put(path, content=json.dumps({"value": second})).raise_for_status(),
            lambda: client.delete(path).raise_for_status(),
        ]
        for step in steps:
            step()
        return client.post("/configs", json=entry).raise_for_status().headers["X-OSC-Position"]
