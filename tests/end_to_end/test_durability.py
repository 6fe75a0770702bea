"""Invariant 6: an acknowledged write is on the disk before its answer leaves, and outlives `kill -9`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import StartNode
from tests.support.node import RunningNode, run_oscd
from tests.support.strace import traced

WRITES = 20
SYSTEM_CALLS = "trace=fdatasync,fsync,pwrite64,write,sendto,writev,sendmsg"

_LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. )?(?P<call>\w+)(?P<rest>.*)")


@dataclass
class WalWatch:
    """What the trace so far says of the write-ahead log.

    Attributes:
        written: Writes to it since the last answer.
        unsynced: Whether any of them may not be on the disk yet.
    """

    written: int = 0
    unsynced: bool = False


def test_no_answer_leaves_before_its_commit_is_synced(start_node: StartNode, tmp_path: Path) -> None:
    """Invariant 6: in the system calls of a worker, each 2xx answer to a write comes after an fsync of the
    write-ahead log that began after the last write to it. (`kill -9` proves less: the page cache survives it.)
    """
    node = start_node()
    trace = tmp_path / "trace"
    with node.client() as client:
        client.get("/configs", params={"limit": 1}).raise_for_status()
        (worker,) = node.worker_pids()
        with traced(worker, trace, SYSTEM_CALLS):
            for number in range(WRITES):
                entry = {"key": f"k{number}", "value": number, "environment": "e"}
                assert client.post("/configs", json=entry).status_code == 201
                path = f"/configs/k{number}?environment=e"
                assert client.put(path, json={"value": -number}).status_code == 200
                assert client.delete(path).status_code == 200
    answered = _answers_after_sync(trace.read_text().splitlines(), wal=f"{node.database.name}-wal>")
    assert answered == 3 * WRITES


def test_a_write_whose_sync_fails_is_not_acknowledged(start_node: StartNode, tmp_path: Path) -> None:
    """Invariant 6: while the disk refuses to sync, writes get 503 and `/ready` tells; then service goes on."""
    node = start_node()
    with node.client() as client:
        kept = {"key": "kept", "value": "before", "environment": "e"}
        assert client.post("/configs", json=kept).status_code == 201
        (worker,) = node.worker_pids()
        with traced(worker, tmp_path / "trace", SYSTEM_CALLS, "inject=fdatasync,fsync:error=EIO"):
            for number in range(3):
                refused = client.put("/configs/kept?environment=e", json={"value": number})
                assert refused.status_code == 503
                assert refused.headers["Retry-After"] in {"1", "2"}
                assert "disk" in refused.json()["detail"]
            ready = client.get("/ready")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "EIO" in (tmp_path / "trace").read_text()
        assert client.put("/configs/kept?environment=e", json={"value": "after"}).status_code == 200
        assert client.get("/configs/kept?environment=e").json()["value"] == "after"
    node.kill_all()
    _require_verified(node)
    node.restart()
    with node.client() as client:
        assert client.get("/configs/kept?environment=e").json()["value"] == "after"


def _answers_after_sync(lines: Iterable[str], *, wal: str) -> int:
    """Count the 2xx answers in a trace of requests made one after the other; none may precede its sync.

    A write counts from its beginning, a sync only when it is over, an answer from its beginning: whatever
    order the threads really had, this is the least favourable reading.
    """
    watch = WalWatch()
    syncing: dict[str, bool] = {}
    answers = 0
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, call, rest = match["thread"], match["call"], match["rest"]
        if call == "pwrite64" and wal in rest:
            watch = WalWatch(watch.written + 1, unsynced=True)
            syncing = dict.fromkeys(syncing, False)
        elif call in {"fdatasync", "fsync"}:
            if wal in rest:
                syncing[thread] = True
            if rest.endswith("= 0") and syncing.pop(thread, False):
                watch.unsynced = False
        elif "HTTP/1.1 20" in rest:
            assert watch.written, f"answered without a write to the log: {line}"
            assert not watch.unsynced, f"answered before the log was synced: {line}"
            answers += 1
            watch = WalWatch()
    return answers


def _require_verified(node: RunningNode) -> None:
    verified = run_oscd("verify", directory=node.directory, settings=node.settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
