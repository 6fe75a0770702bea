"""Owns load on a node from processes of their own, so that the test's process measures only what it asks itself.

Must not judge what it counts.
"""

from __future__ import annotations

import multiprocessing
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.support.waiting import PATIENCE

_SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def random_user_keys(port: int, path: str, connections: int) -> Iterator[Counter[int]]:
    """Ask for one entry with a new random user key each time, as fast as answers come, while the block runs.

    The counter, status → answers, is filled when the block has ended.
    """
    counted: Counter[int] = Counter()
    stop = _SPAWN.Event()
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_flood, args=(port, path, connections, stop, sender))
    process.start()
    try:
        assert receiver.poll(PATIENCE), "the flood did not begin"
        receiver.recv()
        yield counted
        stop.set()
        assert receiver.poll(PATIENCE), "the flood did not end"
        counted.update(receiver.recv())
    finally:
        stop.set()
        process.join(PATIENCE)
        process.kill()


def _flood(port: int, path: str, connections: int, stop: Event, sender: Connection) -> None:
    counted: Counter[int] = Counter()
    first = threading.Event()
    threads = [
        threading.Thread(target=_ask_on, args=(port, path, stop, counted, first)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    first.wait(PATIENCE)
    sender.send(None)
    for thread in threads:
        thread.join(PATIENCE)
    sender.send(counted)


def _ask_on(port: int, path: str, stop: Event, counted: Counter[int], first: threading.Event) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while not stop.is_set():
        connection.request("GET", path, headers={"X-User-Key": secrets.token_hex(16)})
        answer = connection.getresponse()
        answer.read()
        counted[answer.status] += 1
        if answer.status == 429:
            counted[-429] += answer.getheader("Retry-After") not in {"1", "2"}
        first.set()
    connection.close()


def resident_bytes(pids: list[int]) -> int:
    """Memory that these processes hold in RAM and share with nobody, together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
    return total
