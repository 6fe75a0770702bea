"""From the start of a node to its first answer with a value in it, and what a worker then holds of memory."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from bench import fill, requests, servers
from bench.figures import Figure, ratios
from bench.load import Load, run
from bench.scale import Scale

GROUP = "start and memory"
START_AIM_SECONDS = 2.0
MEMORY_AIM_MB = 120.0
WORKERS = 2
HEADERS = {"X-User-Key": fill.USER_KEY}
TIMEOUT_SECONDS = 60.0


def measure(few: Path, many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Start with few and with many entries in turns, then memory after reads, writes and a whole list."""
    few, many = fill.copy(few, scratch / "start-few"), fill.copy(many, scratch / "start-many")
    small: list[float] = []
    large: list[float] = []
    for _ in range(scale.rounds):
        small.append(_seconds_to_first_answer(few))
        large.append(_seconds_to_first_answer(many))
    label = f"start to first value, {WORKERS} workers"
    yield Figure(GROUP, f"{label}, {scale.few} entries", "s", tuple(small))
    yield Figure(GROUP, f"{label}, {scale.many} entries", "s", tuple(large), at_most=START_AIM_SECONDS)
    yield ratios(GROUP, f"{label}: {scale.many} / {scale.few} entries", large, small)
    yield from _memory(many, scale)


def _seconds_to_first_answer(directory: Path) -> float:
    with servers.oscd(directory, WORKERS) as node:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=TIMEOUT_SECONDS)
        connection.request(
            "GET", f"/configs/{quote(fill.key(0))}?environment={fill.ENVIRONMENT}", headers=HEADERS
        )
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        connection.close()
        return time.perf_counter() - node.started_at


def _memory(directory: Path, scale: Scale) -> Iterator[Figure]:
    with servers.oscd(directory, WORKERS) as node:
        read = Load(node.port, requests.READ, 16, scale.seconds, numbers=scale.many)
        run(read, 200)
        run(replace(read, request=requests.create("memory"), numbers=None), 201)
        for _ in range(2 * WORKERS):
            list_all(node.port)
        memory = [_memory_of(pid) for pid in node.workers()]
    label = f"memory per worker, {scale.many} entries"
    yield Figure(GROUP, f"{label}: RSS", "MB", tuple(rss for rss, _ in memory), at_most=MEMORY_AIM_MB)
    shared = tuple(pss for _, pss in memory if pss is not None)
    if shared:
        yield Figure(GROUP, f"{label}: PSS", "MB", shared)


def _memory_of(pid: int) -> tuple[float, float | None]:
    """Resident and proportional size in MB; the latter only where the system tells it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss = int(fields["VmRSS"].split()[0]) * 1024 / 1e6
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return rss, None
    (pss,) = (int(line.split()[1]) * 1024 / 1e6 for line in rollup if line.startswith("Pss:"))
    return rss, pss


def list_all(port: int) -> tuple[float, float, int]:
    """A whole list: seconds to its first byte and to its last, and how many bytes it has."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    begun = time.perf_counter()
    connection.request("GET", "/configs", headers=HEADERS)
    answer = connection.getresponse()
    assert answer.status == 200
    size = len(answer.read(1))
    first = time.perf_counter() - begun
    while part := answer.read1(1 << 20):
        size += len(part)
    took = time.perf_counter() - begun
    connection.close()
    return first, took, size
