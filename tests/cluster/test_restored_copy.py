"""A node whose file was put back from an earlier copy, under load: no number ever names two events (invariant 9)."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from oscd.events.event import ORIGIN_BEGAN
from tests.support.cluster import API_KEY, RunningCluster, clusters
from tests.support.history import Filters, History
from tests.support.log_file import Log, lacking, log_of, standing_of
from tests.support.node import key_headers
from tests.support.roving import Acknowledged, RovingWriter
from tests.support.subscriber import Subscriber, Wanted
from tests.support.waiting import PATIENCE, wait_until

WRITERS = 4
KEYS = [f"k{number}" for number in range(12)]
ENOUGH = 50
"""Acknowledged writes of each phase."""

LOG_FILES = ("configurations.db", "configurations.db-wal")


class Restorable:
    """A cluster whose first node can be put back to how it was.

    Attributes:
        early: A copy of its log from when this was made.
        gone: What was in its log each time it was put back.
    """

    def __init__(self, cluster: RunningCluster, copies: Path) -> None:
        self.cluster = cluster
        self.gone: list[Log] = []
        self._copies = copies
        copies.mkdir()
        cluster.start()
        cluster.await_ready()
        with cluster.client(0) as client:
            for key in KEYS:
                body = {"key": key, "environment": "before", "value": 0}
                client.post("/configs", json=body).raise_for_status()
        cluster.await_equal()
        self.early = self.copy("early")

    @property
    def database(self) -> Path:
        """The file that is put back."""
        return self.cluster.nodes[0].database

    def copy(self, name: str) -> Path:
        """Copy the files of the log, while the node does not run."""
        self.cluster.kill(0)
        copy = self._copies / name
        copy.mkdir()
        for file in LOG_FILES:
            shutil.copy2(self.database.with_name(file), copy / file)
        self.cluster.start(0)
        self.cluster.await_ready(0)
        return copy

    def put_back(self, copy: Path) -> None:
        """End the node as a power cut does, and put a copy where its file was; it does not run then."""
        self.cluster.kill(0)
        self.gone.append(log_of(self.database))
        for path in self.database.parent.glob("configurations.db*"):
            path.unlink()
        for name in LOG_FILES:
            shutil.copy2(copy / name, self.database.with_name(name))

    def forget_untold(self) -> None:
        """Leave out what the node had taken of its own when it was put back last, and no other node has.

        Of a call that was given up the node may have made an event after all; nobody was promised that.
        """
        others = self.known_elsewhere()

        def is_told(number: tuple[str, int]) -> bool:
            incarnation, seq = number
            return any(seq <= known.get(incarnation, 0) for known in others)

        self.gone[-1] = {number: one for number, one in self.gone[-1].items() if is_told(number)}

    def known_elsewhere(self) -> list[dict[str, int]]:
        """For each of the other nodes, by incarnation the seq up to which it has the events."""
        others = [standing_of(self.cluster.nodes[number].database).ends for number in (1, 2)]
        return [{incarnation: seq for incarnation, (seq, _) in ends.items()} for ends in others]

    def own_end(self) -> tuple[str, int]:
        """Incarnation and seq of the node's last own event."""
        own = [one.event for one in log_of(self.database).values() if one.event.origin.node_id == "n0"]
        return own[-1].origin.incarnation, own[-1].seq


@pytest.fixture(scope="module")
def restorable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restorable]:
    directory = tmp_path_factory.mktemp("clusters")
    with clusters(directory) as make:
        yield Restorable(make(3), directory / "copies")


class Writers:
    """Writers on the nodes whose ports are listed, for as long as a block runs."""

    def __init__(self, cluster: RunningCluster, seed: str) -> None:
        self.ports = list(cluster.ports)
        self._writers = [
            RovingWriter(self.ports, KEYS, random.Random(f"{seed}-{number}"), API_KEY)
            for number in range(WRITERS)
        ]

    @property
    def acknowledged(self) -> list[Acknowledged]:
        """All that was so far."""
        return [write for writer in self._writers for write in tuple(writer.acknowledged)]

    def await_more(self, port: int | None = None) -> None:
        """Wait until some more writes were acknowledged, by one node if a port is given."""

        def count() -> int:
            return sum(port in {None, write.port} for write in self.acknowledged)

        before = count()
        wait_until(lambda: count() >= before + ENOUGH, what=f"{ENOUGH} more acknowledged writes")

    def leave(self, port: int) -> None:
        """Have no writer ask one node any more, and wait until none does."""
        self.ports.remove(port)
        wait_until(lambda: all(writer.asked != port for writer in self._writers), what="the end of its calls")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """All of them write."""
        stop = threading.Event()
        with ThreadPoolExecutor(WRITERS) as pool:
            running = [pool.submit(writer.run, stop) for writer in self._writers]
            try:
                yield
            finally:
                stop.set()
            for one in running:
                one.result(PATIENCE)
        assert not [one for writer in self._writers for one in writer.unexpected]


@pytest.mark.parametrize(
    ("unreachable", "begins_anew"),
    [
        pytest.param((), False, id="all"),
        pytest.param((2,), True, id="some"),
        pytest.param((1, 2), True, id="none"),
    ],
)
def test_no_number_is_issued_twice(
    restorable: Restorable, seed: str, unreachable: Sequence[int], begins_anew: bool
) -> None:
    """Invariant 9, with all, some and no peers reachable: what a peer knew is taken back as it was; only where all
    answered does the numbering continue, else a new incarnation says where it went on from.
    """
    cluster = restorable.cluster
    writers = Writers(cluster, seed)
    with writers.at_work():
        writers.await_more(cluster.ports[0])
        # What it took and told nobody would be lost with its file, as anybody's would.
        writers.leave(cluster.ports[0])
        wait_until(lambda: is_known(restorable), what="the others to have all of its own events")
        restorable.put_back(restorable.early)
        restorable.forget_untold()
        ways = [cluster.links[way] for other in unreachable for way in ((0, other), (other, 0))]
        for way in ways:
            way.cut()
        origins = {number[0] for number in restorable.gone[-1]}
        cluster.start(0)
        writers.ports.append(cluster.ports[0])
        writers.await_more(cluster.ports[0])
        for way in ways:
            way.heal()
        writers.await_more()
    cluster.await_equal()
    log = require_one_meaning(restorable)
    assert not [write for write in writers.acknowledged if lacking(log, write.position)]
    assert restorable.gone[-1].keys() <= log.keys()
    begun = {number: one.event for number, one in log.items() if number[0] not in origins}
    assert bool(begun) == begins_anew
    if begins_anew:
        (first,) = [event for (_, seq), event in begun.items() if seq == 1]
        assert first.type == ORIGIN_BEGAN
        assert first.replaces is not None
        assert first.replaces.origin.node_id == "n0"


def is_known(restorable: Restorable) -> bool:
    """Whether the other nodes hold all events that the first one wrote."""
    incarnation, seq = restorable.own_end()
    return all(known.get(incarnation, 0) >= seq for known in restorable.known_elsewhere())


def require_one_meaning(restorable: Restorable) -> Log:
    """No number names two events, in what any node holds or the first one ever held; gives what all hold."""
    logs = [log_of(node.database) for node in restorable.cluster.nodes.values()]
    known: dict[tuple[str, int], bytes] = {}
    for log in (*logs, *restorable.gone):
        for number, one in log.items():
            assert known.setdefault(number, one.digest) == one.digest, f"{number} names two events"
    assert logs[0].keys() == logs[1].keys() == logs[2].keys()
    return logs[0]


def test_readers_notice_what_could_not_be_prevented(restorable: Restorable) -> None:
    """A tail that no peer ever had is gone with the file, and its numbers are issued again: whoever was told of it is
    told `reset`, on every node, instead of nothing.
    """
    cluster = restorable.cluster
    cluster.await_equal()
    latest = restorable.copy("latest")
    for way in cluster.ways_of(0):
        way.cut()
    told_alone = written(cluster, "told to nobody")
    restorable.put_back(latest)
    alone = restorable.gone.pop()
    cluster.heal()
    cluster.start(0)
    wait_until(lambda: written_or_refused(cluster), what="the node to write again")
    cluster.await_equal()
    now = log_of(restorable.database)
    twice = [number for number, one in alone.items() if number in now and now[number].digest != one.digest]
    assert twice, "nothing was issued again, so nobody had anything to notice"
    for port in cluster.ports:
        wanted = Wanted(Filters(), key_headers(api_key=API_KEY), after=told_alone)
        subscriber = Subscriber(port, wanted)
        subscriber.open()
        assert subscriber.read_until(is_reset), subscriber.history.attempts[-1].ended
        subscriber.close()


def written(cluster: RunningCluster, key: str) -> str:
    """Create an entry on the first node; gives the position."""
    with cluster.client(0) as client:
        answer = client.post("/configs", json={"key": key, "environment": "alone", "value": 1})
    assert answer.status_code == 201, answer.text
    return answer.headers["X-OSC-Position"]


def written_or_refused(cluster: RunningCluster) -> bool:
    """Whether the first node takes a write."""
    with cluster.client(0) as client:
        answer = client.post("/configs", json={"key": "again", "environment": "alone", "value": 2})
    assert answer.status_code in {201, 503}, answer.text
    return answer.status_code == 201


def is_reset(history: History) -> bool:
    """Whether the latest connection was told to start over."""
    return any(frame.event == "reset" for frame in history.attempts[-1].frames)
