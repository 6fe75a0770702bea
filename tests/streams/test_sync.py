"""`sync`: what readers are told when a peer's backlog was merged (contract §6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oscd.feed.frame import StreamFilter
from oscd.streams.subscription import CHUNK_EVENTS
from tests.streams.site import OWN, Client, Options, Site, draft, opened_site
from tests.support.waiting import eventually


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        yield site


async def merge(site: Site, count: int, name: str = "theirs") -> None:
    """Take in a backlog of so many writes, as the steward does, and say so."""
    for number in range(count):
        await site.ingest(draft(f"{name}-{number}", stamp=1_800_000_000_000_000 + number))
    site.synced.note(count)


def syncs(client: Client) -> list[dict[str, int]]:
    return [event.data["data"] for event in client.stream.of_kind("sync")]


async def test_every_reader_is_told_after_the_backlogs_events(site: Site) -> None:
    """Whatever its filter; with no id, so that who resumes comes back to the last change."""
    everything, nothing = await site.connected(), await site.connected(StreamFilter("no such key"))
    with_values = await site.connected(cipher=OWN)
    await merge(site, 3)
    for client, changes in ((everything, 3), (nothing, 0), (with_values, 3)):
        (event,) = await client.has("sync")
        assert client.stream.kinds() == ["connected", *["created"] * changes, "sync"]
        assert event.at is None
        assert (event.data["node_id"], event.data["data"]) == ("tested", {"events": 3})
    site.registry.report()
    assert site.counts.total("sent", "sync") == 3


async def test_a_reader_that_comes_afterwards_is_told_nothing_of_it(site: Site) -> None:
    """It begins with what was merged, even where it resumes before it."""
    before = await site.connected()
    start = before.stream.events[0].at
    await merge(site, 2)
    await before.has("sync")
    late, resumed = await site.connected(), await site.connected(resume=start)
    await merge(site, 1, "more")
    for client in (before, late, resumed):
        await client.has("sync", 2 if client is before else 1)
    assert (syncs(late), syncs(resumed)) == ([{"events": 1}], [{"events": 1}])
    assert resumed.stream.kinds() == ["connected", "created", "created", "created", "sync"]


async def test_a_reader_that_falls_behind_is_told_when_it_has_caught_up(tmp_path: Path) -> None:
    """Once for all backlogs it missed, and never before their events, though it re-reads the log for them."""
    async with opened_site(tmp_path, Options(window_events=4)) as site:
        slow, quick = await site.connected(), await site.connected()
        slow.takes.clear()
        await site.put("ours")
        await slow.has("created")
        await merge(site, 9, "one")
        await quick.has("sync")
        await merge(site, 5, "other")
        await quick.has("sync", 2)
        assert (syncs(quick), syncs(slow)) == ([{"events": 9}, {"events": 5}], [])
        slow.takes.set()
        await slow.has("sync")
        assert slow.stream.kinds() == ["connected", *["created"] * 15, "sync"]
        assert syncs(slow) == [{"events": 14}]


async def test_no_sync_is_told_inside_a_write(site: Site) -> None:
    """Atomic: a write that goes out in several pieces is told whole first."""
    client = await site.connected()
    client.takes.clear()
    await site.put("ours")
    await client.has("created")
    await merge(site, 1)
    size = CHUNK_EVENTS + 10
    await site.write(*(draft(f"large-{number}") for number in range(size)))
    await eventually(lambda: site.tail.head == size + 2 and site.tail.sync_point.total == 1)
    client.takes.set()
    await client.has("sync")
    assert client.stream.kinds() == ["connected", *["created"] * (size + 2), "sync"]


async def test_no_sync_is_told_before_a_snapshots_bookmark(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog that comes while a snapshot goes out is told, and counted, behind it."""
    monkeypatch.setattr("oscd.streams.snapshot.PAGE_ENTRIES", 1)
    for number in range(4):
        await site.put(f"k{number}")
    client = site.client(from_snapshot=True)
    await client.has("connected")
    client.takes.clear()
    await merge(site, 2)
    await eventually(lambda: site.tail.sync_point.total == 2)
    client.takes.set()
    await client.has("sync")
    assert client.stream.kinds() == [
        "connected",
        *["snapshot"] * 4,
        "bookmark",
        "created",
        "created",
        "sync",
    ]


async def test_a_stream_that_is_ended_half_way_says_goodbye_and_no_sync(site: Site) -> None:
    """Its place may be past events that it was not sent: a sync would say that it has had them."""
    client = await site.connected(cipher=OWN)
    client.takes.clear()
    await site.put("ours")
    await client.has("created")
    await merge(site, 2)
    await eventually(lambda: site.tail.sync_point.total == 2)
    client.takes.set()
    client.takes.clear()  # It takes one part, and stops again.
    await client.has("created", 2)
    site.registry.end_all()
    client.takes.set()
    async with asyncio.timeout(20):
        await client.task
    assert client.stream.kinds() == ["connected", "created", "created", "goodbye"]
