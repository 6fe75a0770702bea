"""How a worker learns how its node is, whatever the log and the other workers are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from oscd.api.service import Readiness
from oscd.events.sqlite.file import LogFile, Room, inode_of
from oscd.feed.board import Board
from oscd.server import health as health_module
from oscd.server.health import NodeHealth
from tests.support.waiting import eventually

LOG_BYTES = 1000


async def well() -> None:
    """A log that takes writes."""


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    """A log of `LOG_BYTES`, part of which stands in the write-ahead log."""
    path = tmp_path / "log.db"
    path.write_bytes(bytes(LOG_BYTES - 100))
    Path(f"{path}-wal").write_bytes(bytes(100))
    inode = inode_of(path)
    assert inode is not None
    return LogFile(path, inode)


def of(
    file: LogFile,
    *,
    room: Room | None = None,
    probe: Callable[[], Awaitable[str | None]] = well,
    index: int = 0,
) -> NodeHealth:
    """As one of three workers sees it."""
    beats = Board(file.path.with_name("beats"), 3, index, goes_on=True)
    return NodeHealth(Readiness(probe), file, room or Room(), beats, 3, lambda: {"serving": 7.0})


async def test_a_log_that_says_nothing_takes_no_writes(
    file: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for no longer than a scrape can; one that says why it takes none says the same."""
    monkeypatch.setattr(health_module, "PROBE_SECONDS", 0.01)

    async def hangs() -> str | None:
        await asyncio.Event().wait()
        return None

    async def refuses() -> str | None:
        return "The disk is full."

    written = [(await of(file, probe=probe).look()).is_log_writable for probe in (well, refuses, hangs)]
    assert written == [True, False, False]


async def test_the_room_is_what_the_settings_leave(file: LogFile) -> None:
    """The tighter of the two limits counts; past either there is none; without any it is the disk's."""
    free = await of(file).look()
    assert free.space is not None
    assert free.space.log == LOG_BYTES
    assert free.space.room == free.space.free > 0
    assert free.certificates == {"serving": 7.0}

    async def room(room: Room) -> int:
        space = (await of(file, room=room).look()).space
        assert space is not None
        return space.room

    assert await room(Room(max_log_bytes=LOG_BYTES + 50)) == 50
    assert await room(Room(max_log_bytes=LOG_BYTES - 50)) == 0
    assert await room(Room(min_free_bytes=2**62)) == 0
    assert 0 < await room(Room(min_free_bytes=1)) < 2**62


async def test_a_file_that_is_gone_leaves_the_rest_known(file: LogFile) -> None:
    """Where the file system does not say, there is no space to show; all else is there."""
    health = of(file)
    file.path.unlink()
    found = await health.look()
    assert found.space is None
    assert found.is_log_writable is True


async def test_a_worker_that_beats_no_more_grows_old(file: LogFile) -> None:
    """Every worker sees the beats of all; a successor's beat makes it young again."""
    first, second = of(file, index=0), of(file, index=1)
    assert (await first.look()).beat_ages == {}
    first.beat()
    second.beat()

    async def ages() -> dict[int, float]:
        first.beat()
        return dict((await first.look()).beat_ages)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await eventually(lambda: loop.time() - began >= 0.1)
    late, lived = (await ages())[1], loop.time() - began
    assert 0.09 <= late <= lived + 0.01, "an age is in seconds"
    assert (await ages()).keys() == {0, 1}
    of(file, index=1).beat()
    assert (await ages())[1] < late
