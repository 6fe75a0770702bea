"""Owns writes at a steady rate, and when each was asked, answered and seen on other nodes: a process of its own.

All times are of one clock, that of `time.perf_counter`, which all processes of a machine share. Must not know a node
but by its port.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from bench.fill import USER_KEY, VALUE
from bench.load import HOST

ENVIRONMENT = "steady"
PATIENCE_SECONDS = 60.0
# After the last write, for what is still on its way to other nodes.
_SETTLE_SECONDS = 1.0

_KEY = re.compile(rb'^data: .*"key": ?"([^"]+)"', re.MULTILINE)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Steady:
    """What to write, where, and who is watched.

    Attributes:
        prefix: Of the keys, which are all new.
        watched: Ports of nodes on whose streams the writes are looked for.
    """

    port: int
    per_second: float
    prefix: str
    api_key: str
    watched: Sequence[int] = ()
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One write, in seconds of the clock.

    Attributes:
        seen_at: On the last of the watched nodes; None where nobody was watched.
    """

    asked_at: float
    answered_at: float
    seen_at: float | None


class SteadyProcess:
    """Writes from when it is made until it is stopped."""

    def __init__(self, steady: Steady) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.steady"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Not on the command line, which everybody can read.
        self._process.stdin.write(json.dumps(dataclasses.asdict(steady)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "writing\n":
            raise RuntimeError("the steady writer did not begin")

    def stop(self) -> list[Sample]:
        """End it; gives every write.

        Raises:
            RuntimeError: A write was refused, or one was not seen where it should have been.
        """
        try:
            out, _ = self._process.communicate("stop\n", PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise RuntimeError("the steady writer failed")
        return [Sample(*sample) for sample in json.loads(out)]


@dataclass(slots=True)
class _Write:
    asked_at: float = 0.0
    answered_at: float = 0.0
    seen_at: list[float] = field(default_factory=list)


class _Writer:
    def __init__(self, steady: Steady) -> None:
        self._steady = steady
        self._writes: dict[str, _Write] = {}
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> list[asyncio.Task[None]]:
        for _ in range(self._steady.connections):
            self._idle.put_nowait(await asyncio.open_connection(HOST, self._steady.port))
        return [await self._watch(port) for port in self._steady.watched]

    async def write_until(self, stop: asyncio.Event) -> None:
        due, number = time.perf_counter(), 0
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._write(f"{self._steady.prefix}-{number}"))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            due, number = due + 1 / self._steady.per_second, number + 1
        await asyncio.gather(*self._tasks)
        await asyncio.sleep(_SETTLE_SECONDS if self._steady.watched else 0)

    def samples(self) -> list[tuple[float, float, float | None]]:
        wanted = len(self._steady.watched)
        unseen = [key for key, write in self._writes.items() if len(write.seen_at) < wanted]
        if unseen:
            raise RuntimeError(f"{len(unseen)} of {len(self._writes)} writes were not seen everywhere")
        return [
            (write.asked_at, write.answered_at, max(write.seen_at, default=None))
            for write in self._writes.values()
        ]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        task.result()

    async def _write(self, key: str) -> None:
        write = self._writes[key] = _Write()
        body = json.dumps({"key": key, "environment": ENVIRONMENT, "value": VALUE}).encode()
        head = f"POST /configs HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {self._steady.api_key}\r\n"
        head += (
            f"X-User-Key: {USER_KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = connection = await self._idle.get()
        write.asked_at = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        told = await reader.readexactly(int(length[1]) if length else 0)
        write.answered_at = time.perf_counter()
        self._idle.put_nowait(connection)
        if not answer.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"a write was refused: {told!r}")

    async def _watch(self, port: int) -> asyncio.Task[None]:
        reader, writer = await asyncio.open_connection(HOST, port)
        head = f"GET /sse/subscribe?environment={ENVIRONMENT} HTTP/1.1\r\nHost: {HOST}\r\n"
        writer.write(f"{head}X-API-Key: {self._steady.api_key}\r\n\r\n".encode())
        await reader.readuntil(b"event: connected")

        async def watch() -> None:
            while line := await reader.readline():
                at = time.perf_counter()
                if (found := _KEY.match(line)) and (write := self._writes.get(found[1].decode())):
                    write.seen_at.append(at)
            writer.close()

        return asyncio.create_task(watch())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    document = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    writer = _Writer(Steady(**document))
    watching = await writer.begin()
    print("writing", flush=True)
    stop = asyncio.Event()

    async def await_stop() -> None:
        await loop.run_in_executor(None, sys.stdin.readline)
        stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(await_stop())
        await group.create_task(writer.write_until(stop))
    for one in watching:
        one.cancel()
    json.dump(writer.samples(), sys.stdout)


def main() -> None:
    """Read what to write from standard input, begin, end at its next line, and tell every write."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
