"""Owns faults of a real cluster, drawn and counted: processes that end or stop, ways that are cut or silent.

Everything it broke is whole again when it ends. Must not judge what comes of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

from tests.support.cluster import RunningCluster
from tests.support.links import Link

LONGEST_DOWN_SECONDS = 1.0
LONGEST_FROZEN_SECONDS = 4.0
LONGEST_APART_SECONDS = 6.0
"""Longer than a node that starts waits for its peers, so that some begin a new incarnation."""
LONGEST_PEACE_SECONDS = 0.7

Fault = Callable[[], None]


class Chaos:
    """Two kinds of faults, side by side: to processes, and to ways between nodes.

    Attributes:
        counts: How many of each there were.
    """

    def __init__(self, cluster: RunningCluster, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._random = random

    def run(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Break things, one of each kind at a time, for at least so long and until it is enough; then all is whole.

        Args:
            is_enough: On a slow machine so much time may not see what a test is to have seen. It is waited for twice
                as long as `seconds` at most.
        """
        least = time.monotonic() + seconds

        def is_over() -> bool:
            now = time.monotonic()
            return now >= least and (is_enough() or now >= least + 2 * seconds)

        kinds = ((self._kill, self._freeze, self._kill_worker), (self._isolate, self._isolate, self._part))
        with ThreadPoolExecutor(len(kinds)) as pool:
            for ended in [pool.submit(self._run, faults, is_over) for faults in kinds]:
                ended.result()

    def _run(self, faults: Sequence[Fault], is_over: Callable[[], bool]) -> None:
        for fault in self._drawn(faults):
            if is_over():
                return
            fault()
            self._pause(LONGEST_PEACE_SECONDS)

    def _drawn(self, faults: Sequence[Fault]) -> Iterator[Fault]:
        """Each as often as the others, in an order that nobody can foresee."""
        while True:
            yield from self._random.sample(faults, len(faults))

    def _kill(self) -> None:
        number = self._node()
        self.counts["node killed"] += 1
        self._cluster.kill(number)
        self._pause(LONGEST_DOWN_SECONDS)
        self._cluster.start(number)

    def _kill_worker(self) -> None:
        workers = self._cluster.nodes[self._node()].worker_pids()
        self.counts["worker killed"] += 1
        with suppress(ProcessLookupError):
            os.kill(self._random.choice(workers), signal.SIGKILL)

    def _freeze(self) -> None:
        node = self._cluster.nodes[self._node()]
        self.counts["node frozen"] += 1
        node.freeze()
        try:
            self._pause(LONGEST_FROZEN_SECONDS)
        finally:
            node.thaw()

    def _isolate(self) -> None:
        number = self._node()
        self._apart(self._cluster.ways_of(number), "node isolated")

    def _part(self) -> None:
        """One way only: a node is heard and does not hear."""
        self._apart([self._random.choice(list(self._cluster.links.values()))], "one way gone")

    def _apart(self, ways: Sequence[Link], what: str) -> None:
        how = self._random.choice(["cut", "silenced"])
        self.counts[f"{what}, {how}"] += 1
        for way in ways:
            if how == "cut":
                way.cut()
            else:
                way.silence()
        try:
            self._pause(LONGEST_APART_SECONDS)
        finally:
            for way in ways:
                way.heal()

    def _node(self) -> int:
        return self._random.choice(list(self._cluster.nodes))

    def _pause(self, longest: float) -> None:
        time.sleep(self._random.uniform(longest / 10, longest))
