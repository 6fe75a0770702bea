"""Streams: how soon, how many, how cheap, beside the simplest fan-out that Quart and Hypercorn can do."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import fill, servers
from bench.figures import Figure, ratios
from bench.scale import Scale
from bench.servers import Server
from bench.subscribers import Arrivals, Streams, SubscriberProcess

GROUP = "streams"
PER_SECOND = 20
FEW, MANY = 100, 1000
P99_AIM_MS = 10.0
STREAM_AIM_KB = 60.0
IDLE_AIM_PERCENT = 1.0
IDLE_SECONDS = 10.0
# The delay late in a run over that early in it: far from 1 is a queue that grows.
GROWTH_AIM = 2.0
# After the last write, for what is still under way.
_SETTLE_SECONDS = 0.3

_STREAM = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def measure(few: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Delay, sustained rate, ceiling, memory, processor time."""
    directory = fill.copy(few, scratch / "streams")
    with servers.oscd(directory, workers=2) as node:
        yield from _delays(node, scale)
        yield from _sustained(node, scale)
    yield from _ceiling(directory, scale)
    with servers.oscd(directory, workers=4) as node:
        yield from _idle(node)


def _delays(node: Server, scale: Scale) -> Iterator[Figure]:
    """From the stamp, which is before the commit, to the sockets of a hundred subscribers on both workers."""
    with _subscribed(node, FEW) as subscribers:
        _write(node, PER_SECOND, 1.0)
        runs = [_arrivals(subscribers, node, PER_SECOND, 2 * scale.seconds) for _ in range(scale.rounds)]
    label = f"{FEW} streams, 2 workers, {PER_SECOND} writes/s: from before the commit to the socket"
    yield Figure(GROUP, f"{label}, p50", "ms", tuple(run.p50_ms for run in runs))
    yield Figure(GROUP, f"{label}, p99", "ms", tuple(run.p99_ms for run in runs), at_most=P99_AIM_MS)


def _sustained(node: Server, scale: Scale) -> Iterator[Figure]:
    before = _memory_kb(node)
    with _subscribed(node, MANY) as subscribers:
        each = (_memory_kb(node) - before) / MANY
        cpu: list[float] = []
        runs: list[Arrivals] = []
        for _ in range(scale.rounds):
            begun = node.cpu_seconds()
            runs.append(_arrivals(subscribers, node, PER_SECOND, 2 * scale.seconds))
            cpu.append((node.cpu_seconds() - begun) / runs[-1].seconds)
    label = f"{MANY} streams, 2 workers, {PER_SECOND} writes/s"
    wanted = MANY * PER_SECOND
    yield Figure("streams", "memory of an idle stream", "KB", (each,), at_most=STREAM_AIM_KB)
    yield Figure(
        GROUP,
        f"{label}: delivered",
        "events/s",
        tuple(run.events / (2 * scale.seconds) for run in runs),
        at_least=0.99 * wanted,
    )
    yield Figure(GROUP, f"{label}: p50", "ms", tuple(run.p50_ms for run in runs))
    yield Figure(GROUP, f"{label}: p99", "ms", tuple(run.p99_ms for run in runs))
    late = [run.late_p50_ms for run in runs], [run.early_p50_ms for run in runs]
    yield ratios(GROUP, f"{label}: p50 late / early", *late, at_most=GROWTH_AIM)
    yield Figure(GROUP, f"{label}: processor time of the workers", "cores", tuple(cpu))
    yield Figure(GROUP, f"{label}: the subscribers' own", "cores", tuple(run.share for run in runs))


def _ceiling(directory: Path, scale: Scale) -> Iterator[Figure]:
    """One worker, a thousand streams, and events as fast as one writer gets its answers."""
    rates: dict[str, list[float]] = {"oscd": [], "bare Quart": []}
    with (
        servers.oscd(directory, workers=1) as node,
        servers.bare(1) as bare,
        _subscribed(node, MANY) as ours,
        _subscribed(bare, MANY, "/stream") as theirs,
    ):
        for _ in range(scale.rounds):
            for name, subscribers, server in (("oscd", ours, node), ("bare Quart", theirs, bare)):
                run = _arrivals(subscribers, server, None, scale.seconds, is_bare=server is bare)
                rates[name].append(run.events / run.seconds)
    label = f"{MANY} streams, 1 worker, one writer at full speed"
    for name, found in rates.items():
        yield Figure(GROUP, f"{label}, {name}", "events/s", tuple(found))
    yield ratios(GROUP, f"{label}: oscd / bare Quart", rates["oscd"], rates["bare Quart"])


def _idle(node: Server) -> Iterator[Figure]:
    with _subscribed(node, 10):
        time.sleep(2.0)  # What the start left to do.
        begun = node.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        percent = (node.cpu_seconds() - begun) / IDLE_SECONDS * 100
    label = "idle, 4 workers, 10 streams: processor time"
    yield Figure(GROUP, label, "% of a core", (percent,), at_most=IDLE_AIM_PERCENT)


@contextmanager
def _subscribed(server: Server, count: int, path: str = "/sse/subscribe") -> Iterator[SubscriberProcess]:
    subscribers = SubscriberProcess(Streams(server.port, _STREAM.format(path=path), count))
    try:
        yield subscribers
    finally:
        subscribers.close()


def _arrivals(
    subscribers: SubscriberProcess,
    server: Server,
    rate: float | None,
    seconds: float,
    *,
    is_bare: bool = False,
) -> Arrivals:
    subscribers.begin()
    _write(server, rate, seconds, is_bare=is_bare)
    time.sleep(_SETTLE_SECONDS)
    return subscribers.end()


def _write(server: Server, rate: float | None, seconds: float, *, is_bare: bool = False) -> None:
    """Write at a rate, or as fast as answers come."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"X-User-Key": fill.USER_KEY, "Content-Type": "application/json"}
    begun, written = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        method, path = "PUT", f"/configs/{fill.key(written % 50)}?environment={fill.ENVIRONMENT}"
        if is_bare:
            method, path = "POST", "/push"
        connection.request(method, path, json.dumps({"value": written}), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        written += 1
        if rate is not None:
            time.sleep(max(0.0, begun + written / rate - time.perf_counter()))
    connection.close()


def _memory_kb(node: Server) -> int:
    """What the workers hold in RAM and share with nobody."""
    return sum(
        int(line.split()[1])
        for pid in node.workers()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("RssAnon:")
    )
