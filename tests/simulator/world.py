"""Owns virtual time and chance: what happens when, how often each fault happened, what is drawn at random.

One seed decides everything, so a run can be repeated. Must not know a node.
"""

from __future__ import annotations

import heapq
import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from unittest.mock import patch

from tests.simulator.log import Killed

MILLISECOND = 1_000
SECOND = 1_000_000
HOUR = 3_600 * SECOND

EPOCH = 1_760_000_000 * SECOND
"""µs since 1970 when every run begins."""


class World:
    """The time and the chance of one run.

    Attributes:
        now: µs since the run began.
        counts: What happened, by name.
        is_calm: Whether faults have stopped.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0
        self.counts: Counter[str] = Counter()
        self.is_calm = False
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Do something in so many µs; what is due at one time is done in the order it was asked for."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), action))

    def run_until(self, end: int) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= end:
            self.step()
        self.now = end

    def step(self) -> bool:
        """Let the next thing happen; False where nothing is to come."""
        if not self._due:
            return False
        self.now, _, action = heapq.heappop(self._due)
        with suppress(Killed):
            action()
        return True

    def happens(self, probability: float, fault: str) -> bool:
        """Whether a fault happens now; it is counted where it does, and none does once it is calm."""
        if self.is_calm or self.random.random() >= probability:
            return False
        self.counts[fault] += 1
        return True

    def between(self, least: int, most: int) -> int:
        """A number of µs."""
        return int(least + (most - least) * self.random.random())


@contextmanager
def chance_of(random: Random) -> Iterator[None]:
    """Let whatever oscd draws (incarnations, ids of events) come from the seed."""
    with (
        patch.object(secrets, "token_bytes", random.randbytes),
        patch.object(secrets, "token_hex", lambda size: random.randbytes(size).hex()),
    ):
        yield
