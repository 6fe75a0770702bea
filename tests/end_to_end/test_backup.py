"""Backups of a real node: both ways of calling, what a broken import leaves, what a large one takes."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from tests.conftest import StartNode
from tests.support import original
from tests.support.load import resident_bytes
from tests.support.node import USER_KEY, RunningNode, key_headers, run_oscd
from tests.support.raw_http import ask, connect, read_to_end, request
from tests.support.waiting import wait_until

PASSWORD = "a password of a backup"
HEADERS = {"X-Backup-Password": PASSWORD}
KILLS = 4
KILLED_ENTRIES = 8_000
# Less than such an import adds to the write-ahead log.
MOST_GROWN_BYTES = 4 * 1024 * 1024
LARGE_ENTRIES = 20_000
LEAST_TURN_SECONDS = 1.0


def configurations(number: int, value: object = "v" * 50) -> list[dict[str, Any]]:
    return [
        {"key": f"entry-{n:06}", "value": value, "environment": "e", "category": "c"} for n in range(number)
    ]


def total(node: RunningNode) -> int:
    with node.client() as client:
        keys: int = client.get("/stats").json()["total_keys"]
        return keys


def test_both_clients_ways_of_calling(start_node: StartNode) -> None:
    """A JSON body as JavaScript clients send it; a query without a body, as large as the original's server takes."""
    source, target = start_node(), start_node()
    with source.client() as client:
        for number in range(88):
            entry = {"key": f"k{number}", "value": "v" * 200, "environment": "e"}
            assert client.post("/configs", json=entry).status_code == 201
        backup = client.post("/backup", headers=HEADERS | {"Content-Type": "application/json"}).json()
    data = backup["backup_data"]
    assert 40_000 < len(data) < 62_000, "near the 64 KiB that the original's server takes of a head"
    with target.client() as client:
        by_query = client.post("/import", params={"backup_data": data, "overwrite": "false"}, headers=HEADERS)
        assert by_query.status_code == 200, by_query.text
        assert by_query.json()["imported"] == 88
        by_body = client.post("/import", json={"backup_data": data, "overwrite": True}, headers=HEADERS)
        assert by_body.json()["imported"] == 88
        raw = request(
            f"POST /import?backup_data={data} HTTP/1.1",
            *(f"{name}: {text}" for name, text in (HEADERS | key_headers()).items()),
            "Content-Type: application/json",
            "Connection: close",
        )
        assert ask(target.port, raw).status == 200
        assert ask(target.port, raw.replace(data.encode(), data.encode() * 3)).status == 431


def test_a_truncated_upload_changes_nothing(start_node: StartNode) -> None:
    """A body that ends before its announced length, or half way through a chunk, imports nothing."""
    node = start_node()
    body = json.dumps({"backup_data": original.backup(PASSWORD, configurations(50))}).encode()
    heads = [f"{name}: {text}" for name, text in (HEADERS | key_headers()).items()]
    for framing, sent in (
        (f"Content-Length: {len(body)}", body[: len(body) // 2]),
        (f"Content-Length: {len(body)}", body[:-1]),
        ("Transfer-Encoding: chunked", b"%x\r\n%b" % (len(body), body[:-1])),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(body), body)),
    ):
        with connect(node.port) as client:
            client.sendall(request("POST /import HTTP/1.1", *heads, framing, body=sent))
            # The node sees the end of what is sent, and may answer that it is no import, or not at all.
            client.shutdown(socket.SHUT_WR)
            told = read_to_end(client)
            assert not told or told.split(b" ", 2)[1] in {b"400", b"408"}, told
    assert total(node) == 0
    whole = request(
        "POST /import HTTP/1.1", *heads, f"Content-Length: {len(body)}", "Connection: close", body=body
    )
    assert ask(node.port, whole).status == 200
    assert total(node) == 50


@pytest.mark.timeout(200)
def test_an_import_that_is_killed_leaves_nothing_half(start_node: StartNode) -> None:
    """Invariants 3 and 6: after `kill -9` while an import is written its entries are all there or none is."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    node = start_node(OSC_WORKERS="2")
    body = {"backup_data": original.backup(PASSWORD, configurations(KILLED_ENTRIES))}
    outcomes: list[tuple[int, bool]] = []
    while sum(not answered for _, answered in outcomes) < KILLS:
        assert len(outcomes) < 5 * KILLS, f"too few imports were killed before their answer: {outcomes}"
        answered = _killed_while_it_imports(node, body, chance.randrange(MOST_GROWN_BYTES))
        node.restart()
        found = total(node)
        outcomes.append((found, answered))
        assert found in {0, KILLED_ENTRIES}
        assert found or not answered, "what was answered is there"
        if found:
            _assert_honest(node)
            node = start_node(OSC_WORKERS="2")
    print(f"entries found, answered: {outcomes}")
    _assert_honest(node)


def _killed_while_it_imports(node: RunningNode, body: dict[str, str], grown: int) -> bool:
    """Kill the node once its write-ahead log has grown by so many bytes; tells whether it answered before."""
    wal = node.database.with_name(f"{node.database.name}-wal")
    before = wal.stat().st_size
    answers: list[int] = []
    importing = threading.Thread(target=_import, args=(node, body, answers))
    importing.start()
    while wal.stat().st_size <= before + grown and importing.is_alive():
        time.sleep(0.001)
    node.kill_all()
    importing.join()
    return bool(answers)


def _assert_honest(node: RunningNode) -> None:
    assert node.terminate() == 0
    verified = run_oscd("verify", directory=node.directory, settings=node.settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _import(node: RunningNode, body: dict[str, str], answers: list[int]) -> None:
    with suppress(httpx.HTTPError), node.client() as client:
        answers.append(client.post("/import", json=body, headers=HEADERS).status_code)


@contextmanager
def watched(node: RunningNode, grown: list[int]) -> Iterator[None]:
    """Note by how much the workers' memory grew while the block ran."""
    pids, over = node.worker_pids(), threading.Event()
    before = highest = resident_bytes(pids)

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.01):
            highest = max(highest, resident_bytes(pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        grown.append(highest - before)


def test_backup_and_import_take_bounded_memory(start_node: StartNode) -> None:
    """A backup takes some MB however many entries it has, an import less than six times the backup's size."""
    node = start_node()
    grown: list[int] = []
    backup = original.backup(PASSWORD, configurations(LARGE_ENTRIES))
    with node.client() as client:
        assert client.post("/import", json={"backup_data": backup}, headers=HEADERS).status_code == 200
        with watched(node, grown):
            data = client.post("/backup", headers=HEADERS).json()["backup_data"]
        with watched(node, grown):
            done = client.post("/import", json={"backup_data": data, "overwrite": True}, headers=HEADERS)
        assert done.json()["imported"] == LARGE_ENTRIES
    print(f"a backup of {len(data)} bytes took {grown[0]}, its import {grown[1]} bytes")
    assert grown[0] < 32 * 1024 * 1024
    assert grown[1] < 6 * len(data)


def test_others_are_served_while_a_large_backup_is_imported(start_node: StartNode) -> None:
    """Reads on the same worker are answered all the while; writes too, or are told to come again."""
    node = start_node()
    backup = original.backup(PASSWORD, configurations(LARGE_ENTRIES))
    answers: list[int] = []
    with node.client() as client:
        assert client.post("/configs", json={"key": "k", "value": 1, "environment": "x"}).status_code == 201
        importing = threading.Thread(target=_import, args=(node, {"backup_data": backup}, answers))
        importing.start()
        slowest, turns = 0.0, 0
        while importing.is_alive():
            begun = time.perf_counter()
            assert client.get("/configs/k?environment=x").json()["value"] == 1
            slowest, turns = max(slowest, time.perf_counter() - begun), turns + 1
            written = client.put("/configs/k?environment=x", json={"value": 1})
            assert written.status_code in {200, 503}, written.text
        importing.join()
    print(f"{turns} reads, the slowest {slowest:.3f} s")
    assert answers == [200]
    assert turns > 20
    assert slowest < LEAST_TURN_SECONDS
    wait_until(lambda: total(node) == LARGE_ENTRIES + 1, what="the imported entries")
    assert USER_KEY not in node.output
