"""A real node under pressure: what some clients ask for, or do not take, costs the others little (invariant 10)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import h2.config
import h2.connection
import h2.settings
import pytest

from tests.conftest import StartNode
from tests.support.load import random_user_keys, resident_bytes
from tests.support.node import USER_KEY, RunningNode, key_headers
from tests.support.raw_http import ask, connect, read_answer, read_to_end, request
from tests.support.waiting import PATIENCE, wait_until

MEGABYTE = 1024 * 1024
KEY = f"X-User-Key: {USER_KEY}"
READS = 1000


def put(connection: HTTPConnection, key: str, value: str) -> None:
    """Write an entry, whether it exists or not."""
    body = json.dumps({"key": key, "value": value, "environment": "e"})
    connection.request("POST", "/configs", body, key_headers())
    answer = connection.getresponse()
    answer.read()
    if answer.status == 400:
        connection.request("PUT", f"/configs/{key}?environment=e", body, key_headers())
        answer = connection.getresponse()
        answer.read()
    assert answer.status in {200, 201}, answer.status


def fill(node: RunningNode, entries: int, value: str) -> None:
    """Create entries over four connections."""

    def some(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
        for number in range(first, entries, 4):
            put(connection, f"k{number:05}", value)
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))


def read_times(node: RunningNode, reads: int) -> list[float]:
    """Read one entry over and over on one connection, check each answer, and give the seconds each took, sorted."""
    times = []
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)) as connection:
        for _ in range(reads):
            begun = time.perf_counter()
            connection.request("GET", "/configs/known?environment=e", headers=key_headers())
            answer = connection.getresponse()
            body = answer.read()
            times.append(time.perf_counter() - begun)
            assert answer.status == 200, body
            assert json.loads(body)["value"] == "value"
    return sorted(times)


def test_random_user_keys_end_in_429_while_known_keys_are_served(start_node: StartNode) -> None:
    """A flood of unknown keys is refused for the most part, and every read with a known key is answered right."""
    node = start_node(OSC_WORKERS="2")
    with node.client() as client:
        assert client.post("/configs", json={"key": "known", "value": "value", "environment": "e"}).is_success
    with ThreadPoolExecutor(2) as readers:
        # Each worker remembers keys of its own; of so many connections some go to either.
        list(readers.map(lambda _: read_times(node, 10), range(24)))
        alone = list(readers.map(lambda _: read_times(node, READS), range(2)))
        with random_user_keys(node.port, "/configs/known?environment=e", 48) as answers:
            flooded = list(readers.map(lambda _: read_times(node, READS), range(2)))
    for name, (one, two) in (("alone", alone), ("under the flood", flooded)):
        times = sorted(one + two)
        print(
            f"{name}: p50 {times[len(times) // 2] * 1000:.2f} ms, p99 {times[len(times) * 99 // 100] * 1000:.2f} ms"
        )
    print(f"flood: {dict(answers)}")
    assert set(answers) <= {401, 429, -429}
    assert answers[429] > answers[401], "most of the flood is refused before anything is derived"
    assert answers[-429] == 0, "each 429 says when to come again"
    assert sum(map(len, flooded)) == 2 * READS
    assert '"level":"error"' not in node.output


@contextmanager
def clients_that_read_nothing(
    node: RunningNode, over_http_1: int, over_http_2: int
) -> Iterator[list[socket.socket]]:
    """Have clients ask for the whole list and take nothing of it; over HTTP/2 they never open a window."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(connect(node.port, receive_buffer=4096))
            for _ in range(over_http_1 + over_http_2)
        ]
        for client in opened[:over_http_1]:
            client.sendall(request("GET /configs HTTP/1.1", KEY))
        for client in opened[over_http_1:]:
            client.sendall(_zero_window_request())
        yield opened


def _zero_window_request() -> bytes:
    """What an HTTP/2 client sends that asks for the list with a flow-control window of zero (RFC 9113 §6.9.2)."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    connection.initiate_connection()
    headers = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/configs")]
    connection.send_headers(1, [*headers, ("x-user-key", USER_KEY)], end_stream=True)
    return connection.data_to_send()


def largest_while_writing(node: RunningNode, wal: Path) -> tuple[int, int]:
    """Write 70 MB, and give the most memory the workers held meanwhile and the largest size of the file."""
    workers, memory, size = node.worker_pids(), 0, 0
    connection = HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
    for number in range(60):
        put(connection, f"w{number % 3}", "y" * 900_000)
        memory = max(memory, resident_bytes(workers))
        size = max(size, wal.stat().st_size)
    connection.close()
    return memory, size


@pytest.mark.parametrize(
    ("entries", "size"), [(1500, 4000), (24, 900_000)], ids=["many small values", "some large values"]
)
def test_clients_that_read_nothing_cost_little(start_node: StartNode, entries: int, size: int) -> None:
    """Sixty of them cost the node under 100 MB together, and the write-ahead log stays under 64 MB meanwhile."""
    node = start_node(OSC_WORKERS="2")
    fill(node, entries, "x" * size)
    with node.client() as client:
        assert len(client.get("/configs").json()) == entries
    workers = node.worker_pids()
    wal = node.database.with_name(f"{node.database.name}-wal")
    before, _ = largest_while_writing(node, wal)
    with clients_that_read_nothing(node, 30, 30) as opened:
        for reader in opened:
            assert reader.recv(1, socket.MSG_PEEK), "the answer has begun"
        highest, biggest_wal = largest_while_writing(node, wal)
    grown = (highest - before) / MEGABYTE
    print(f"memory grew by {grown:.0f} MB, the write-ahead log to {biggest_wal / MEGABYTE:.0f} MB")
    assert grown < 100
    assert biggest_wal < 64 * MEGABYTE
    assert node.worker_pids() == workers


def test_idle_and_slow_connections_are_closed(start_node: StartNode) -> None:
    """A connection that says nothing, stops half way through a head or trickles one is closed in bounded time."""
    node = start_node()
    with ExitStack() as stack:
        silent, stopped, trickling, kept = (stack.enter_context(connect(node.port)) for _ in range(4))
        stopped.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        trickling.sendall(b"GET /health HTTP/1.1\r\nX: ")
        kept.sendall(request("GET /health HTTP/1.1"))
        assert read_answer(kept).status == 200
        closed = threading.Event()
        trickle = threading.Thread(target=_trickle, args=(trickling, closed))
        trickle.start()
        for client in (silent, stopped, kept):
            assert read_to_end(client) in {b"", b"HTTP/1.1 408 "}
        assert closed.wait(PATIENCE)
        trickle.join(PATIENCE)


def _trickle(client: socket.socket, closed: threading.Event) -> None:
    """Send a byte of a head now and then until the node has had enough."""
    client.settimeout(0.5)
    while True:
        try:
            client.sendall(b"x")
            if client.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    closed.set()


def test_connections_over_the_limit_get_503(start_node: StartNode) -> None:
    """Over `OSC_MAX_CONNECTIONS` a connection is told 503 with Retry-After; when others end there is room again."""
    node = start_node(OSC_WORKERS="1", OSC_MAX_CONNECTIONS="8")
    health = request("GET /health HTTP/1.1")
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(node.port)) for _ in range(8)]
        for client in opened:
            client.sendall(health)
            assert read_answer(client).status == 200
        refused = ask(node.port, health)
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert json.loads(refused.body)["status"] == 503
        opened[0].sendall(health)
        assert read_answer(opened[0]).status == 200
    wait_until(lambda: ask(node.port, health).status == 200, what="room for another connection")
