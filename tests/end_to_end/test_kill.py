"""`kill -9` of every process of a node, again and again, under writers who remember what they were promised."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.conftest import StartNode
from tests.support.node import RunningNode, run_oscd
from tests.support.waiting import wait_until
from tests.support.writers import ENVIRONMENT, Writer

KILLS = 50
NODES = 2
"""Killed side by side, as most of the time goes into starting anew; each has all the writers to itself."""
WRITERS = 32
KEYS_EACH = 4
LONGEST_LIFE = 0.3
"""Seconds from the first answer of a life to its end, at most."""


@pytest.mark.timeout(400)
def test_acknowledged_writes_outlive_kill_9(start_node: StartNode) -> None:
    """Invariants 3 and 6: after each of 50 kills at random moments every acknowledged write is there, what was
    not acknowledged is there whole or not at all, the statistics agree, and at the end `oscd verify` does.
    """
    seed = random.getrandbits(64)
    print(f"seed {seed}")
    seeds = [f"{seed}-{number}" for number in range(NODES)]
    with ThreadPoolExecutor(NODES) as pool:
        lives = [pool.submit(_kill_again_and_again, start_node(OSC_WORKERS="2"), each) for each in seeds]
        for life in lives:
            life.result()


def _kill_again_and_again(node: RunningNode, seed: str) -> None:
    dice = random.Random(seed)
    writers = [
        Writer([f"w{number}-{key}" for key in range(KEYS_EACH)], random.Random(f"{seed}-{number}"))
        for number in range(WRITERS)
    ]
    for _ in range(KILLS // NODES):
        before = _acknowledged(writers)
        with _writing(writers, node):
            wait_until(lambda: _acknowledged(writers) > before, what="an acknowledged write")  # noqa: B023
            time.sleep(dice.uniform(0, LONGEST_LIFE))
        node.restart()
        _require_what_was_promised(node, writers)
    assert node.terminate() == 0
    verified = run_oscd("verify", directory=node.directory, settings=node.settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@contextmanager
def _writing(writers: Sequence[Writer], node: RunningNode) -> Iterator[None]:
    """All writers at work until the block ends, and the node with it."""
    with ThreadPoolExecutor(len(writers)) as pool:
        try:
            ends = [pool.submit(writer.run, node.port) for writer in writers]
            yield
        finally:
            node.kill_all()
        for end in ends:
            end.result()


def _acknowledged(writers: Sequence[Writer]) -> int:
    return sum(writer.acknowledged for writer in writers)


def _require_what_was_promised(node: RunningNode, writers: Sequence[Writer]) -> None:
    with node.client() as client:
        entries = client.get("/configs", params={"environment": ENVIRONMENT}).raise_for_status().json()
        statistics = client.get("/stats").raise_for_status().json()
    found = {entry["key"]: entry["value"] for entry in entries}
    for writer in writers:
        writer.settle(found)
    assert len(found) == len(entries) == statistics["total_keys"]
