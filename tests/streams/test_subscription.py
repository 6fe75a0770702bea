"""One stream, over a real log: from where it starts, over everything it is told, to its end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from oscd.errors import Unavailable
from oscd.events.cipher import Cipher
from oscd.events.event import EventType
from oscd.events.position import Mark, Position, decode_position
from oscd.feed.frame import StreamFilter
from oscd.streams.subscription import CHUNK_EVENTS, SLICE_BYTES
from oscd.streams.ticket import credential
from tests.streams.reading import SseEvent
from tests.streams.site import (
    ELSEWHERE,
    EVERYTHING,
    FOREIGN,
    OWN,
    Client,
    Options,
    Site,
    draft,
    mark_of_first,
    opened_site,
)
from tests.support.waiting import PATIENCE, eventually

UPDATED, DELETED = EventType.UPDATED, EventType.DELETED
OFTEN = Options(keepalive_seconds=0.005)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        yield site


def named(events: list[SseEvent]) -> list[tuple[str, str]]:
    """Kind and key of each change."""
    return [(event.kind, event.data["key"]) for event in events if "key" in event.data]


async def passed(site: Site, client: Client) -> None:
    """Wait until a client has been told all there is, and give the streams a turn to say too much."""
    head = await site.log.log.read(lambda reading: reading.head())
    await eventually(lambda: client.subscription is not None and client.subscription._place.offset == head)
    await site.put("the end of this test")
    await eventually(lambda: "the end of this test" in [key for _, key in named(client.stream.events)])


def ahead_of(position: str, mark: Mark) -> str:
    """A position that covers an event of another origin besides."""
    return Position({**decode_position(position).marks, ELSEWHERE.incarnation: mark}).encode()


async def test_a_stream_begins_in_order(site: Site) -> None:
    """Contract §6: a comment, the retry hint, then `connected` with the id the stream starts from."""
    await site.put("before")
    client = await site.connected(StreamFilter("k", "prod", "c"))
    lines = client.raw.decode().splitlines()
    assert lines[0].startswith(":")
    assert lines[1].startswith("retry: ")
    assert client.stream.retry is not None
    assert 1000 <= client.stream.retry <= 3000
    (connected,) = client.stream.events
    assert connected.at == await site.position()
    assert connected.data["filters"] == {"key": "k", "environment": "prod", "category": "c"}
    assert client.subscription is not None
    assert connected.data["subscription_id"] == client.subscription.id
    assert set(connected.data) == {"subscription_id", "filters", "server_time"}


async def test_streams_are_told_apart(site: Site) -> None:
    """Each stream has an id of its own."""
    clients = [await site.connected() for _ in range(3)]
    assert len({client.stream.events[0].data["subscription_id"] for client in clients}) == 3


async def test_every_change_is_told_once_in_log_order(site: Site) -> None:
    """From the head on: what was there before is not told, each change has the position after it as its id."""
    await site.put("before")
    client = await site.connected()
    ids = []
    for one in (draft("a"), draft("a", type=UPDATED), draft("b"), draft("a", type=DELETED), draft("a")):
        await site.write(one)
        ids.append(await site.position())
    await passed(site, client)
    changes = client.stream.events[1:-1]
    assert named(changes) == [
        ("created", "a"),
        ("updated", "a"),
        ("created", "b"),
        ("deleted", "a"),
        ("created", "a"),
    ]
    assert [event.at for event in changes] == ids
    assert all(event.data["data"] is None for event in changes)


async def test_a_stream_resumes_after_any_event_with_no_gap_and_no_repeat(site: Site) -> None:
    """Resumable: from each id that was ever sent, exactly what came after it follows."""
    client = await site.connected()
    for number in range(12):
        await site.write(*(draft(f"k{number}-{n}") for n in range(1 + number % 3)))
    await passed(site, client)
    whole = client.stream.events
    for event in whole:
        follower = await site.connected(resume=event.at)
        rest = whole[_covered(whole, event.at) :]
        await eventually(lambda c=follower, r=rest: len(c.stream.events) > len(r))  # type: ignore[misc]
        assert follower.stream.events[0].at == event.at
        assert follower.stream.events[1:] == rest
        await follower.leave()


def _covered(events: list[SseEvent], at: str | None) -> int:
    """How many events a position covers: up to the first that has it, as those after it are of the next write."""
    return 1 + [event.at for event in events].index(at)


async def test_an_old_position_is_reread_from_the_log(tmp_path: Path) -> None:
    """Invariant 10: far behind the window the log itself is read, and then the reader follows like any other."""
    async with opened_site(tmp_path, Options(window_events=4)) as site:
        start = await site.position()
        for number in range(150):
            await site.put(f"k{number}")
        client = await site.connected(resume=start)
        await client.has("created", 150)
        await site.put("live")
        await client.has("created", 151)
        assert [key for _, key in named(client.stream.events)] == [*(f"k{n}" for n in range(150)), "live"]


async def test_a_reader_who_is_ahead_of_this_node_is_held_until_it_has_caught_up(site: Site) -> None:
    """Who comes from another node waits for what it was told there, and is not told it again."""
    one = draft("there", stamp=1_000)
    resume = ahead_of(await site.position(), mark_of_first(one))
    client = await site.connected(resume=resume)
    assert client.stream.events[0].at == resume
    await site.put("here")
    await site.ingest(one)
    await site.put("after")
    await client.has("created", 2)
    assert named(client.stream.events) == [("created", "here"), ("created", "after")]
    assert client.stream.last_id == await site.position()


async def test_a_wake_while_a_held_reader_looks_is_not_lost(site: Site) -> None:
    """What arrives just after the log was read is looked for at once, not at the end of the hold."""
    one = draft("there", stamp=1_000)

    async def arrive() -> None:
        await site.ingest(one)

    site.log.meanwhile = arrive
    client = site.client(resume=ahead_of(await site.position(), mark_of_first(one)))
    await eventually(lambda: client.subscription is not None and client.subscription._place.offset == 1)
    await site.put("after")
    await client.has("created")


async def test_what_a_held_reader_was_told_decides_what_it_is_told(site: Site) -> None:
    """An older change of an entry it was told a newer one of is no news; a delete of that one is."""
    one = draft("k", stamp=2_000_000_000_000_000)
    resume = ahead_of(await site.position(), mark_of_first(one))
    client = await site.connected(resume=resume)
    await site.put("k")
    await site.ingest(one)
    await site.write(draft("k", type=DELETED))
    await passed(site, client)
    assert named(client.stream.events)[:-1] == [("deleted", "k")]


async def test_a_reader_is_held_with_keep_alives_that_keep_its_position(tmp_path: Path) -> None:
    """While it waits, what it may resume from is what it came with."""
    async with opened_site(tmp_path, OFTEN) as site:
        resume = ahead_of(await site.position(), Mark(1, bytes(4)))
        client = await site.connected(resume=resume)
        await eventually(lambda: len(client.stream.blocks) >= 4)
        assert {at for _, at in client.stream.blocks} == {resume}
        assert client.stream.kinds() == ["connected"]


async def test_a_position_that_is_not_reached_in_time_is_reset(tmp_path: Path) -> None:
    """Held for so long, then `reset`, and on from the head of that moment."""
    async with opened_site(tmp_path, Options(hold_seconds=0.02)) as site:
        client = await site.connected(resume=ahead_of(await site.position(), Mark(1, bytes(4))))
        (reset,) = await client.has("reset")
        assert (reset.data, reset.at) == ({"reason": "unreachable"}, await site.position())
        await site.put("k")
        await client.has("created")
        assert client.stream.kinds() == ["connected", "reset", "created"]


async def test_a_held_position_that_turns_out_another_is_reset(site: Site) -> None:
    """Invariant 9: the awaited number arrives with another event; nobody waits for the rest of the time."""
    client = await site.connected(resume=ahead_of(await site.position(), Mark(1, bytes(4))))
    await site.ingest(draft("there", stamp=1_000))
    (reset,) = await client.has("reset")
    assert reset.data == {"reason": "contradicted"}
    assert reset.at == await site.position()


@pytest.mark.parametrize("from_snapshot", [False, True])
@pytest.mark.parametrize(
    ("resume", "reason", "is_said_back"),
    [
        ("no position", "unreadable", True),
        ("é\x85", "unreadable", False),
        ("A" * 5000, "unreadable", False),
        (None, "contradicted", True),
    ],
)
async def test_a_position_that_cannot_be_resumed_is_reset_at_once(
    site: Site, resume: str | None, reason: str, is_said_back: bool, from_snapshot: bool
) -> None:
    """Unreadable, or of a numbering that was issued twice: `reset`, then from the head.

    `connected` repeats what it came with, as far as an `id` can: who is cut off before the `reset` gets it again.
    """
    recorded = await site.put("before")
    forged = Position({recorded.event.origin.incarnation: Mark(1, bytes(4))}).encode()
    client = await site.connected(resume=resume or forged, from_snapshot=from_snapshot)
    (reset,) = await client.has("reset")
    assert reset.data == {"reason": reason}
    assert reset.at == await site.position()
    assert client.stream.events[0].at == ((resume or forged) if is_said_back else None)
    await site.put("after")
    await client.has("created")
    assert client.stream.kinds() == ["connected", "reset", "created"]


async def test_a_snapshot_is_cut_at_one_position(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list-then-watch race: whatever is written meanwhile is not in the snapshot and all of it comes after."""
    monkeypatch.setattr("oscd.streams.snapshot.PAGE_ENTRIES", 2)
    for key in "abcdef":
        await site.put(key, category="x")
    await site.put("g", category="y")
    await site.write(draft("e", type=DELETED))
    cut = await site.position()
    client = site.client(StreamFilter(category="x"), from_snapshot=True)
    client.takes.clear()
    await client.has("connected")
    for one in (draft("a", type=DELETED), draft("b", type=UPDATED, category="y"), draft("aa", category="x")):
        await site.write(one)
    client.takes.set()
    (bookmark,) = await client.has("bookmark")
    await client.has("created")
    assert named(client.stream.events) == [
        *(("snapshot", key) for key in "abcdf"),
        ("deleted", "a"),
        ("updated", "b"),
        ("created", "aa"),
    ]
    assert (bookmark.at, bookmark.data) == (cut, {})
    kinds = client.stream.kinds()
    assert kinds.index("bookmark") == 6
    before = client.stream.events[: kinds.index("bookmark")]
    assert {event.at for event in before} == {None}


async def test_a_snapshot_of_nothing_is_a_bookmark(site: Site) -> None:
    """Where no entry matches, the bookmark says that the reader is up to date."""
    await site.put("a")
    client = await site.connected(StreamFilter("b"), from_snapshot=True)
    (bookmark,) = await client.has("bookmark")
    assert bookmark.at == await site.position()
    assert client.stream.kinds() == ["connected", "bookmark"]


async def test_who_resumes_gets_no_snapshot(site: Site) -> None:
    """A browser reconnects with the same address and its last id: it is not told again what it holds."""
    await site.put("a")
    client = await site.connected(resume=await site.position(), from_snapshot=True)
    await passed(site, client)
    assert client.stream.kinds() == ["connected", "created"]
    assert client.stream.events[0].at is not None


async def test_a_snapshot_shows_the_values_that_the_key_opens(site: Site) -> None:
    """`values=true`: own values, imported ones that open by trying, null for the rest."""
    await site.put("own", b'{"a": 1}')
    await site.put("foreign", cipher=FOREIGN)
    await site.put("old", b'"legacy"', imported=True)
    await site.put("old-foreign", cipher=FOREIGN, imported=True)
    client = await site.connected(from_snapshot=True, cipher=OWN)
    await client.has("bookmark")
    values = {event.data["key"]: event.data["data"] for event in client.stream.of_kind("snapshot")}
    assert values == {
        "own": {"value": {"a": 1}},
        "foreign": None,
        "old": {"value": "legacy"},
        "old-foreign": None,
    }
    assert sum(site.opened) == 2


async def test_keep_alives_carry_the_position_of_who_hears_nothing_else(tmp_path: Path) -> None:
    """A subscriber whose filter matches nothing stays resumable: its id moves with the log."""
    async with opened_site(tmp_path, OFTEN) as site:
        client = await site.connected(StreamFilter("nothing"))
        for number in range(3):
            await site.put(f"k{number}")
        position = await site.position()
        await eventually(lambda: client.stream.last_id == position)
        await eventually(lambda: len(client.stream.comments) >= 4)
        assert client.stream.kinds() == ["connected"]
        assert client.stream.comments[1].startswith("keep-alive ")
        site.registry.report()
        assert site.counts.total("kept_alive") >= 3


async def test_keep_alives_before_the_bookmark_name_no_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is cut off in a long search for matching entries starts over, and its connection is kept meanwhile."""
    monkeypatch.setattr("oscd.listing.MAX_EXAMINED", 1)
    async with opened_site(tmp_path, Options(keepalive_seconds=0.0001)) as site:
        for number in range(50):
            await site.put(f"k{number:02}")
        client = await site.connected(StreamFilter(key=None, category="none"), from_snapshot=True)
        await client.has("bookmark")
        before = client.raw.split(b"event: bookmark")[0]
        assert before.count(b": keep-alive") >= 1
        # The bookmark's own id stands before its name.
        assert before.count(b"id: ") == 1


async def test_shutdown_says_goodbye(site: Site) -> None:
    """On shutdown each stream says why, ends by itself, and no new one begins."""
    clients = [await site.connected(), await site.connected(from_snapshot=True)]
    held = await site.connected(resume=ahead_of(await site.position(), Mark(1, bytes(4))))
    site.registry.end_all()
    for client in (*clients, held):
        async with asyncio.timeout(PATIENCE):
            await client.task
        assert client.stream.events[-1] == SseEvent("goodbye", None, {"reason": "shutdown"})
    late = site.client()
    with pytest.raises(Unavailable):
        await late.task


async def test_what_was_committed_before_a_goodbye_is_told_or_resumable(site: Site) -> None:
    """A goodbye may come before a change is told; the last id then still leads to it."""
    client = await site.connected()
    await site.put("k")
    site.registry.end_all()
    async with asyncio.timeout(PATIENCE):
        await client.task
    told = "k" in [key for _, key in named(client.stream.events)]
    assert told == (client.stream.last_id == await site.position())


async def test_a_ticket_that_expires_ends_its_stream(site: Site) -> None:
    """The stream ends when its ticket does; one that has just expired is told so at once."""
    for seconds in (0.05, -5.0):
        client = site.client(expires_at=time.time() + seconds)
        async with asyncio.timeout(PATIENCE):
            await client.task
        assert client.stream.kinds() == ["connected", "goodbye"]
        assert client.stream.events[-1].data == {"reason": "ticket_expired"}
    patient = await site.connected(expires_at=time.time() + 3600)
    assert not patient.task.done()


async def test_removing_an_api_key_ends_its_streams(site: Site) -> None:
    """Rotation: streams of a key that is gone say goodbye, those of others and of no key go on."""
    gone, kept, keyless = [
        await site.connected(credential=None if key is None else credential(key))
        for key in (b"gone", b"kept", None)
    ]
    site.registry.revoke({credential(b"kept")})
    async with asyncio.timeout(PATIENCE):
        await gone.task
    assert gone.stream.events[-1].data == {"reason": "api_key_removed"}
    await passed(site, kept)
    await passed(site, keyless)


async def test_values_go_to_who_can_open_them(site: Site) -> None:
    """Invariant 7: a value is in a frame only for the key that opens it; a delete has none."""
    blind, owner, stranger = (
        await site.connected(),
        await site.connected(cipher=OWN),
        await site.connected(cipher=FOREIGN),
    )
    await site.put("k", b'"one"')
    await site.put("k", b"null", type=UPDATED)
    await site.write(draft("k", type=DELETED))
    await site.put("old", b'{\n "a":\r\n 1}', imported=True)
    for client in (blind, owner, stranger):
        await passed(site, client)
    shown = [
        [event.data["data"] for event in client.stream.events[1:5]] for client in (blind, owner, stranger)
    ]
    assert shown[0] == shown[2] == [None, None, None, None]
    assert shown[1] == [{"value": "one"}, {"value": None}, None, {"value": {"a": 1}}]
    assert b"one" not in blind.raw + stranger.raw


async def test_only_values_that_are_wanted_are_opened(site: Site) -> None:
    """A filter comes before the cipher: what does not match is neither read nor opened."""
    client = await site.connected(StreamFilter(category="x"), cipher=OWN)
    await site.put("a", category="y")
    await site.put("b", category="x")
    await client.has("created")
    assert site.opened == [1]


async def test_a_large_value_goes_out_in_slices(site: Site) -> None:
    """The layers below copy what they are given, so no part is larger than a slice; the frame stays whole."""
    value = json.dumps("x" * (4 * SLICE_BYTES)).encode()
    client = await site.connected(cipher=OWN)
    await site.put("k", value)
    (event,) = await client.has("created")
    assert event.data["data"] == {"value": "x" * (4 * SLICE_BYTES)}
    assert client.largest_part == SLICE_BYTES


@pytest.mark.parametrize(
    ("keys", "blocks"),
    [
        ("kab", [("created", False), (None, True)]),
        ("akb", [("created", False), (None, True)]),
        ("abk", [("created", True)]),
        ("k", [("created", True)]),
        ("abc", []),
    ],
)
@pytest.mark.parametrize("cipher", [None, OWN])
async def test_a_write_that_matches_in_part_ends_with_an_id(
    site: Site, keys: str, blocks: list[tuple[str | None, bool]], cipher: Cipher | None
) -> None:
    """Atomic and resumable: inside a write the id is that of the write before; its end is told to who heard a part.

    Else who was told the first event of a write would be told it again after the next reconnect.
    """
    await site.put("before")
    client = await site.connected(StreamFilter("k"), cipher=cipher)
    start = await site.position()
    await site.write(*(draft(key) for key in keys))
    end = await site.position()
    witness = draft("k", type=UPDATED)
    await site.write(witness)
    await client.has("updated" if "k" in keys else "created")
    seen = [(None if event is None else event.kind, at) for event, at in client.stream.blocks[1:-1]]
    assert seen == [(kind, end if is_end else start) for kind, is_end in blocks]


async def test_a_write_longer_than_a_page_is_told_whole(site: Site) -> None:
    """Its events are contiguous and carry the id before it, up to the last one, for live and resumed readers."""
    start = await site.position()
    live = await site.connected()
    await site.write(*(draft(f"k{number:03}") for number in range(150)))
    resumed = await site.connected(resume=start)
    for client in (live, resumed):
        events = await client.has("created", 150)
        assert [event.data["key"] for event in events] == [f"k{number:03}" for number in range(150)]
        assert [event.at for event in events] == [start] * 149 + [await site.position()]


async def test_a_reader_that_takes_nothing_holds_one_chunk_and_loses_nothing(tmp_path: Path) -> None:
    """Invariant 10: while it does not read, nothing is kept for it; then it re-reads the log from its place."""
    async with opened_site(tmp_path, Options(window_events=8)) as site:
        slow, quick = await site.connected(), await site.connected()
        slow.takes.clear()
        for number in range(40):
            await site.write(*(draft(f"k{number}-{n}") for n in range(5)))
        await quick.has("created", 200)
        assert len(slow.stream.of_kind("created")) <= CHUNK_EVENTS
        assert slow.subscription is not None
        assert slow.subscription.lag >= 200 - CHUNK_EVENTS
        slow.takes.set()
        await slow.has("created", 200)
        assert slow.stream.events[1:] == quick.stream.events[1:]
        assert slow.subscription.lag == 0


async def test_a_stream_survives_that_the_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader keeps its place while the log is in trouble: re-reading, in a snapshot, and for a value."""
    monkeypatch.setattr("oscd.streams.subscription.TROUBLE_SECONDS", 0.005)
    monkeypatch.setattr("oscd.feed.tail.POLL_SECONDS", 0.005)
    async with opened_site(tmp_path, Options(window_events=2)) as site:
        start = await site.position()
        for number in range(10):
            await site.put(f"k{number}")
        clients = [
            site.client(resume=start),
            site.client(from_snapshot=True),
            site.client(cipher=OWN, resume=start),
        ]
        for client in clients:
            client.takes.clear()
            await client.has("connected")
        site.log.trouble = Unavailable("the disk reports errors")
        seen = site.log.reads
        for client in clients:
            client.takes.set()
        await eventually(lambda: site.log.reads >= seen + 9)
        assert not any(client.task.done() for client in clients)
        site.log.trouble = None
        await clients[0].has("created", 10)
        await clients[1].has("bookmark")
        assert len(clients[1].stream.of_kind("snapshot")) == 10
        values = [event.data["data"] for event in await clients[2].has("created", 10)]
        assert values == [{"value": "v"}] * 10


async def test_a_stream_lives_and_ends_while_the_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep-alives go on whatever a reader waits for, and a removed API key ends it all the same."""
    monkeypatch.setattr("oscd.streams.subscription.TROUBLE_SECONDS", 0.005)
    options = Options(window_events=2, keepalive_seconds=0.01)
    async with opened_site(tmp_path, options) as site:
        start = await site.position()
        for number in range(10):
            await site.put(f"k{number}")
        clients = [
            site.client(resume=start, credential=b"c"),
            site.client(from_snapshot=True, credential=b"c"),
            site.client(cipher=OWN, resume=start, credential=b"c"),
        ]
        for client in clients:
            client.takes.clear()
            await client.has("connected")
        site.log.trouble = Unavailable("the disk reports errors")
        for client in clients:
            client.takes.set()
        for client in clients:
            await eventually(lambda: len(client.stream.comments) >= 4)  # noqa: B023
        site.registry.revoke(())
        for client in clients:
            await client.task
            assert client.stream.events[-1].data == {"reason": "api_key_removed"}


async def test_a_damaged_value_is_told_as_null_and_does_not_end_the_stream(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its reader would come back to it again and again, and never get past it."""
    client = await site.connected(cipher=OWN)
    # Sealed for another entry: its key id says that this key opens it, and it does not.
    await site.write(replace(draft("damaged"), body=draft("another").body))
    await site.put("whole", b"1")
    values = [event.data["data"] for event in await client.has("created", 2)]
    assert values == [None, {"value": 1}]
    assert "told as null" in caplog.text


async def test_a_stream_is_refused_while_the_log_cannot_be_read(site: Site) -> None:
    """At its beginning a stream can still be answered 503, and nothing of it stays."""
    site.log.trouble = Unavailable("the disk reports errors")
    client = site.client()
    with pytest.raises(Unavailable):
        await client.task
    await eventually(lambda: site.registry.active == 0)
    assert site.counts.times("subscribed") == site.counts.times("unsubscribed") == 0


async def test_categories_are_followed_through_moves_and_deletes(site: Site) -> None:
    """A subscriber to a category hears of what enters it, leaves it and is deleted in it."""
    client = await site.connected(StreamFilter(category="x"))
    for one in (
        draft("k", category="y"),
        draft("k", type=UPDATED, category="x"),
        draft("k", type=UPDATED, category="x"),
        draft("k", type=UPDATED, category="y"),
        draft("k", type=UPDATED, category="y"),
        draft("l", category="x"),
        draft("l", type=DELETED, category="x"),
        draft("end", category="x"),
    ):
        await site.write(one)
    await client.has("created", 2)
    assert named(client.stream.events) == [
        *[("updated", "k")] * 3,
        ("created", "l"),
        ("deleted", "l"),
        ("created", "end"),
    ]


async def test_many_streams_are_told_the_same_while_all_write(site: Site) -> None:
    """Ordered, Unique, Reliable: all that open at any time have one log, in one order, without gap or repeat."""
    clients: list[Client] = []

    async def write_some(writer: int) -> None:
        for number in range(10):
            await site.write(*(draft(f"w{writer}-{number}-{n}") for n in range(1 + number % 3)))
            clients.append(site.client(EVERYTHING))

    await asyncio.gather(*(write_some(writer) for writer in range(5)))
    whole = await site.connected(resume=Position({}).encode())
    await whole.has("created", 95)
    for client in clients:
        await client.has("connected")
        rest = whole.stream.events[_covered(whole.stream.events, client.stream.events[0].at) :]
        await eventually(lambda c=client, r=rest: len(c.stream.events) > len(r))  # type: ignore[misc]
        assert client.stream.events[1:] == rest
