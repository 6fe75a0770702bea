"""Who subscribes: the limit of the node, the end of streams, and the sight of all workers' streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oscd.errors import Unavailable
from oscd.feed.board import Board
from oscd.feed.frame import StreamFilter
from oscd.streams.registry import Registry
from oscd.streams.terms import Wanted
from oscd.streams.ticket import credential
from tests.streams.site import EVERYTHING, Client, Counts, Options, Site, opened_site
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path, Options(most=4)) as site:
        yield site


def other_worker(site: Site, directory: Path) -> Registry:
    """The second worker of the node, over the same log."""
    return Registry(
        site.feed,
        counters=Counts(),
        board=Board(directory / "board", 2, 1),
        most=4,
        reports=directory,
        index=1,
    )


async def test_the_limit_is_the_nodes(site: Site, tmp_path: Path) -> None:
    """As many streams as all workers together may have, and 503 with an advice for one more."""
    other = Board(tmp_path / "board", 2, 1)
    other.own = 3
    client = await site.connected()
    assert site.registry.active == 4
    refused = site.client()
    with pytest.raises(Unavailable, match="OSC_SSE_MAX_SUBSCRIPTIONS") as refusal:
        await refused.task
    assert refusal.value.retry_after in (1, 2)
    await client.leave()
    await eventually(lambda: site.registry.active == 3)
    await site.connected()


async def test_an_open_stream_that_is_refused_takes_no_place(site: Site) -> None:
    """However many are refused, the limit stays where it is."""
    for _ in range(4):
        await site.connected()
    for _ in range(20):
        with pytest.raises(Unavailable):
            await site.client().task
    assert site.registry.active == site.board.own == 4


async def _ends(client: Client, way: str, site: Site) -> None:
    match way:
        case "leaves":
            await client.leave()
        case "goodbye":
            site.registry.revoke(())
        case "fault":
            assert client.subscription is not None
            client.subscription._place = None  # type: ignore[assignment]
            client.subscription.wake()
    await asyncio.wait({client.task})


@pytest.mark.parametrize(("way", "by_client"), [("leaves", True), ("goodbye", False), ("fault", False)])
async def test_a_stream_that_ends_in_any_way_frees_its_place(site: Site, way: str, by_client: bool) -> None:
    """Client gone, ended here, or a fault in the middle: place, timers and the tail's reader are given back."""
    clients = [await site.connected(credential=b"c") for _ in range(3)]
    await site.put("k")
    await clients[0].has("created")
    await _ends(clients[0], way, site)
    if way == "goodbye":
        await asyncio.wait({client.task for client in clients})
    await eventually(lambda: site.counts.times("unsubscribed", by_client) == (3 if way == "goodbye" else 1))
    remaining = 0 if way == "goodbye" else 2
    assert site.registry.active == len(site.tail._readers) == remaining
    assert clients[0].subscription is not None
    pulse = clients[0].subscription._pulse
    assert pulse._beat is not None
    assert all(timer.cancelled() for timer in (pulse._beat, *pulse._alarms))
    assert site.counts.times("subscribed") == 3
    if way == "fault":
        assert isinstance(clients[0].task.exception(), AttributeError)


async def test_a_task_that_is_cancelled_while_it_opens_frees_its_place(site: Site) -> None:
    """A client that leaves before its stream has begun was never a subscriber, and holds nothing."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        entered.set()
        await never.wait()

    site.log.meanwhile = hang
    client = site.client()
    await entered.wait()
    assert site.registry.active == 1
    await client.leave()
    await eventually(lambda: site.registry.active == 0)
    assert site.counts.times("subscribed") == site.counts.times("unsubscribed") == 0
    assert site.tail._readers == {}


async def test_what_a_crashed_worker_left_is_counted_as_ended(site: Site, tmp_path: Path) -> None:
    """Its successor counts its streams as closed, and the place of each is free again."""
    Board(tmp_path / "board", 2, 1).own = 3
    counts = Counts()
    successor = Registry(site.feed, counters=counts, board=Board(tmp_path / "board", 2, 1), most=4)
    assert counts.total("abandoned") == 3
    assert successor.active == 0


async def test_a_successor_clears_the_report_of_the_worker_it_replaces(site: Site, tmp_path: Path) -> None:
    """Streams that ended with a crash are shown by nobody once its successor serves."""
    crashed = other_worker(site, tmp_path)
    task = asyncio.ensure_future(_hold(crashed, Wanted(EVERYTHING)))
    await eventually(lambda: crashed._own().last_created_at is not None, what="the stream to have begun")
    await _told(crashed)
    assert len((await site.registry.seen()).streams) == 1
    successor = other_worker(site, tmp_path)
    await _told(successor)
    found = await site.registry.seen()
    assert found.streams == []
    assert found.last_created_at is not None
    assert successor.active == 0
    task.cancel()
    await asyncio.wait({task})


async def _told(registry: Registry) -> None:
    """Have a worker tell the others all it has to tell; a report that is being written may be older."""
    while registry._written != registry._own():
        registry.report()
        assert registry._writing is not None
        await registry._writing
    if registry._writing is not None:
        await registry._writing


async def _hold(registry: Registry, wanted: Wanted) -> None:
    """Have a stream for as long as this task lives."""
    subscription = await registry.open(wanted)
    async for _ in subscription.parts():
        pass


async def test_all_workers_see_all_streams(site: Site, tmp_path: Path) -> None:
    """Each worker shows the others' streams beside its own, once they have told of them."""
    other = other_worker(site, tmp_path)
    own = await site.connected(StreamFilter("k", None, None))
    task = asyncio.ensure_future(_hold(other, Wanted(StreamFilter(None, "e", "c"))))
    await eventually(lambda: other.active == 2)
    await _told(other)
    await _told(site.registry)
    seen = [await registry.seen() for registry in (site.registry, other)]
    for report in seen:
        assert sorted(str(stream.filters) for stream in report.streams) == sorted(
            str(one)
            for one in (
                {"key": "k", "environment": None, "category": None},
                {"key": None, "environment": "e", "category": "c"},
            )
        )
        assert report.last_created_at == max(stream.created_at for stream in report.streams)
    assert own.subscription is not None
    assert own.subscription.id in {stream.subscription_id for stream in seen[1].streams}
    task.cancel()
    await asyncio.wait({task})
    await eventually(lambda: other.active == 1)
    await _told(other)
    assert len((await site.registry.seen()).streams) == 1


async def test_a_change_is_reported_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody has to ask: soon after something changed, the other workers and the counters know."""
    monkeypatch.setattr("oscd.streams.registry.REPORT_SECONDS", 0.001)
    other = other_worker(site, tmp_path)
    client = await site.connected()
    await site.put("k")
    await eventually(lambda: site.counts.total("sent", "created") == 1)
    assert [stream.lag for stream in (await other.seen()).streams] == [0]
    assert (await other.seen()).last_sent_at is not None
    await client.leave()
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while (await other.seen()).streams:
        assert asyncio.get_running_loop().time() < deadline
    assert site.counts.times("unsubscribed") == 1


async def test_nothing_happens_while_nothing_happens(site: Site) -> None:
    """A worker with idle streams writes no report."""
    await site.connected()
    await eventually(lambda: site.tail.head == 0 and site.log.reads >= 2)
    site.registry.report()
    assert site.registry._reporting is None


async def test_a_report_that_cannot_be_written_costs_only_the_report(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk keeps the others from being told, and no stream from being served; it is said in the log."""
    monkeypatch.setattr(site.registry, "_own_report", tmp_path / "missing" / "streams-0.json")
    client = await site.connected()
    site.registry.report()
    await eventually(lambda: "other workers cannot be told" in caplog.text)
    await site.put("k")
    await client.has("created")


async def test_what_streams_were_sent_is_counted_by_kind(site: Site) -> None:
    """Frames of changes count, once for each reader; what opens, keeps or ends a stream does not."""
    clients = [await site.connected() for _ in range(2)]
    await site.put("k")
    for client in clients:
        await client.has("created")
    site.registry.report()
    site.registry.report()
    assert site.counts.total("sent", "created") == 2
    assert site.counts.total("sent", "connected") == 0


async def test_the_greatest_lag_is_kept(site: Site) -> None:
    """How far the slowest reader is behind is told as it is; how far one ever was, is remembered."""
    client = await site.connected()
    client.takes.clear()
    for number in range(5):
        await site.put(f"k{number}")
    await eventually(
        lambda: site.tail.head == 5 and client.subscription is not None and client.subscription.lag >= 4
    )
    assert client.subscription is not None
    lag = client.subscription.lag
    site.registry.report()
    assert site.counts.calls[-1] == ("lagging", lag)
    assert [stream.lag for stream in (await site.registry.seen()).streams] == [lag]
    client.takes.set()
    await client.has("created", 5)
    site.registry.report()
    assert site.counts.calls[-1] == ("lagging", 0)
    assert (await site.registry.seen()).greatest_lag == lag


async def test_revoking_touches_only_streams_of_other_keys(site: Site) -> None:
    """Keys that stay keep their streams, and so does who needed none."""
    kept = await site.connected(credential=credential(b"kept"))
    keyless = await site.connected()
    gone = await site.connected(credential=credential(b"gone"))
    site.registry.revoke([credential(b"kept"), credential(b"new")])
    await gone.has("goodbye")
    await site.put("k")
    await kept.has("created")
    await keyless.has("created")


async def test_after_the_end_of_all_none_is_opened(site: Site) -> None:
    """Once the node shuts down a stream is refused with 503 and the advice to come back later."""
    client = await site.connected()
    site.registry.end_all()
    site.registry.end_all()
    await client.has("goodbye")
    with pytest.raises(Unavailable, match="shutting down") as refusal:
        await site.client().task
    assert refusal.value.retry_after == 2
    assert len(client.stream.of_kind("goodbye")) == 1
