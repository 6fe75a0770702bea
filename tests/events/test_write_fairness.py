"""Four processes that write back to back: none of them starves."""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from oscd.events.event import Body, Draft, EventType
from oscd.events.log import Writing
from oscd.events.sqlite.file import LogFile
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.projections.sqlite import SqliteProjections
from tests.support.waiting import PATIENCE

PROCESSES = 4
COMMITS = 2000
LEAST_SHARE = 0.15

_SPAWN = multiprocessing.get_context("spawn")


def test_every_process_gets_its_share_of_the_commits(tmp_path: Path) -> None:
    """Of the commits of four processes, each waiting for its own before it writes again, each has at least 15 %."""
    prepared = prepare(tmp_path / "log.db", node_id="tested", projections=SqliteProjections())
    begin, stop = _SPAWN.Event(), _SPAWN.Event()
    pipes = [_SPAWN.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [
        _SPAWN.Process(target=_write_on, args=(prepared.file, name, begin, stop, sender))
        for name, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        received(receiver for receiver, _ in pipes)
        begin.set()
        reading = SqliteLog(prepared.file, projections=SqliteProjections(), clock=time.time_ns)
        asyncio.run(_until(reading, COMMITS))
        stop.set()
        commits = received(receiver for receiver, _ in pipes)
    finally:
        stop.set()
        begin.set()
        for process in processes:
            process.join(PATIENCE)
            process.kill()
    print(f"commits of each: {commits}")
    assert sum(commits) >= COMMITS
    assert min(commits) >= LEAST_SHARE * sum(commits)


def received(receivers: Iterable[Connection]) -> list[int]:
    """One number from each process."""
    numbers = []
    for receiver in receivers:
        assert receiver.poll(PATIENCE), "a process has not come so far"
        numbers.append(receiver.recv())
    return numbers


async def _until(log: SqliteLog, offset: int) -> None:
    log.start()
    try:
        async with asyncio.timeout(PATIENCE):
            # Other processes commit: there is no event to await.
            while await log.read(lambda reading: reading.head()) < offset:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await log.close()


def _write_on(file: LogFile, name: int, begin: Event, stop: Event, sender: Connection) -> None:
    asyncio.run(_write(file, name, begin, stop, sender))


async def _write(file: LogFile, name: int, begin: Event, stop: Event, sender: Connection) -> None:
    log = SqliteLog(file, projections=SqliteProjections(), clock=lambda: time.time_ns() // 1000)
    log.start()
    commits = 0

    def append(writing: Writing[object]) -> None:
        writing.append([_draft(f"{name}-{commits}")])

    await log.read(lambda reading: reading.head())
    sender.send(0)
    await asyncio.to_thread(begin.wait, PATIENCE)
    while not stop.is_set():
        await log.write(append, size=1)
        commits += 1
    await log.close()
    sender.send(commits)


def _draft(key: str) -> Draft:
    return Draft(
        type=EventType.CREATED,
        environment="e",
        key=key,
        category=None,
        version=1,
        created_at=None,
        event_id=secrets.token_bytes(16),
        key_id=b"owner",
        replaces=None,
        body=Body(b"sealed"),
    )
