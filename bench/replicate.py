"""Replication: how soon a write is everywhere, how fast a node catches up, and what both cost the node that wrote."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from bench import fill, requests, servers
from bench.backups import watched
from bench.figures import Figure, ratios
from bench.load import TURN, Load, run
from bench.scale import Scale
from bench.servers import Server
from bench.steady import Sample, Steady, SteadyProcess

GROUP = "replicate"
API_KEY = "an-api-key-of-the-benchmark"
CLUSTER_KEY = "a-cluster-key-of-the-benchmark"
NODES = (fill.NODE_ID, "bench-2", "bench-3")
PER_SECOND = 200
P99_AIM_MS = 50.0
CATCH_UP_AIM = 20_000
CATCH_UP_MEMORY_AIM_MB = 64.0
CATCH_UP_WRITES_PER_SECOND = 100
LATENCY_AIM = 2.0
CPU_AIM = 1.10
CONNECTIONS = 16
READY_SECONDS = 30.0
# On a machine with much other work; the figure says how long it took.
CATCH_UP_SECONDS = 180.0
_LOOK_SECONDS = 0.01
# Links are up and what the start left to do is done.
_SETTLE_SECONDS = 2.0

Settings = Mapping[str, str]


def measure(few: Path, many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Delay and cost with three nodes, then a node that missed everything."""
    yield from _delay_and_cost(few, scratch, scale)
    yield from _catch_up(many, scratch, scale)


def _delay_and_cost(few: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    with ExitStack() as up:
        nodes = _cluster(up, _directories(few, scratch / "replicate", len(NODES)))
        lone = up.enter_context(servers.oscd(fill.copy(few, scratch / "replicate-lone"), 2, _guarded({})))
        for node in (*nodes, lone):
            _await_ready(node)
        time.sleep(_SETTLE_SECONDS)
        yield from _delays(nodes, scale)
        yield from _cost(nodes[0], lone, scale)


def _delays(nodes: Sequence[Server], scale: Scale) -> Iterator[Figure]:
    runs = [_written(nodes[0], 2 * scale.seconds, f"delay-{turn}", nodes[1:]) for turn in range(scale.rounds)]
    delays = [
        sorted(max(0.0, sample.seen_at - sample.answered_at) * 1000 for sample in run if sample.seen_at)
        for run in runs
    ]
    label = f"3 nodes, 2 workers each, {PER_SECOND} writes/s: from the answer to the streams of both others"
    yield Figure(GROUP, f"{label}, p50", "ms", tuple(_quantile(one, 50) for one in delays))
    p99 = tuple(_quantile(one, 99) for one in delays)
    yield Figure(GROUP, f"{label}, p99", "ms", p99, at_most=P99_AIM_MS)


def _cost(node: Server, lone: Server, scale: Scale) -> Iterator[Figure]:
    """Processor time of the writing node alone, in turns: its peers' own is theirs."""
    busy: dict[Server, list[float]] = {node: [], lone: []}
    steady: dict[Server, list[float]] = {node: [], lone: []}
    for turn in range(scale.rounds):
        for server in (node, lone):
            busy[server].append(_cpu_us_busy(server, turn, scale))
            steady[server].append(_cpu_us_steady(server, turn, scale))
    for how, cost, aim in (
        (f"{CONNECTIONS} connections", busy, CPU_AIM),
        (f"{PER_SECOND} writes/s", steady, None),
    ):
        label = f"processor time of the writing node, 2 workers, {how}"
        yield Figure(GROUP, f"{label}, 2 live peers", "µs/write", tuple(cost[node]))
        yield Figure(GROUP, f"{label}, no cluster", "µs/write", tuple(cost[lone]))
        yield ratios(GROUP, f"{label}: 2 live peers / no cluster", cost[node], cost[lone], at_most=aim)


def _cpu_us_busy(server: Server, turn: int, scale: Scale) -> float:
    request = requests.guarded(requests.create("busy"), API_KEY)
    load = Load(server.port, request, CONNECTIONS, scale.seconds, first=turn * TURN)
    before = server.cpu_seconds()
    outcome = run(load, 201)
    _settle(server)
    return (server.cpu_seconds() - before) * 1e6 / sum(outcome.statuses.values())


def _cpu_us_steady(server: Server, turn: int, scale: Scale) -> float:
    before = server.cpu_seconds()
    samples = _written(server, 2 * scale.seconds, f"cost-{turn}")
    return (server.cpu_seconds() - before) * 1e6 / len(samples)


def _catch_up(many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """A node with an empty log meets one with a large log that goes on writing."""
    turns: list[_CatchUp] = []
    for turn in range(max(1, scale.rounds // 2)):
        parent = scratch / f"catch-up-{turn}"
        turns.append(_caught_up(_directories(many, parent, 2), scale))
        shutil.rmtree(parent)
    label = f"catch-up of {scale.many} events"
    rates = tuple(one.per_second for one in turns)
    yield Figure(GROUP, label, "events/s", rates, at_least=CATCH_UP_AIM)
    memory = tuple(one.memory_mb for one in turns)
    yield Figure(GROUP, f"{label}: memory", "MB", memory, at_most=CATCH_UP_MEMORY_AIM_MB)
    for quantile, aim in ((50, LATENCY_AIM), (99, None)):
        during = [_quantile(one.during_ms, quantile) for one in turns]
        before = [_quantile(one.before_ms, quantile) for one in turns]
        what = f"{label}: a write at its source, {CATCH_UP_WRITES_PER_SECOND} a second, p{quantile}"
        yield Figure(GROUP, f"{what}, before", "ms", tuple(before))
        yield Figure(GROUP, f"{what}, meanwhile", "ms", tuple(during))
        yield ratios(GROUP, f"{what}, meanwhile / before", during, before, at_most=aim)


class _CatchUp:
    """What one catch-up took: the source's writes are told apart by when they were asked."""

    def __init__(
        self, events: int, begun: float, ended: float, memory: int, samples: Sequence[Sample], alone: float
    ) -> None:
        self.per_second = events / (ended - begun)
        self.memory_mb = memory / 1e6
        self.before_ms = _latencies(samples, 0.0, alone)
        self.during_ms = _latencies(samples, begun, ended)


def _caught_up(directories: Sequence[Path], scale: Scale) -> _CatchUp:
    source_directory, late_directory = directories
    ports = [servers.free_port() for _ in directories]
    with servers.oscd(source_directory, 1, _member(0, ports)) as source:
        _await_ready(source)
        writer = SteadyProcess(Steady(source.port, CATCH_UP_WRITES_PER_SECOND, "meanwhile", API_KEY))
        time.sleep(2 * scale.seconds)
        alone = time.perf_counter()
        with servers.oscd(late_directory, 1, _member(1, ports)) as late, watched(late) as memory:
            begun, first = _await_events(late_directory, 1)
            ended, last = _await_events(late_directory, scale.many)
        samples = writer.stop()
    return _CatchUp(last - first, begun, ended, memory[0], samples, alone)


def _await_events(directory: Path, least: int) -> tuple[float, int]:
    """When the log of a running node has at least so many events, and how many it has."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    with closing(sqlite3.connect(f"{(directory / fill.DATABASE).as_uri()}?mode=ro", uri=True)) as view:
        while time.monotonic() < deadline:
            (head,) = view.execute('SELECT max("offset") FROM events').fetchone()
            if (head or 0) >= least:
                return time.perf_counter(), head
            time.sleep(_LOOK_SECONDS)
    raise RuntimeError(f"a node did not get {least} events in {CATCH_UP_SECONDS:g} s")


def _latencies(samples: Sequence[Sample], begun: float, ended: float) -> list[float]:
    return sorted((one.answered_at - one.asked_at) * 1000 for one in samples if begun <= one.asked_at < ended)


def _written(server: Server, seconds: float, prefix: str, watching: Sequence[Server] = ()) -> list[Sample]:
    steady = Steady(server.port, PER_SECOND, prefix, API_KEY, [one.port for one in watching])
    writer = SteadyProcess(steady)
    time.sleep(seconds)
    return writer.stop()


def _directories(source: Path, parent: Path, count: int) -> list[Path]:
    """A copy of a log for the first node; the others begin with its salt only."""
    parent.mkdir()
    directories = [fill.copy(source, parent / "0")]
    for number in range(1, count):
        directory = parent / str(number)
        directory.mkdir()
        shutil.copy2(source / fill.SALT, directory / fill.SALT)
        directories.append(directory)
    return directories


def _cluster(up: ExitStack, directories: Sequence[Path]) -> list[Server]:
    ports = [servers.free_port() for _ in directories]
    return [
        up.enter_context(servers.oscd(directory, 2, _member(number, ports)))
        for number, directory in enumerate(directories)
    ]


def _member(number: int, ports: Sequence[int]) -> Settings:
    others = [f"127.0.0.1:{port}" for place, port in enumerate(ports) if place != number]
    return _guarded(
        {
            "OSC_HOST_PORT": str(ports[number]),
            "OSC_CLUSTER_ENABLED": "true",
            "OSC_CLUSTER_NODE_ID": NODES[number],
            "OSC_CLUSTER_NODES": ",".join(others),
            "OSC_CLUSTER_KEY": CLUSTER_KEY,
        }
    )


def _guarded(settings: Settings) -> Settings:
    return {"OSC_API_KEY_REQUIRED": "true", "OSC_API_KEY": API_KEY, **settings}


def _await_ready(server: Server) -> None:
    """Until it says that it is ready and has answered a write: a node of a cluster first asks where it ended."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if _ask(server, "GET", "/ready") == 200:
            body = {"key": f"ready-{time.monotonic_ns()}", "environment": "ready", "value": 0}
            if _ask(server, "POST", "/configs", json.dumps(body)) == 201:
                return
        time.sleep(0.05)
    raise RuntimeError(f"a node was not ready in {READY_SECONDS:g} s")


def _ask(server: Server, method: str, path: str, body: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=READY_SECONDS)
    headers = {"X-User-Key": fill.USER_KEY, "X-API-Key": API_KEY}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def _settle(server: Server) -> None:
    """Until it has nothing to do but to live: what it still ships is part of what writes cost."""
    before = server.cpu_seconds()
    while True:
        time.sleep(0.3)
        now = server.cpu_seconds()
        if now - before < 0.03:
            return
        before = now


def _quantile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
