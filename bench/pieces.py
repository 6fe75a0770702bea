"""What the parts of a request cost on their own: cipher, append by batch size, point read."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import uvloop

from bench import fill
from bench.figures import Figure
from bench.flat import microseconds
from bench.scale import Scale
from oscd.commands import Create, decide
from oscd.events.cipher import Cipher
from oscd.events.event import EVENT_ID_BYTES
from oscd.events.log import Writing
from oscd.events.sqlite.log import SqliteLog
from oscd.projections import sqlite as projections
from oscd.projections.sqlite import SqliteProjections
from oscd.times import microseconds_now

GROUP = "pieces"
BATCHES = (1, 16, 64, 256)
CALLERS = (1, 16)


def measure(filled: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Microseconds of each, in this process, without HTTP."""
    directory = fill.copy(filled, scratch / "pieces")
    prepared, cipher = fill.opened(directory)
    yield from _cipher(cipher, scale)
    log = SqliteLog(
        prepared.file,
        projections=SqliteProjections(),
        clock=microseconds_now,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_log(log, cipher, scale))


def _cipher(cipher: Cipher, scale: Scale) -> Iterator[Figure]:
    event_id, value = bytes(EVENT_ID_BYTES), orjson.dumps(fill.VALUE)
    token = cipher.seal("e", "k", event_id, value)
    seal = _timed(lambda: cipher.seal("e", "k", event_id, value), scale)
    yield Figure(GROUP, f"seal {len(value)} bytes", "µs", seal)
    open_ = _timed(lambda: cipher.open("e", "k", event_id, token), scale)
    yield Figure(GROUP, f"open {len(value)} bytes", "µs", open_)


def _timed(work: Callable[[], object], scale: Scale) -> tuple[float, ...]:
    samples = []
    for _ in range(scale.rounds):
        begun = time.perf_counter()
        for _ in range(scale.calls):
            work()
        samples.append((time.perf_counter() - begun) * 1e6 / scale.calls)
    return tuple(samples)


async def _log(log: SqliteLog, cipher: Cipher, scale: Scale) -> list[Figure]:
    figures = []
    log.start()
    try:
        for callers in CALLERS:
            label = f"point read, {callers} caller{'s' * (callers > 1)}"
            figures.append(Figure(GROUP, label, "µs each", await _reads(log, callers, scale)))
        for batch in BATCHES:
            samples = await _appends(log, cipher, batch, scale)
            figures.append(Figure(GROUP, f"durable append, {batch} in a batch", "µs each", samples))
            await log.checkpoint()
    finally:
        await log.close()
    return figures


async def _reads(log: SqliteLog, callers: int, scale: Scale) -> tuple[float, ...]:
    async def read(number: int) -> object:
        key = fill.key(number % scale.few)
        return await log.read(lambda reading: projections.entry(reading.store, fill.ENVIRONMENT, key))

    return tuple([await microseconds(read, 0, scale.calls, callers) for _ in range(scale.rounds)])


async def _appends(log: SqliteLog, cipher: Cipher, batch: int, scale: Scale) -> tuple[float, ...]:
    samples = []
    for turn in range(scale.rounds):
        commands = [fill.command(cipher, f"{batch}-{turn}-{number}") for number in range(scale.calls)]
        begun = time.perf_counter()
        for first in range(0, scale.calls, batch):
            # What is submitted at once goes into one transaction.
            await asyncio.gather(
                *(log.write(partial(_create, one), size=1024) for one in commands[first : first + batch])
            )
        samples.append((time.perf_counter() - begun) * 1e6 / scale.calls)
    return tuple(samples)


def _create(command: Create, writing: Writing[sqlite3.Connection]) -> None:
    writing.append([decide(command, None)])
