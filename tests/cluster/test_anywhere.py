"""Whatever node of a cluster a client comes to, it finds what it was told elsewhere."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from random import Random
from typing import Any

from opensecureconf_client import OpenSecureConfClient, SSEEventData  # type: ignore[import-untyped]

from tests.support import original
from tests.support.cluster import API_KEY, RunningCluster
from tests.support.history import Filters
from tests.support.node import USER_KEY, key_headers
from tests.support.subscriber import Subscriber, Wanted, stands_at
from tests.support.waiting import PATIENCE, eventually, wait_until

HEADERS = key_headers(api_key=API_KEY)
READ_BACK = 1000
READERS = 8
MOVES = 60
IMPORTED = 4000
PASSWORD = "a password of a backup"


def test_a_write_is_read_back_at_once_on_another_node(shared_cluster: RunningCluster, seed: str) -> None:
    """1 000 writes, each read on another node with `X-OSC-After`, are all there: none is missing, none is stale."""
    with ThreadPoolExecutor(READERS) as pool:
        runs = [
            pool.submit(read_back, shared_cluster.ports, f"k{number}", Random(f"{seed}-{number}"))
            for number in range(READERS)
        ]
        assert [run.result() for run in runs] == [[]] * READERS


def read_back(ports: Sequence[int], key: str, dice: Random) -> list[str]:
    """What was stale, in words. Each write goes to where the one before was read, so that their order is known."""
    connections = {port: HTTPConnection("127.0.0.1", port, timeout=PATIENCE) for port in ports}
    path = f"/configs/{key}?environment=read-back"
    there = dice.choice(ports)
    status, told, position = ask(connections[there], "POST", "/configs", new(key, "read-back", -1))
    assert status == 201, told
    stale = []
    for number in range(READ_BACK // READERS):
        status, told, position = ask(connections[there], "PUT", path, {"value": number})
        assert status == 200, told
        here = dice.choice([port for port in ports if port != there])
        status, told, _ = ask(connections[here], "GET", path, after=position)
        if status != 200 or json.loads(told)["value"] != number:
            stale.append(f"{number}: {status} {told.decode()}")
        there = here
    for connection in connections.values():
        connection.close()
    return stale


def new(key: str, environment: str, value: object) -> dict[str, object]:
    """The body of a create."""
    return {"key": key, "environment": environment, "value": value}


def ask(
    connection: HTTPConnection, method: str, path: str, body: object = None, *, after: str | None = None
) -> tuple[int, bytes, str]:
    """Status, body and position of the answer."""
    headers = HEADERS | ({} if after is None else {"X-OSC-After": after})
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("X-OSC-Position", "")


async def test_the_published_client_reads_what_it_wrote_elsewhere(shared_cluster: RunningCluster) -> None:
    """It writes on one node, reads on another, and its listener on a third is told."""
    urls = [node.base_url for node in shared_cluster.nodes.values()]
    heard: list[SSEEventData] = []

    async def listen(event: SSEEventData) -> None:
        heard.append(event)

    def changes() -> list[tuple[str, str | None, str]]:
        return [(one.event_type, one.key, one.node_id) for one in heard if one.event_type != "connected"]

    with (
        OpenSecureConfClient(urls[0], USER_KEY, api_key=API_KEY) as writing,
        OpenSecureConfClient(urls[1], USER_KEY, api_key=API_KEY) as reading,
        OpenSecureConfClient(urls[2], USER_KEY, api_key=API_KEY) as listening,
    ):
        # Without a log level that client raises.
        async with listening.create_sse_client(
            on_event=listen, log_level="ERROR", environment="published"
        ) as sse:
            await sse.connect()
            await eventually(lambda: heard, what="the stream to open")
            await asyncio.to_thread(writing.create, "k", {"a": [1]}, "published", "red")
            await eventually(lambda: ("created", "k", "n0") in changes(), what="the create")
            await asyncio.to_thread(until_listed, reading, "k")
            found: dict[str, Any] = await asyncio.to_thread(reading.read, "k", "published")
            assert found["value"] == {"a": [1]}
            await asyncio.to_thread(reading.update, "k", "published", "b")
            await eventually(lambda: ("updated", "k", "n1") in changes(), what="the update")
            await asyncio.to_thread(listening.delete, "k", "published")
            await eventually(lambda: len(changes()) == 3, what="the delete")
    assert changes() == [("created", "k", "n0"), ("updated", "k", "n1"), ("deleted", "k", "n2")]


def until_listed(client: OpenSecureConfClient, key: str) -> None:
    """Wait as a user of that client has to, who cannot say what he has seen."""
    wait_until(lambda: key in [one["key"] for one in client.list_all(environment="published")])


def test_who_moves_between_nodes_is_told_everything_once(shared_cluster: RunningCluster, seed: str) -> None:
    """A subscriber that goes from node to node with `Last-Event-ID`, under writers on all of them, misses and repeats
    nothing: it is told each event that was not overtaken before it came, once, and holds the last state.
    """
    dice = Random(seed)
    environment = "moving"
    with shared_cluster.client(0) as client:
        first = client.post("/configs", json=new("first", environment, 0))
    start = first.headers["X-OSC-Position"]
    wanted = Wanted(Filters(environment=environment), HEADERS, after=start)
    subscriber = Subscriber(shared_cluster.ports[0], wanted)
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(create_many, port, environment, stop) for port in shared_cluster.ports]
        try:
            subscriber.open()
            for _ in range(MOVES):
                frames = dice.randrange(1, 10)
                assert subscriber.read_until(lambda told: len(told.attempts[-1].frames) >= frames)  # noqa: B023
                dice.choice([subscriber.close, subscriber.cut])()
                subscriber.port = dice.choice(shared_cluster.ports)
                subscriber.resume()
        finally:
            stop.set()
        created = {key for writer in writers for key in writer.result(PATIENCE)}
    end = shared_cluster.await_equal().position
    assert subscriber.read_until(stands_at(end))
    subscriber.close()
    frames_told = [frame for attempt in subscriber.history.attempts for frame in attempt.frames]
    assert not [frame for frame in frames_told if frame.event in {"reset", "goodbye"}]
    told = [frame.entry[1] for frame in frames_told if frame.is_change]
    assert len(told) == len(set(told)), "an event was told twice"
    assert set(told) == created
    assert {frame.data["node_id"] for frame in frames_told if frame.is_change} == {"n0", "n1", "n2"}


def create_many(port: int, environment: str, stop: threading.Event) -> list[str]:
    """Create entries that nobody else creates until it is told to stop; gives their keys."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    keys: list[str] = []
    while not stop.wait(0.01):
        keys.append(f"{port}-{len(keys)}")
        status, told, _ = ask(connection, "POST", "/configs", new(keys[-1], environment, "v"))
        assert status == 201, told
    connection.close()
    return keys


def test_an_import_is_on_another_node_whole_or_not_at_all(shared_cluster: RunningCluster) -> None:
    """Invariant 8: whoever lists on the other nodes while 4 000 entries are imported finds none of them or all, and a
    stream tells them in one piece.
    """
    entries = [
        {"key": f"e{n:05}", "value": "v" * 50, "environment": "imported", "category": None}
        for n in range(IMPORTED)
    ]
    body = {"backup_data": original.backup(PASSWORD, entries), "overwrite": False}
    stop = threading.Event()
    wanted = Wanted(Filters(environment="imported"), HEADERS)
    subscriber = Subscriber(shared_cluster.ports[2], wanted)
    subscriber.open()
    assert subscriber.read_until(lambda told: bool(told.attempts[-1].frames))
    with ThreadPoolExecutor(2) as pool:
        watching = [pool.submit(counts_seen, shared_cluster, number, stop) for number in (1, 2)]
        with shared_cluster.client(0) as client:
            report = client.post("/import", json=body, headers={"X-Backup-Password": PASSWORD})
        assert report.json()["imported"] == IMPORTED, report.text
        end = shared_cluster.await_equal().position
        assert subscriber.read_until(stands_at(end))
        stop.set()
        seen = [one.result(PATIENCE) for one in watching]
    for counts in seen:
        assert set(counts) == {0, IMPORTED}, sorted(set(counts))
    subscriber.close()
    frames = subscriber.history.attempts[0].frames
    places = [place for place, frame in enumerate(frames) if frame.is_change]
    assert len(places) == IMPORTED
    inside = frames[places[0] : places[-1]]
    assert all(frame.is_change for frame in inside), "something came between the events of one write"
    assert {frame.id for frame in inside} <= {None, frames[0].id}, "an id lies within the write"


def counts_seen(cluster: RunningCluster, number: int, stop: threading.Event) -> list[int]:
    """How many of the entries each list on a node showed, until it showed all of them."""
    counts: list[int] = []
    with cluster.client(number) as client:
        while not stop.is_set() or counts[-1:] != [IMPORTED]:
            listed = client.get("/configs", params={"environment": "imported"})
            assert listed.status_code == 200, listed.text
            counts.append(len(listed.json()))
    return counts
