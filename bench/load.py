"""Owns the load: a process of its own that keeps connections busy, one request after the other on each.

It is the same program for both sides of every ratio, and needs nothing but what oscd itself needs: uvloop,
prepared bytes, and just enough parsing to find the end of an answer by its Content-Length. It tells which
share of a core it took itself, so that it cannot be the bottleneck unnoticed. Must not know what it asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import cast

import uvloop

HOST = "127.0.0.1"
NUMBER = b"0000000000"
"""Stands in a request for a number that differs from request to request."""

TURN = 10_000_000
"""Numbers that are set aside for one round, where a request must never come twice."""

WARM_UP_SECONDS = 0.5
# How long the whole load may take beyond its time: a server that stopped answering must end the benchmark.
PATIENCE_SECONDS = 30.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, how often at once, how long.

    Attributes:
        request: The whole request in Latin-1, with `NUMBER` at most once.
        first: The first number; every request takes the next one …
        numbers: … and after so many of them the first again; None never does.
        sources: Source addresses the connections come from, 127.0.0.1 and those after it.
    """

    port: int
    request: str
    connections: int
    seconds: float
    first: int = 0
    numbers: int | None = None
    sources: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        per_second: Answers per second after the warm-up, whatever their status.
        generator_share: How much of one core the generator took; near 1 it measured itself.
        statuses: Answers by status, the warm-up included.
        refusal: Body of the last answer that was no success.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    generator_share: float
    statuses: dict[str, int]
    refusal: str


class LoadProcess:
    """A generator at work."""

    def __init__(self, load: Load) -> None:
        self._seconds = load.seconds
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        # Not on the command line, which everybody can read.
        self._process.stdin.write(json.dumps(dataclasses.asdict(load)).encode())
        self._process.stdin.close()
        self._process.stdin = None

    def outcome(self) -> Outcome:
        """Wait for its end.

        Raises:
            RuntimeError: A connection broke, or answers stopped coming.
        """
        try:
            out, _ = self._process.communicate(timeout=self._seconds + PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise RuntimeError("the load generator failed")
        return Outcome(**json.loads(out))


def run(load: Load, expected: int) -> Outcome:
    """Put a load on a server and require that every answer has the expected status.

    Raises:
        RuntimeError: One has another.
    """
    outcome = LoadProcess(load).outcome()
    if set(outcome.statuses) != {str(expected)}:
        raise RuntimeError(f"not all were {expected}: {outcome.statuses}, at last {outcome.refusal!r}")
    return outcome


class _Generator:
    """The requests of one run, and the times their answers took."""

    def __init__(self, load: Load) -> None:
        assert load.request.encode("latin-1").count(NUMBER) <= 1
        head, mark, tail = load.request.encode("latin-1").partition(NUMBER)
        self._head, self._mark, self._tail = head, mark, tail
        self._load = load
        self._asked = 0
        self._times = array("d")
        self._statuses: Counter[str] = Counter()
        self._recording = False
        self._refusal = b""
        self.failed = asyncio.get_running_loop().create_future()

    def request(self) -> bytes:
        number = self._load.first + self._asked % (self._load.numbers or sys.maxsize)
        self._asked += 1
        return self._head + b"%010d" % number + self._tail if self._mark else self._head

    def answered(self, status: str, seconds: float, body: bytes) -> None:
        self._statuses[status] += 1
        if not status.startswith("2"):
            self._refusal = body
        if self._recording:
            self._times.append(seconds)

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        clients = []
        for index in range(self._load.connections):
            source = (f"127.0.0.{1 + index % self._load.sources}", 0)
            _, client = await loop.create_connection(
                lambda: _Client(self), HOST, self._load.port, local_addr=source
            )
            clients.append(client)
        await asyncio.wait([self.failed], timeout=WARM_UP_SECONDS)
        self._recording = True
        cpu, begun = time.process_time(), time.perf_counter()
        await asyncio.wait([self.failed], timeout=self._load.seconds)
        cpu, took = time.process_time() - cpu, time.perf_counter() - begun
        if self.failed.done():
            raise RuntimeError(self.failed.result())
        for client in clients:
            client.close()
        return self._outcome(cpu, took)

    def _outcome(self, cpu: float, took: float) -> Outcome:
        times = sorted(self._times)
        if not times:
            raise RuntimeError("not one answer came in time")
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        refusal = self._refusal.decode(errors="replace")
        return Outcome(len(times) / took, p50 * 1000, p99 * 1000, cpu / took, dict(self._statuses), refusal)


class _Client(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._transport: asyncio.Transport
        self._received = b""
        self._body = self._whole = 0
        self._asked_at = 0.0
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._whole:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._received, 0, end + 2)
            self._body = end + 4
            self._whole = self._body + (int(length[1]) if length else 0)
        if len(self._received) >= self._whole:
            took = time.perf_counter() - self._asked_at
            self._generator.answered(self._received[9:12].decode(), took, self._received[self._body :])
            if not self._closing:
                self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing and not self._generator.failed.done():
            self._generator.failed.set_result("a server closed a connection in use")

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def _ask(self) -> None:
        self._received, self._whole = b"", 0
        self._asked_at = time.perf_counter()
        self._transport.write(self._generator.request())


async def _generate(load: Load) -> Outcome:
    return await _Generator(load).run()


def main() -> None:
    """Read a load from standard input, write its outcome to standard output."""
    load = Load(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(_generate(load))
    json.dump(dataclasses.asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
