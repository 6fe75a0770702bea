"""Owns the other end of many streams: a process of its own that holds them open and notes when events arrive.

An event tells when it was stamped, which is before its commit, on the same clock; so the delays it finds are those
from commit to socket and a little more. Must not ask for anything but the one stream, as often as it is told.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import uvloop

from bench.load import HOST

_STAMP = b'"timestamp":"'
_STAMP_LENGTH = len("2026-01-01T00:00:00.000000Z")
PATIENCE_SECONDS = 60.0
# Connections that are opened at one time; the kernel's queue of a listening socket is not what is measured.
OPEN_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Streams:
    """What to hold open.

    Attributes:
        request: The whole request.
        first: What an answer holds once the stream is open.
    """

    port: int
    request: str
    count: int
    first: str = "event: connected"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived between `begin` and `end`.

    Attributes:
        delays_ms: Sorted.
        early_p50_ms, late_p50_ms: Of the first and the last fifth of what arrived.
        share: How much of one core this process took.
    """

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    early_p50_ms: float
    late_p50_ms: float
    share: float


class SubscriberProcess:
    """Streams that are open. Told by lines on its standard input; answers with lines."""

    def __init__(self, streams: Streams) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.subscribers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps(dataclasses.asdict(streams)))
        assert self._hear() == "open"

    def begin(self) -> None:
        """Forget what arrived so far."""
        self._say("begin")
        assert self._hear() == "begun"

    def end(self) -> Arrivals:
        """What has arrived since."""
        self._say("end")
        return Arrivals(**json.loads(self._hear()))

    def close(self) -> None:
        """End it, and with it its connections, without a word to the server."""
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the subscribers failed")
        return line.rstrip("\n")


class _Subscriber(asyncio.Protocol):
    def __init__(self, streams: Streams, delays: array[float]) -> None:
        self._request = streams.request.encode()
        self._first = streams.first.encode()
        self._delays = delays
        self._rest = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if self._first in data:
                self.opened.set_result(None)
            return
        now = time.time()
        data = self._rest + data
        at = data.find(_STAMP)
        while at >= 0 and len(data) >= at + len(_STAMP) + _STAMP_LENGTH:
            begin = at + len(_STAMP)
            stamped = datetime.fromisoformat(data[begin : begin + _STAMP_LENGTH].decode())
            self._delays.append(now - stamped.timestamp())
            at = data.find(_STAMP, begin)
        self._rest = data[at:] if at >= 0 else data[1 - len(_STAMP) :]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(RuntimeError("a stream was not opened"))


async def _hold(streams: Streams, lines: asyncio.StreamReader) -> None:
    delays: array[float] = array("d")
    loop = asyncio.get_running_loop()
    for begin in range(0, streams.count, OPEN_AT_ONCE):
        some = [
            await loop.create_connection(lambda: _Subscriber(streams, delays), HOST, streams.port)
            for _ in range(min(OPEN_AT_ONCE, streams.count - begin))
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(subscriber.opened for _, subscriber in some))
    print("open", flush=True)
    begun, cpu = time.perf_counter(), time.process_time()
    while line := (await lines.readline()).decode().strip():
        if line == "begin":
            del delays[:]
            begun, cpu = time.perf_counter(), time.process_time()
            print("begun", flush=True)
        else:
            took = time.perf_counter() - begun
            share = (time.process_time() - cpu) / took
            print(json.dumps(dataclasses.asdict(_arrivals(delays, took, share))), flush=True)


def _arrivals(delays: array[float], seconds: float, share: float) -> Arrivals:
    fifth = max(1, len(delays) // 5)
    return Arrivals(
        events=len(delays),
        seconds=seconds,
        p50_ms=_percentile(delays, 50),
        p99_ms=_percentile(delays, 99),
        early_p50_ms=_percentile(delays[:fifth], 50),
        late_p50_ms=_percentile(delays[-fifth:], 50),
        share=share,
    )


def _percentile(delays: array[float], percent: int) -> float:
    return sorted(delays)[len(delays) * percent // 100] * 1000 if delays else 0.0


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await _hold(Streams(**json.loads(await lines.readline())), lines)


def main() -> None:
    """Hold streams open for as long as standard input is."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())


if __name__ == "__main__":
    main()
