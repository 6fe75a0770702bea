"""Owns one run: a few nodes, users and subscribers, faults until they stop, then rest and judgement.

What happens is drawn from the seed alone. Must not know what is sent between nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

from oscd.feed.frame import StreamFilter
from oscd.streams.subscription import HOLD_SECONDS
from tests.simulator.cluster import Cluster
from tests.simulator.judge import are_equal, judge
from tests.simulator.network import Hostility
from tests.simulator.reader import Reader
from tests.simulator.world import HOUR, MILLISECOND, SECOND, World, chance_of
from tests.simulator.writing import CATEGORIES, ENVIRONMENTS, KEYS

PATIENCE = 60 * SECOND
"""Nodes that have not come to rest so long after the last fault never will."""

LINKS = {
    "mesh": lambda n: [(a, b) for a in range(n) for b in range(n) if a != b],
    "chain": lambda n: [(a, b) for a in range(n) for b in range(n) if abs(a - b) == 1],
    "star": lambda n: [(a, b) for a in range(n) for b in range(n) if a != b and 0 in (a, b)],
    "ring": lambda n: [(a, b) for a in range(n) for b in range(n) if (a - b) % n in (1, n - 1)],
}
"""Who is whose peer, by shape and number of nodes."""


SIZES = {
    "oscd.feed.tail.PAGE_EVENTS": (2, 5, 64),
    "oscd.replication.ship.PAGE_EVENTS": (1, 3, 500),
    "oscd.replication.reception.BATCH_EVENTS": (1, 2, 500),
    "oscd.replication.reception.LARGE_EVENTS": (1, 2000, 2000),
    "oscd.events.sqlite.transaction.APPEND_PAGE": (1, 500),
}
"""What a run of a few events would never fill, so that some runs have it small."""

AS_TCP = Hostility(drop=0, duplicate=0, reorder=0, truncate=0)
"""Only what may happen to a stream between honest nodes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of.

    Attributes:
        requests: How many a run has at least and at most.
        weights: How often each kind of step happens, by name.
        thorough: One run in so many is proved as `oscd verify` proves a log.
    """

    nodes: tuple[int, int] = (3, 4)
    requests: tuple[int, int] = (20, 45)
    readers: int = 2
    skew: int = HOUR
    shapes: Sequence[str] = ("mesh", "mesh", "mesh", "chain", "star", "ring")
    hostility: Hostility = field(default_factory=Hostility)
    weights: tuple[tuple[str, int], ...] = (
        ("request", 60),
        ("read", 20),
        ("move", 6),
        ("copy", 4),
        ("crash", 3),
        ("restore", 2),
        ("wipe", 1),
        ("partition", 3),
        ("heal", 3),
        ("pause", 2),
        ("cut", 2),
        ("add", 1),
    )
    thorough: int = 25


def run(seed: int, plan: Plan) -> Counter[str]:
    """One run; gives what happened, by name.

    Raises:
        AssertionError: Something does not hold that must.
    """
    with scenario_of(seed, plan) as scenario:
        scenario.play()
        return scenario.world.counts


@contextmanager
def scenario_of(seed: int, plan: Plan) -> Iterator[Scenario]:
    """The run of a seed, before anything has happened."""
    world = World(seed)
    random = world.random
    with ExitStack() as small:
        small.enter_context(chance_of(random))
        for name, sizes in SIZES.items():
            small.enter_context(patch(name, random.choice(sizes)))
        if random.random() < 0.3:
            plan = replace(plan, hostility=AS_TCP)
        scenario = Scenario(world, plan)
        try:
            yield scenario
        finally:
            scenario.cluster.close()


class Scenario:
    """What happens in one run."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self._plan = plan
        random = world.random
        number = random.randint(*plan.nodes)
        links = LINKS[random.choice(plan.shapes)](number)
        self._is_mesh = len(links) == number * (number - 1)
        self.cluster = Cluster(world, plan.hostility, number, links)
        for name in self.cluster.names:
            skew = random.choice([0, 0, random.randint(-plan.skew, plan.skew)])
            self.cluster.add(name, skew)
        self._late = [self.cluster.names[-1]] if random.random() < 0.3 else []
        self._readers = [Reader(world, _wanted(world), self.cluster.truth) for _ in range(plan.readers)]
        self._steps: dict[str, Callable[[], None]] = {
            "request": self._request,
            "read": self._read,
            "move": self._move,
            "copy": self._copy,
            "crash": self._crash,
            "restore": self._restore,
            "wipe": self._wipe,
            "partition": self._partition,
            "heal": self.cluster.network.heal,
            "pause": self._pause,
            "cut": self._cut,
            "add": self._add,
        }

    def play(self) -> None:
        """Let it happen, come to rest, and be judged.

        Raises:
            AssertionError: Something does not hold.
        """
        world, random = self.world, self.world.random
        for name in self.cluster.names:
            if name not in self._late:
                self.cluster.node(name).start()
        names = [name for name, _ in self._plan.weights]
        weights = [weight for _, weight in self._plan.weights]
        left = random.randint(*self._plan.requests)
        while left:
            pause = world.between(0, 400 * MILLISECOND if random.random() < 0.5 else 4 * MILLISECOND)
            world.run_until(world.now + pause)
            step = random.choices(names, weights)[0]
            self._steps[step]()
            left -= step == "request"
        self._rest()
        self._judge()

    def _rest(self) -> None:
        """Stop every fault and wait until all nodes and readers have come to rest."""
        world = self.world
        world.is_calm = True
        self.cluster.network.heal()
        self.cluster.start_all()
        end = world.now + PATIENCE
        while not (self.cluster.is_settled and are_equal(self.cluster.logs)):
            assert world.now < end, "nodes did not become equal"
            self.cluster.beat()
            self.cluster.sync()
            world.run_until(world.now + SECOND)
        world.counts["rest s"] += (world.now - end + PATIENCE) // SECOND

    def _judge(self) -> None:
        world = self.world
        judge(
            self.cluster.logs,
            self.cluster.truth,
            is_causal=not (world.counts["drop"] or world.counts["reorder"]),
            thoroughly=world.random.randrange(self._plan.thorough) == 0,
        )
        for reader in self._readers:
            self._move_reader(reader)
        world.run_until(world.now + int(HOLD_SECONDS + 1) * SECOND)
        for reader in self._readers:
            reader.read(100)
            reader.judge(is_final=True)

    def _request(self) -> None:
        node = self.cluster.any()
        self.world.counts[node.ask()] += 1

    def _read(self) -> None:
        for reader in self._readers:
            reader.read(self.world.random.randint(1, 3))

    def _move(self) -> None:
        self._move_reader(self.world.random.choice(self._readers))

    def _move_reader(self, reader: Reader) -> None:
        node = self.cluster.any()
        reader.leave()
        reader.judge()
        if node.process is not None:
            reader.connect(node.log, node.process.lives)

    def _copy(self) -> None:
        node = self.cluster.any()
        node.copies.append(node.log.copy())

    def _crash(self) -> None:
        self.cluster.any().crash()

    def _restore(self) -> None:
        node = self.cluster.any()
        # Invariant 9 holds for what the configured peers know. Where a node does not ask all others, its only peer
        # may have been wiped just now, and what a third one knows comes too late.
        if node.copies and self._is_mesh:
            # What was written last is still on its way, if it has left at all.
            self.world.counts[node.ask()] += 1
            self.world.run_until(self.world.now + self.world.between(0, 20 * MILLISECOND))
            node.crash()
            number = self.world.random.randrange(len(node.copies))
            # A copy newer than this one shows a past that from now on never was.
            del node.copies[number + 1 :]
            self.cluster.restore(node, node.copies[number])
            self.world.counts["restore"] += 1

    def _wipe(self) -> None:
        node = self.cluster.any()
        node.crash()
        node.copies.clear()
        self.cluster.wipe(node)
        self.world.counts["wipe"] += 1

    def _add(self) -> None:
        while self._late:
            self.cluster.node(self._late.pop()).start()
            self.world.counts["node added"] += 1

    def _partition(self) -> None:
        if len(self.cluster.names) < 2:
            return
        a, b = self.world.random.sample(self.cluster.names, 2)
        self.cluster.network.block(a, b)
        if self.world.random.random() < 0.7:
            self.cluster.network.block(b, a)
            self.world.counts["partition"] += 1
        else:
            self.world.counts["partition one way"] += 1

    def _pause(self) -> None:
        self.world.run_until(self.world.now + self.world.between(2 * SECOND, 12 * SECOND))

    def _cut(self) -> None:
        self.world.counts["disconnect"] += self.cluster.network.cut_one()


def _wanted(world: World) -> StreamFilter:
    """What a subscriber filters by, if it does."""
    random = world.random
    return StreamFilter(
        key=random.choice([None, None, random.choice(KEYS)]),
        environment=random.choice([None, None, random.choice(ENVIRONMENTS)]),
        category=random.choice([None, random.choice([c for c in CATEGORIES if c])]),
    )
