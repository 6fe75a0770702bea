"""What a backup of the large log and its import take: seconds, memory, and how long others cannot write."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import orjson

from bench import fill, servers
from bench.figures import Figure
from bench.scale import Scale

GROUP = "backups"
MEMORY_AIM = 6.0
LOCK_AIM_SECONDS = 5.0
PASSWORD = "a password of the benchmark"
_WATCH_SECONDS = 0.02
_COMMIT_SECONDS = re.compile(rb"^osc_log_commit_duration_seconds_sum (\S+)$", re.MULTILINE)


def measure(many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Back up the large log, import it on an empty node, and again over itself."""
    label = f"{scale.many} entries"
    with servers.oscd(fill.copy(many, scratch / "backed-up"), 1) as source, watched(source) as memory:
        begun = time.perf_counter()
        backup = str(_ask(source, "/backup", b"")["backup_data"])
        yield Figure(GROUP, f"backup of {label}", "s", (time.perf_counter() - begun,))
    yield Figure(GROUP, f"backup of {label}: memory", "MB", (memory[0] / 1e6,))
    empty = scratch / "imported"
    empty.mkdir()
    with servers.oscd(empty, 1) as target:
        for what in ("import", "import over what is there"):
            yield from _import(target, backup, f"{what}, {label}", scale.many)


def _import(target: servers.Server, backup: str, label: str, entries: int) -> Iterator[Figure]:
    body = orjson.dumps({"backup_data": backup, "overwrite": True})
    locked = _commit_seconds(target)
    with watched(target) as memory:
        begun = time.perf_counter()
        report = _ask(target, "/import", body)
        seconds = time.perf_counter() - begun
    assert report["imported"] == entries, report
    yield Figure(GROUP, label, "s", (seconds,))
    ratio = memory[0] / len(backup)
    yield Figure(GROUP, f"{label}: memory / backup", "", (ratio,), at_most=MEMORY_AIM)
    locked = _commit_seconds(target) - locked
    yield Figure(GROUP, f"{label}: write lock held", "s", (locked,), at_most=LOCK_AIM_SECONDS)


@contextmanager
def watched(server: servers.Server) -> Iterator[list[int]]:
    """Gives, once the block has ended, by how many bytes the memory of the workers grew at most."""
    pids, over, grown = server.workers(), threading.Event(), [0]
    before = sum(map(_resident_bytes, pids))

    def watch() -> None:
        while not over.wait(_WATCH_SECONDS):
            grown[0] = max(grown[0], sum(map(_resident_bytes, pids)) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()


def _ask(server: servers.Server, path: str, body: bytes) -> dict[str, str | int]:
    headers = {"X-User-Key": fill.USER_KEY, "X-Backup-Password": PASSWORD, "Content-Type": "application/json"}
    connection = HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.status == 200, data[:1000]
    document: dict[str, str | int] = orjson.loads(data)
    return document


def _commit_seconds(server: servers.Server) -> float:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    found = _COMMIT_SECONDS.search(connection.getresponse().read())
    connection.close()
    assert found is not None
    return float(found[1])


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
