"""Streams as an operator sees them: a thousand of them, readers that stop, workers that die, limits, keys that go."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartNode
from tests.support.history import Filters, History
from tests.support.load import resident_bytes
from tests.support.node import USER_KEY, RunningNode, key_headers
from tests.support.raw_http import connect, request
from tests.support.subscriber import AsyncSubscriber, Subscriber, Wanted
from tests.support.waiting import PATIENCE, wait_until

MANY = 1000
IDLE_BYTES = 60_000
"""What one idle subscriber may take of a worker's memory."""

STALL_SECONDS = 65.0
"""Longer than the 60 s after which a client that reads no ordinary answer is dropped."""

STALL_BYTES = 5_000_000
LONG_NAME = "c" * 100
API_KEYS = ("the-first-api-key", "the-second-api-key")

_SPAWN = multiprocessing.get_context("spawn")


def test_a_thousand_idle_streams_are_cheap_and_their_end_is_noticed(start_node: StartNode) -> None:
    """1 000 idle subscribers on 2 workers take under 60 KB each; killed, all count as closed in 2 keep-alives."""
    node = start_node(OSC_WORKERS="2")
    with node.client() as client:
        wait_until(lambda: client.get("/sse/stats").status_code == 200)
        _warm_up(node)
        before = resident_bytes(node.worker_pids())
        with _holding(node.port, MANY) as holder:
            wait_until(
                lambda: _stats(client)["subscriptions"]["active"] == MANY, what="all streams to be seen"
            )
            each = (resident_bytes(node.worker_pids()) - before) / MANY
            assert each < IDLE_BYTES
            wait_until(lambda: len(client.get("/sse/subscriptions").json()) == MANY, what="all to be listed")
            assert holder.pid is not None
            os.kill(holder.pid, signal.SIGKILL)
            keepalive = 15.0
            wait_until(
                lambda: _stats(client)["subscriptions"]["active"] == 0,
                2 * keepalive,
                what="their end to be seen",
            )
        stats = _stats(client)
        assert stats["subscriptions"]["closed"] == stats["subscriptions"]["total_created"]
        assert stats["connection_health"]["disconnections_detected"] >= MANY
        wait_until(lambda: client.get("/sse/subscriptions").json() == [], what="the list to be empty")


async def test_a_thousand_open_streams_do_not_hold_up_the_end(start_node: StartNode) -> None:
    """On SIGTERM each of 1 000 streams is told goodbye and ended as HTTP ends an answer, and the node exits 0."""
    node = start_node(OSC_WORKERS="2")
    subscribers = [AsyncSubscriber(node.port, Wanted()) for _ in range(MANY)]
    for begin in range(0, MANY, 100):
        some = subscribers[begin : begin + 100]
        await asyncio.gather(*(subscriber.open() for subscriber in some))
        await asyncio.gather(*(subscriber.read_until(_connected) for subscriber in some))
    ending = asyncio.create_task(asyncio.to_thread(node.terminate))
    await asyncio.gather(*(subscriber.read_until(_never) for subscriber in subscribers))
    assert await ending == 0
    assert "did not stop in time" not in node.output
    for subscriber in subscribers:
        (attempt,) = subscriber.history.attempts
        assert attempt.frames[-1].event == "goodbye"
        assert attempt.frames[-1].data == {"reason": "shutdown"}
        assert attempt.ended == "ended by the node"
        await subscriber.close()


def test_a_reader_that_stops_costs_nobody_anything_and_misses_nothing(start_node: StartNode) -> None:
    """One subscriber reads nothing for over 60 s of load: memory hardly grows, others get everything meanwhile.

    Then it reads again, on the same connection, and gets every event it had not taken, in order. A second node with
    the same load and no such subscriber tells what the load alone costs.
    """
    node, control = start_node(), start_node()
    others = [Subscriber(one.port, Wanted()) for one in (node, node, control, control)]
    stop = threading.Event()
    written: list[int] = []
    writer = threading.Thread(target=_write_on, args=((node.port, control.port), stop, written))
    with connect(node.port, receive_buffer=4096) as stalled, ExitStack() as cleanup:
        for other in others:
            other.open()
            cleanup.callback(other.close)
        readers = [threading.Thread(target=_read_on, args=(other, stop)) for other in others]
        for thread in (writer, *readers):
            thread.start()
        try:
            wait_until(lambda: len(written) >= 300, what="the load to get going")
            before = [resident_bytes(one.worker_pids()) for one in (node, control)]
            stalled.sendall(request("GET /sse/subscribe HTTP/1.1"))
            _receive_until(stalled, b"event: connected")
            first = len(written)
            threading.Event().wait(STALL_SECONDS)
            after = [resident_bytes(one.worker_pids()) for one in (node, control)]
            seen = len(written)
            wait_until(
                lambda: all(_changes(other.history) >= seen for other in others),
                what="the others to be told what was written meanwhile",
            )
        finally:
            stop.set()
            for thread in (writer, *readers):
                thread.join(PATIENCE)
        cost, load = after[0] - before[0], after[1] - before[1]
        assert cost - load < STALL_BYTES, (cost, load)
        versions = list(_versions_until(stalled.recv, f'"version":{written[-1]},'.encode()))
    # It came while the load ran, so it may have been told of a few before those that are known to follow.
    assert versions == written[written.index(versions[0]) :]
    assert versions[0] <= written[first] + 1
    assert node.terminate() == 0


def test_the_limit_is_the_nodes_whichever_workers_the_streams_are_on(start_node: StartNode) -> None:
    """With 4 workers and room for 5 streams, 5 are served, the 6th gets 503, and a place that is left is free."""
    node = start_node(OSC_WORKERS="4", OSC_SSE_MAX_SUBSCRIPTIONS="5")
    with ExitStack() as cleanup, node.client() as client:
        subscribers = [Subscriber(node.port, Wanted()) for _ in range(5)]
        for subscriber in subscribers:
            subscriber.open()
            cleanup.callback(subscriber.close)
            assert subscriber.read_until(_connected)
        for _ in range(8):
            with node.client() as another:
                refused = another.get("/sse/subscribe")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] in {"1", "2"}
            assert "OSC_SSE_MAX_SUBSCRIPTIONS" in refused.json()["detail"]
        subscribers[0].close()
        wait_until(lambda: _stats(client)["subscriptions"]["active"] == 4)
        subscribers[0].open()
        assert subscribers[0].read_until(_connected)


def test_every_worker_tells_of_the_streams_of_all(start_node: StartNode) -> None:
    """Whichever worker is asked, `/sse/stats`, `/sse/subscriptions` and `/sse/health` speak of the whole node."""
    node = start_node(OSC_WORKERS="4")
    wanted = [
        Filters(),
        Filters(key="k"),
        Filters(environment="e"),
        Filters(category="c"),
        Filters("k", "e", "c"),
    ]
    with ExitStack() as cleanup:
        for filters in wanted * 2:
            subscriber = Subscriber(node.port, Wanted(filters))
            subscriber.open()
            cleanup.callback(subscriber.close)
            assert subscriber.read_until(_connected)
        with node.client() as client:
            assert client.post("/configs", json=_entry("k", "e", "c")).status_code == 201
        for _ in range(12):
            with node.client() as client:
                wait_until(lambda: _is_whole(client), what="one worker to tell of all")


def test_a_worker_that_dies_takes_its_streams_out_of_the_count(start_node: StartNode) -> None:
    """After `kill -9` of every worker its streams are over; the node counts them as closed and takes new ones."""
    node = start_node(OSC_WORKERS="2")
    with ExitStack() as cleanup:
        subscribers = [Subscriber(node.port, Wanted()) for _ in range(10)]
        for subscriber in subscribers:
            subscriber.open()
            cleanup.callback(subscriber.close)
            assert subscriber.read_until(_connected)
        for pid in node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        for subscriber in subscribers:
            subscriber.read_until(_never)
            subscriber.resume()
            assert subscriber.read_until(lambda history: bool(history.attempts[-1].frames))
        with node.client() as client:
            wait_until(lambda: _stats(client)["subscriptions"]["active"] == 10)
            counted = _stats(client)["subscriptions"]
            assert (counted["total_created"], counted["closed"]) == (20, 10)


def test_a_removed_api_key_ends_its_streams(start_node: StartNode, tmp_path: Path) -> None:
    """SIGHUP with a key less: streams and tickets of that key say goodbye on every worker, others live on."""
    keys = tmp_path / "api-keys"
    keys.write_text("\n".join(API_KEYS))
    node = start_node(OSC_WORKERS="4", OSC_API_KEY_REQUIRED="true", OSC_API_KEY_FILE=str(keys))
    with ExitStack() as cleanup:
        by_key = {
            key: [_opened(cleanup, node, headers={"X-API-Key": key}) for _ in range(4)] for key in API_KEYS
        }
        tickets = {key: _ticket(node, key) for key in API_KEYS}
        for key in API_KEYS:
            by_key[key] += [_opened(cleanup, node, ticket=tickets[key]) for _ in range(4)]
        keys.write_text(API_KEYS[1])
        node.send(signal.SIGHUP)
        for subscriber in by_key[API_KEYS[0]]:
            subscriber.read_until(_never)
            assert subscriber.history.attempts[-1].frames[-1].data == {"reason": "api_key_removed"}
        with node.client(api_key=API_KEYS[1]) as client:
            assert client.post("/configs", json=_entry("k", "e")).status_code == 201
        for subscriber in by_key[API_KEYS[1]]:
            assert subscriber.read_until(lambda history: _changes(history) == 1)
        # The ticket is gone with its key, on every worker.
        for _ in range(8):
            with httpx.Client(base_url=node.base_url, trust_env=False) as client:
                assert (
                    client.get("/sse/subscribe", params={"ticket": tickets[API_KEYS[0]]}).status_code == 403
                )


def test_a_ticket_ends_its_stream_and_opens_another_until_then(start_node: StartNode) -> None:
    """A browser's reconnects may use one ticket again, on any worker; when it expires, so does the stream."""
    node = start_node(OSC_WORKERS="4", OSC_API_KEY_REQUIRED="true", OSC_API_KEY=API_KEYS[0])
    with ExitStack() as cleanup:
        lasting = _ticket(node, API_KEYS[0])
        for _ in range(12):
            _opened(cleanup, node, ticket=lasting)
        node.restart()
        _opened(cleanup, node, ticket=lasting)
        brief = _opened(cleanup, node, ticket=_ticket(node, API_KEYS[0], expires_in=2))
        brief.read_until(_never)
        assert brief.history.attempts[-1].frames[-1].data == {"reason": "ticket_expired"}
    assert lasting not in node.output
    assert "ticket=" not in node.output


def test_a_node_that_is_leaving_takes_no_more_streams_and_no_less_requests(start_node: StartNode) -> None:
    """While streams are open, an ordinary write that is in flight when SIGTERM comes is still answered."""
    node = start_node(OSC_WORKERS="1")
    body = json.dumps(_entry("k", "e")).encode()
    with connect(node.port) as stream, connect(node.port) as upload:
        stream.sendall(request("GET /sse/subscribe HTTP/1.1"))
        _receive_until(stream, b"event: connected")
        head = request(
            "POST /configs HTTP/1.1",
            f"X-User-Key: {USER_KEY}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        upload.sendall(head + body[:10])
        node.send(signal.SIGTERM)
        _receive_until(stream, b"event: goodbye")
        upload.sendall(body[10:])
        assert upload.recv(65536).startswith(b"HTTP/1.1 201")
    assert node.wait() == 0


def _connected(history: History) -> bool:
    return any(frame.event == "connected" for frame in history.attempts[-1].frames)


def _never(history: History) -> bool:
    """For reading to the end."""
    return False


def _changes(history: History) -> int:
    return sum(frame.is_change for attempt in history.attempts for frame in attempt.frames)


def _stats(client: httpx.Client) -> dict[str, dict[str, int]]:
    answered = client.get("/sse/stats")
    assert answered.status_code == 200
    document: dict[str, dict[str, int]] = answered.json()
    return document


def _is_whole(client: httpx.Client) -> bool:
    """Whether a worker tells of all ten streams, and of the one event that each of them was sent."""
    stats, health = client.get("/sse/stats").json(), client.get("/sse/health").json()
    seen = client.get("/sse/subscriptions").json()
    subscriptions = stats["subscriptions"]
    return bool(
        subscriptions["active"] == health["active_subscriptions"] == len(seen) == 10
        and subscriptions["wildcard"] == 2
        and subscriptions["by_key"] == {"k": 4}
        and subscriptions["by_environment"] == {"e": 4}
        and subscriptions["by_category"] == {"c": 4}
        and stats["events"]["total_sent"] == health["total_events_sent"] == 10
        and stats["events"]["by_type"] == {"created": 10, "updated": 0, "deleted": 0, "sync": 0}
    )


def _entry(key: str, environment: str, category: str | None = None) -> dict[str, object]:
    return {"key": key, "environment": environment, "category": category, "value": "v"}


def _opened(
    cleanup: ExitStack, node: RunningNode, *, headers: dict[str, str] | None = None, ticket: str | None = None
) -> Subscriber:
    subscriber = Subscriber(node.port, Wanted(headers=headers or {}, ticket=ticket))
    subscriber.open()
    cleanup.callback(subscriber.close)
    assert subscriber.read_until(_connected)
    return subscriber


def _ticket(node: RunningNode, api_key: str, **body: object) -> str:
    with node.client(api_key=api_key) as client:
        answered = client.post("/sse/tickets", json=body)
    assert answered.status_code == 200
    return str(answered.json()["ticket"])


def _warm_up(node: RunningNode) -> None:
    """Have each worker open and end streams, so that what is made once is there before memory is compared."""
    for _ in range(20):
        subscriber = Subscriber(node.port, Wanted())
        subscriber.open()
        assert subscriber.read_until(_connected)
        subscriber.close()


def _write_on(ports: Sequence[int], stop: threading.Event, written: list[int]) -> None:
    """Update one entry on several nodes until told to stop; its versions are what was written."""
    connections = [HTTPConnection("127.0.0.1", port, timeout=PATIENCE) for port in ports]
    body = json.dumps({"key": "k", "environment": "e", "category": LONG_NAME, "value": "x"})
    method, path = "POST", "/configs"
    while not stop.is_set():
        for connection in connections:
            connection.request(method, path, body, key_headers())
            answer = connection.getresponse()
            answer.read()
            assert answer.status in {200, 201}
        written.append(len(written) + 1)
        method, path = "PUT", "/configs/k?environment=e"
    for connection in connections:
        connection.close()


def _read_on(subscriber: Subscriber, stop: threading.Event) -> None:
    while not stop.is_set() and subscriber.read():
        pass


def _receive_until(stream: socket.socket, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        part = stream.recv(1024)
        assert part, "the stream ended before that"
        received += part
    return received


def _versions_until(receive: Callable[[int], bytes], last: bytes) -> Iterator[int]:
    """The versions in a stream, up to the frame that holds `last`."""
    received = bytearray()
    while last not in received:
        part = receive(1 << 20)
        assert part, "the stream ended before everything was told"
        received += part
    for line in bytes(received).split(b'"version":')[1:]:
        yield int(line.partition(b",")[0])


@contextmanager
def _holding(port: int, count: int) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process of its own that holds so many streams open, so that it can be killed."""
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_hold, args=(port, count, sender))
    process.start()
    try:
        assert receiver.poll(PATIENCE), "the streams were not opened"
        assert receiver.recv() == count
        yield process
    finally:
        process.kill()
        process.join(PATIENCE)


def _hold(port: int, count: int, sender: Connection) -> None:
    sockets = [connect(port) for _ in range(count)]
    for one in sockets:
        one.sendall(request("GET /sse/subscribe HTTP/1.1"))
    opened = sum(b" 200 " in one.recv(65536) for one in sockets)
    sender.send(opened)
    signal.pause()


@pytest.fixture(autouse=True)
def _enough_descriptors() -> None:
    """A thousand connections and what the tests need besides."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * MANY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * MANY, hard), hard))
