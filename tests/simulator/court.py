"""Owns three honest nodes at work, a liar that one of them listens to, and the finding that no harm was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from oscd.events.event import Origin
from oscd.replication.wire import EventFrame
from tests.simulator.cluster import Cluster
from tests.simulator.judge import are_equal, judge
from tests.simulator.liar import Liar, event_of, frames_of
from tests.simulator.network import Hostility
from tests.simulator.scenario import LINKS
from tests.simulator.world import EPOCH, HOUR, SECOND, World, chance_of

QUIET: Final = Hostility(**dict.fromkeys(Hostility.__dataclass_fields__, 0.0))

NUMBER: Final = 3


@dataclass(frozen=True, slots=True)
class Court:
    """Three honest nodes, and a liar that node-0 listens to."""

    world: World
    cluster: Cluster
    liar: Liar

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run_until(self.world.now + int(seconds * SECOND))

    def work(self) -> None:
        """Let every node be asked for some changes, and those reach the others."""
        for name in self.cluster.names:
            for _ in range(4):
                self.cluster.node(name).ask()
                self.wait(0.02)
        self.wait(2)

    def hear(self, *told: EventFrame | bytes) -> None:
        """Let the liar tell this from now on, while work goes on."""
        self.liar.tell(*told)
        self.wait(2)
        self.work()

    def know(self, frames: Sequence[EventFrame]) -> None:
        """These events may be there, though nobody needs to have them."""
        for frame in frames:
            self.liar.invents(event_of(frame), frame.digest, b"")

    def said(self, sentence: str) -> bool:
        """Whether a link gave this as a reason."""
        return any(sentence in name for name in self.world.counts)

    def holds(self, name: str, frame: EventFrame) -> bool:
        """Whether a node has an event."""
        return frame.digest in self.cluster.node(name).digests()

    def origins(self, name: str) -> set[Origin]:
        """Whose events a node has."""
        return {event_of(frame).origin for frame in frames_of(self.cluster.node(name).log)}

    def acquit(self) -> None:
        """Find that nothing was harmed: equal nodes, no event but real ones, clocks where they were.

        Raises:
            AssertionError: Something was.
        """
        logs = self.cluster.logs
        assert are_equal(logs), "honest nodes are kept apart by a lie"
        judge(logs, self.cluster.truth, is_causal=True, thoroughly=True)
        for log in logs:
            (greatest,) = log.reading().store.execute("SELECT max(stamp) FROM origins").fetchone()
            assert greatest <= EPOCH + HOUR + self.world.now, "a lie moved a clock"


@contextmanager
def court() -> Iterator[Court]:
    """Three nodes at work, and a liar that says nothing yet and has written a few events."""
    world = World(Random().randrange(10**9))
    print(f"seed {world.seed}")
    world.is_calm = True
    with chance_of(world.random):
        cluster = Cluster(world, QUIET, NUMBER, LINKS["mesh"](NUMBER))
        liar = Liar(world, cluster.truth)
        cluster.admit(liar, heard_by="node-0")
        for name in cluster.names:
            cluster.add(name, 0)
        cluster.start_all()
        held = Court(world, cluster, liar)
        try:
            held.work()
            while len(frames_of(liar.log)) < 5:
                liar.users.ask()
            yield held
        finally:
            liar.log.close()
            cluster.close()
