"""The served half of a link: what a puller is sent and when, whom it refuses, how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from oscd.errors import Conflict, LogCorrupt, Unavailable
from oscd.events.log import Reading
from oscd.events.position import Position
from oscd.events.salt import salt_digest
from oscd.feed.board import Board
from oscd.replication import peer_stream
from oscd.replication.peer_stream import PeerStream, Tuning
from oscd.replication.reception import Recent, Reception
from oscd.replication.ship import PAGE_EVENTS, Pull, page
from oscd.replication.source import ITSELF, KEY_REPLACED, MOST_STREAMS, SHUTDOWN, Source
from oscd.replication.wire import EventFrame, Frame, Frames, Goodbye, PeerStatus
from oscd.replication.writes import Bounds, Writes
from tests.api.asgi import PATIENCE, SALT, Site, opened_site
from tests.replication.peer_log import write
from tests.support.waiting import eventually

HOUR = 3600.0
PULL = Pull(Position({}), "b", "run-of-b", "")
CREDENTIAL = b"of the cluster key"


@dataclass
class Served:
    """A source over the log of a site, and the frames of the streams that were opened of it."""

    site: Site
    source: Source
    ears: Board
    pulls: list[Pulled] = field(default_factory=list)

    def pull(self, pull: Pull = PULL, credential: bytes = CREDENTIAL) -> Pulled:
        """Open a stream in a task of its own, as a server does, and take all that comes."""
        pulled = Pulled()
        pulled.task = asyncio.create_task(pulled.run(self.source, pull, credential))
        self.pulls.append(pulled)
        return pulled


class Pulled:
    """What one puller got."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.frames: list[Frame] = []
        self.stream: PeerStream | None = None
        self.task: asyncio.Task[None]
        self.takes = asyncio.Event()
        self.takes.set()

    async def run(self, source: Source, pull: Pull, credential: bytes) -> None:
        frames = Frames(1024 * 1024)
        self.stream = await source.open(pull, credential)
        async for part in self.stream.parts():
            await self.takes.wait()
            self.parts.append(part)
            self.frames += frames.feed(part)

    @property
    def events(self) -> list[EventFrame]:
        return [frame for frame in self.frames if isinstance(frame, EventFrame)]

    @property
    def statuses(self) -> list[PeerStatus]:
        return [frame for frame in self.frames if isinstance(frame, PeerStatus)]

    @property
    def goodbye(self) -> str | None:
        """Why it has ended, which nothing may follow."""
        assert not any(isinstance(frame, Goodbye) for frame in self.frames[:-1])
        last = self.frames[-1] if self.frames else None
        return last.reason if isinstance(last, Goodbye) else None

    async def until(self, condition: Callable[[], Any]) -> None:
        await eventually(lambda: condition() or self.task.done(), PATIENCE, what="what was to be sent")
        assert condition(), (self.frames, self.task)

    async def until_at_head(self, events: int = 0) -> None:
        await self.until(
            lambda: (
                len(self.events) >= events
                and isinstance(last := next(reversed(self.frames), None), PeerStatus)
                and last.is_at_head
            )
        )

    async def ended(self) -> str:
        async with asyncio.timeout(PATIENCE):
            await self.task
        assert self.goodbye is not None
        return self.goodbye


@asynccontextmanager
async def serving(
    directory: Path, tuning: Tuning | None = None, *, most_streams: int = MOST_STREAMS
) -> AsyncIterator[Served]:
    """A source that says by itself how it stands only once an hour, so that whatever comes was called for."""
    async with opened_site(directory) as site:
        ears = Board(directory / "ears", 1, 0)
        bell = site.node._bell
        bell._ears = ears
        source = Source(
            site.log,
            bell,
            node_id="a",
            run="run-of-a",
            salt=lambda: SALT,
            tuning=tuning or Tuning(HOUR, 0, 0, status_seconds=0),
            most_streams=most_streams,
        )
        served = Served(site, source, ears)
        try:
            yield served
        finally:
            source.end_all()
            for pulled in served.pulls:
                pulled.task.cancel()
            await asyncio.gather(*(pulled.task for pulled in served.pulls), return_exceptions=True)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def position_of(served: Served) -> Position:
    return await served.site.log.read(lambda reading: reading.position())


async def test_first_comes_who_it_is_then_what_is_missing_then_how_it_stands(served: Served) -> None:
    """Events in the order of the log, as they are stored, and a status that covers them once all is sent."""
    for number in range(5):
        await served.site.create(f"k{number}")
    raws = await served.site.log.read(lambda reading: reading.raw(0, 100))
    pulled = served.pull()
    await pulled.until_at_head(5)
    assert [type(frame) for frame in pulled.frames] == [PeerStatus, *[EventFrame] * 5, PeerStatus]
    assert [(e.incarnation, e.seq, e.digest, e.header, e.body) for e in pulled.events] == [
        (raw.incarnation, raw.seq, raw.digest, raw.header, raw.body) for raw in raws
    ]
    first, last = pulled.statuses
    assert (first.node_id, first.run, first.salt) == ("a", "run-of-a", salt_digest(SALT).hex())
    assert (first.is_at_head, last.is_at_head) == (False, True)
    assert (last.position, last.entries, last.head) == (await position_of(served), 5, raws[-1].offset)


async def test_only_what_the_puller_lacks_is_sent(served: Served) -> None:
    """What its position covers is passed over, and so are the events of the origin it writes itself."""
    for number in range(3):
        await served.site.create(f"k{number}")
    after = await position_of(served)
    await served.site.create("k3")
    pulled = served.pull(replace(PULL, after=after))
    await pulled.until_at_head(1)
    assert len(pulled.events) == 1
    skipping = served.pull(replace(PULL, skip=next(iter(after.marks))))
    await skipping.until_at_head()
    assert skipping.events == []


async def test_a_commit_is_shipped_at_once(served: Served) -> None:
    """Whoever waits is woken by the bell; nothing but a commit makes it send."""
    pulled = served.pull()
    await pulled.until_at_head()
    for number in range(5):
        await served.site.create(f"k{number}")
        await pulled.until_at_head(number + 1)
    assert [status.entries for status in pulled.statuses if status.is_at_head][-1] == 5


class LateLog:
    """A log where something is committed after each of the first views, before whoever asked for it has it."""

    def __init__(self, site: Site, commits: int) -> None:
        self._site = site
        self._commits = iter(range(commits))

    async def read(self, function: Callable[[Reading[Any]], Any], *, size: int = 0) -> Any:  # noqa: ANN401 - as a log
        found = await self._site.log.read(function, size=size)
        if (number := next(self._commits, None)) is not None:
            await self._site.create(f"late-{number}")
        return found


async def test_what_was_committed_as_it_began_to_listen_is_not_missed(served: Served) -> None:
    """invariant 4: a commit after the last look and before the bell is heard rings for nobody, and is found."""
    late: Any = LateLog(served.site, 6)
    bell = served.site.node._bell
    source = Source(late, bell, node_id="a", run="run-of-a", salt=lambda: SALT, tuning=Tuning(HOUR, 0, 0))
    pulled = Pulled()
    pulled.task = asyncio.create_task(pulled.run(source, PULL, CREDENTIAL))
    served.pulls.append(pulled)
    await pulled.until_at_head(6)
    source.end_all()
    assert await pulled.ended() == SHUTDOWN


async def test_nobody_is_woken_for_a_stream_that_is_behind_or_waits_for_company(tmp_path: Path) -> None:
    """A commit pays for each listener, so a stream is one only while it has sent all there is."""
    async with serving(tmp_path, Tuning(HOUR, HOUR, HOUR)) as served:
        await served.site.create("k")
        pulled = served.pull()
        pulled.takes.clear()
        await eventually(lambda: pulled.stream is not None, PATIENCE)
        await served.site.create("while it is behind")
        assert served.ears.own == 0
        pulled.takes.set()
        await pulled.until_at_head(2)
        await eventually(lambda: served.ears.own == 1, PATIENCE)
        await served.site.create("wakes it")
        await eventually(lambda: served.ears.own == 0, PATIENCE)
        await served.site.create("more")
        assert served.ears.own == 0
        assert len(pulled.events) == 2


async def test_nobody_is_woken_for_a_stream_that_has_fallen_behind(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was at the head, and has more before it now than one page, stops to listen."""
    monkeypatch.setattr("oscd.replication.ship.PAGE_EVENTS", 2)
    parts = (await served.source.open(PULL, CREDENTIAL)).parts()
    await anext(parts)
    await anext(parts)
    following = asyncio.ensure_future(anext(parts))
    await eventually(lambda: served.ears.own == 1, PATIENCE)
    await served.site.create("k")
    await following
    assert served.ears.own == 1
    for number in range(4):
        await served.site.create(f"k{number}")
    await anext(parts)
    assert served.ears.own == 0


async def test_commits_in_a_row_share_a_frame_and_a_status(tmp_path: Path) -> None:
    """What comes within some milliseconds goes out together."""
    async with serving(tmp_path, Tuning(HOUR, 1.0, 1.0)) as served:
        pulled = served.pull()
        await pulled.until_at_head()
        await eventually(lambda: served.ears.own == 1, PATIENCE)
        before = len(pulled.statuses)
        for number in range(5):
            await served.site.create(f"k{number}")
        await pulled.until_at_head(5)
        assert len(pulled.statuses) == before + 1


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_commit_that_is_not_alone_waits_longer(tmp_path: Path, is_quiet: bool) -> None:
    """After a quiet while it goes out soon; where others came just before, more may be coming."""
    tuning = Tuning(HOUR, 0, HOUR, quiet_seconds=0 if is_quiet else math.inf)
    async with serving(tmp_path, tuning) as served:
        pulled = served.pull()
        await pulled.until_at_head()
        await eventually(lambda: served.ears.own == 1, PATIENCE)
        await served.site.create("k")
        await eventually(lambda: len(pulled.events) == 1 if is_quiet else served.ears.own == 0, PATIENCE)
        assert len(pulled.events) == (1 if is_quiet else 0)


@pytest.mark.parametrize("status_seconds", [0.2, HOUR], ids=["soon", "not yet"])
async def test_while_events_flow_it_says_seldom_how_it_stands(tmp_path: Path, status_seconds: float) -> None:
    """To say it costs the node that writes, so events go out alone; what is owed comes by itself."""
    async with serving(tmp_path, Tuning(HOUR, 0, 0, status_seconds=status_seconds)) as served:
        pulled = served.pull()
        await pulled.until_at_head()
        await served.site.create("k0")
        await pulled.until(lambda: len(pulled.events) == 1)
        await served.site.create("k1")
        await pulled.until(lambda: len(pulled.events) == 2)
        if status_seconds == HOUR:
            assert [status.is_at_head for status in pulled.statuses] == [False, True]
        else:
            await pulled.until_at_head(2)
            assert pulled.statuses[-1].entries == 2


async def test_it_says_how_it_stands_when_nothing_happens(tmp_path: Path) -> None:
    """A peer that hears nothing gives the link up, so it hears something."""
    async with serving(tmp_path, Tuning(0.01, 0, 0)) as served:
        pulled = served.pull()
        await pulled.until(lambda: len(pulled.statuses) >= 5)
        assert pulled.events == []


async def test_within_a_write_nothing_is_said(tmp_path: Path) -> None:
    """Invariant 2: who is told how this node stands has whole writes; one that takes many pages goes out in one."""
    count = 2 * PAGE_EVENTS + 200
    async with serving(tmp_path, Tuning(0, 0, 0)) as served:
        await write(served.site.log, "before")
        await write(served.site.log, *(f"k{number}" for number in range(count)))
        await write(served.site.log, "after")
        pulled = served.pull()
        await pulled.until_at_head(count + 2)
    reception = Reception(Bounds(2**20, 2**23), tmp_path, Recent())
    received = [*reception.feed(b"".join(pulled.parts))]
    assert [len(one.events) for one in received if isinstance(one, Writes)] == [count + 1, 1]
    assert len(pulled.statuses) >= 2


async def test_one_page_is_held_for_a_peer_that_takes_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """invariant 10: the log is read on when the page before was taken, and not before."""
    monkeypatch.setattr("oscd.replication.ship.PAGE_EVENTS", 2)
    for number in range(10):
        await served.site.create(f"k{number}")
    pages: list[int] = []

    def noted(reading: Reading[Any], *rest: Any) -> Any:  # noqa: ANN401 - as `page`
        pages.append(len(pages))
        return page(reading, *rest)

    monkeypatch.setattr(peer_stream, "page", noted)
    stream = await served.source.open(PULL, CREDENTIAL)
    parts = stream.parts()
    await anext(parts)
    assert pages == []
    for expected in range(1, 4):
        await anext(parts)
        assert len(pages) == expected


async def test_who_asks_where_its_log_ended_is_noted_first(served: Served) -> None:
    """Its run is in the log before it is told what this node holds; the others' runs are left alone."""
    await served.site.create("k")
    await served.pull().until_at_head(1)
    assert await served.site.log.read(lambda reading: dict(reading.runs())) == {}
    await served.pull(replace(PULL, asks=True)).until_at_head(1)
    assert await served.site.log.read(lambda reading: dict(reading.runs())) == {"b": "run-of-b"}


OTHER_SALT = hashlib.sha256(b"another").hexdigest()


async def test_a_peer_with_this_nodes_name_is_refused(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told what to do, and so is the operator here, once in a while; nothing is noted of it."""
    for _ in range(3):
        with pytest.raises(Conflict, match="OSC_CLUSTER_NODE_ID"):
            await served.source.open(replace(PULL, node_id="a", asks=True), CREDENTIAL)
    assert len(caplog.records) == 1
    assert "OSC_CLUSTER_NODE_ID" in caplog.text
    assert await served.site.log.read(lambda reading: dict(reading.runs())) == {}


async def test_a_peer_with_another_salt_is_refused_what_it_could_not_open(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """As soon as there is something sealed under this one; before that, and where it has none, it is served."""
    other = replace(PULL, salt=OTHER_SALT)
    await served.pull(other).until_at_head()
    await served.site.create("k")
    with pytest.raises(Conflict, match="OSC_SALT_FILE_PATH"):
        await served.source.open(other, CREDENTIAL)
    assert len(caplog.records) == 1
    for salt in ("", salt_digest(SALT).hex()):
        await served.pull(replace(PULL, salt=salt)).until_at_head(1)


async def test_it_recognises_itself(served: Served) -> None:
    """A node that has itself among its peers is told who it has met, and nothing else."""
    await served.site.create("k")
    pulled = served.pull(replace(PULL, node_id="a", run="run-of-a", asks=True))
    assert await pulled.ended() == ITSELF
    assert [status.run for status in pulled.statuses] == ["run-of-a"]
    assert pulled.events == []


async def test_a_shutdown_ends_every_stream(served: Served) -> None:
    """Those that wait and one that is behind say goodbye; the next one is told to come back later."""
    await served.site.create("k")
    waiting = [served.pull() for _ in range(3)]
    for pulled in waiting:
        await pulled.until_at_head(1)
    behind = served.pull()
    behind.takes.clear()
    await eventually(lambda: behind.stream is not None, PATIENCE)
    served.source.end_all()
    behind.takes.set()
    for pulled in (*waiting, behind):
        assert await pulled.ended() == SHUTDOWN
    await eventually(lambda: served.ears.own == 0, PATIENCE)
    with pytest.raises(Unavailable, match="shutting down"):
        await served.source.open(PULL, CREDENTIAL)


async def test_another_cluster_key_ends_what_the_one_before_had_opened(served: Served) -> None:
    """What an accepted key has opened goes on, while there are two as when there is one."""
    old, new = served.pull(), served.pull(credential=b"of the next one")
    served.source.revoke({CREDENTIAL, b"of the next one"})
    for pulled in (old, new):
        await pulled.until_at_head()
    served.source.revoke({b"of the next one"})
    assert await old.ended() == KEY_REPLACED
    await served.site.create("k")
    await new.until_at_head(1)


async def test_there_are_so_many_streams_and_no_more(tmp_path: Path) -> None:
    """Over it 503; one that ends gives its place back."""
    async with serving(tmp_path, most_streams=2) as served:
        first, second = served.pull(), served.pull()
        for pulled in (first, second):
            await pulled.until_at_head()
        with pytest.raises(Unavailable):
            await served.source.open(PULL, CREDENTIAL)
        first.task.cancel()
        await eventually(first.task.done, PATIENCE)
        await served.pull().until_at_head()


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(Unavailable("The disk is gone."), "The disk is gone."), (LogCorrupt("x"), "verify")],
)
async def test_a_log_that_cannot_be_read_ends_the_stream_with_the_reason(
    served: Served, monkeypatch: pytest.MonkeyPatch, trouble: Exception, told: str
) -> None:
    """The peer backs off and asks anew; it is told why."""
    pulled = served.pull()
    await pulled.until_at_head()

    def failing(*_: object) -> Any:  # noqa: ANN401 - as `page`
        raise trouble

    monkeypatch.setattr(peer_stream, "page", failing)
    await served.site.create("k")
    assert told in await pulled.ended()
