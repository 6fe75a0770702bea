"""Three nodes under writers while processes are killed and stopped and ways are cut: promises hold."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.changes import CATEGORIES, ENVIRONMENTS
from tests.support.chaos import Chaos
from tests.support.cluster import API_KEY, MakeCluster, RunningCluster
from tests.support.history import Filters
from tests.support.log_file import EntryName, Log, lacking, log_of, winners
from tests.support.node import run_oscd
from tests.support.roving import Acknowledged, RovingSubscriber, RovingWriter, steps_back
from tests.support.subscriber import stands_at
from tests.support.truth import Held, Model
from tests.support.waiting import PATIENCE

SECONDS = 60
WRITERS = 16
KEYS = [f"k{number}" for number in range(20)]
LEAST_WRITES = 1000
EQUAL_WITHIN_SECONDS = 5.0
LONGEST_STAY_SECONDS = 3.0
SHOWN = 10

FAULTS = {
    "node killed": 3,
    "worker killed": 3,
    "node frozen": 3,
    "node isolated, cut": 1,
    "node isolated, silenced": 1,
}
"""What must have happened, and how often at least."""

FILTERS = (
    Filters(),
    Filters(category="red"),
    Filters(environment=ENVIRONMENTS[0]),
    Filters(key=KEYS[0]),
    Filters(environment=ENVIRONMENTS[1], category=CATEGORIES[1]),
)


@pytest.mark.timeout(400)
def test_nothing_is_lost_and_all_end_equal(make_cluster: MakeCluster, seed: str) -> None:
    """Invariants 2, 5, 6: 16 writers on three nodes of two workers while for 60 s and more nodes and workers are
    killed, nodes stopped, and ways cut and silenced. Within 5 s of the end all logs are equal, hold every write that
    was acknowledged, and name each number once; who listened meanwhile, on any node, holds the final state.
    """
    cluster = make_cluster(3, settings={"OSC_WORKERS": "2"})
    cluster.start()
    cluster.await_ready()
    chaos = Chaos(cluster, random.Random(f"{seed}-chaos"))
    writers = [
        RovingWriter(cluster.ports, KEYS, random.Random(f"{seed}-w{number}"), API_KEY)
        for number in range(WRITERS)
    ]
    subscribers = [
        RovingSubscriber(cluster.ports, filters, random.Random(f"{seed}-s{number}"), API_KEY)
        for number, filters in enumerate(FILTERS)
    ]

    def is_enough() -> bool:
        written = sum(len(writer.acknowledged) for writer in writers)
        return written >= LEAST_WRITES and not too_seldom(chaos)

    with at_work(writers, subscribers):
        chaos.run(SECONDS, is_enough)
        ended_at = time.monotonic()
    standing = cluster.await_equal(ended_at + EQUAL_WITHIN_SECONDS - time.monotonic())
    print(dict(chaos.counts), dict(sum((writer.answers for writer in writers), Counter())))
    log = require_one_log(cluster)
    require_kept([write for writer in writers for write in writer.acknowledged], log)
    assert not [one for writer in writers for one in writer.unexpected][:SHOWN]
    require_final_state(subscribers, standing.position, log)
    assert not too_seldom(chaos)
    require_same_answers(cluster, log)
    cluster.await_synced()
    require_verified(cluster)


def too_seldom(chaos: Chaos) -> dict[str, int]:
    """The faults that have not happened often enough, and how often they have."""
    return {what: chaos.counts[what] for what, least in FAULTS.items() if chaos.counts[what] < least}


@contextmanager
def at_work(writers: Sequence[RovingWriter], subscribers: Sequence[RovingSubscriber]) -> Iterator[None]:
    """All of them at work until the block ends; writers have then been answered."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(writers) + len(subscribers)) as pool:
        running = [pool.submit(writer.run, stop) for writer in writers]
        running += [pool.submit(one.run, stop, LONGEST_STAY_SECONDS) for one in subscribers]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result(PATIENCE)


def require_one_log(cluster: RunningCluster) -> Log:
    """The events that every node holds, the same under each number; gives them."""
    logs = [log_of(node.database) for node in cluster.nodes.values()]
    digests = [{number: one.digest for number, one in log.items()} for log in logs]
    assert digests[0] == digests[1] == digests[2]
    return logs[0]


def require_kept(writes: Sequence[Acknowledged], log: Log) -> None:
    """Every acknowledged write is in the log, and so is all that its position covers."""
    assert len(writes) >= LEAST_WRITES, f"only {len(writes)} writes were acknowledged"
    assert len({write.port for write in writes}) == 3
    tags = {one.event.event_id.hex() for one in log.values()}
    lost = [
        write
        for write in writes
        if lacking(log, write.position) or not (write.tag is None or write.tag in tags)
    ]
    assert not lost, f"{len(lost)} acknowledged writes are lost: {lost[:SHOWN]}"


def require_final_state(subscribers: Sequence[RovingSubscriber], position: str, log: Log) -> None:
    """Each subscriber, at whatever node it ends, holds what the log makes of what it filters."""
    state = state_of(log)
    for subscriber in subscribers:
        subscriber.finish(stands_at(position), PATIENCE)
        filters = subscriber.history.filters
        due = {name: held for name, held in state.items() if filters.match(*name, held.category)}
        assert Model.of(subscriber.history).held == due, filters
        found = steps_back(subscriber.history)
        assert not found, f"{filters}: {found[:SHOWN]}"
    moves, resets = sum(one.moves for one in subscribers), sum(one.resets for one in subscribers)
    print(f"{moves} moves, {resets} resets, {sum(one.unreached for one in subscribers)} not reached")
    assert moves >= len(subscribers) * SECONDS / LONGEST_STAY_SECONDS / 4


def state_of(log: Log) -> Mapping[EntryName, Held]:
    """What the events make of each entry."""
    return {name: Held(event.version, event.category) for name, event in winners(log).items()}


def require_same_answers(cluster: RunningCluster, log: Log) -> None:
    """Every node answers with the same entries, which are the winners."""
    answers = []
    for number in cluster.nodes:
        with cluster.client(number) as client:
            listed = client.get("/configs", params={"mode": "full"}).raise_for_status().json()
        answers.append({(one["environment"], one["key"]): one | {"id": None} for one in listed})
    assert answers[0] == answers[1] == answers[2]
    assert {name: Held(one["version"], one["category"]) for name, one in answers[0].items()} == state_of(log)


def require_verified(cluster: RunningCluster) -> None:
    """`oscd verify` has nothing to say of a log that went through all of it."""
    node = cluster.nodes[0]
    assert node.terminate() == 0
    verified = run_oscd("verify", directory=node.directory, settings=node.settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
