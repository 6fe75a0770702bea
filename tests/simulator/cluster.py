"""Owns the nodes of a run, and what becomes of their disks. Must not judge them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tests.simulator.ledger import Ledger
from tests.simulator.log import MemoryFileLog
from tests.simulator.network import Hostility, Network
from tests.simulator.node import SimNode, Source
from tests.simulator.world import World


class Stranger(Source, Protocol):
    """A peer that is no node of ours."""

    name: str


class Cluster:
    """All nodes.

    Args:
        number: Of nodes.
        links: Who is whose peer, by number.

    Attributes:
        names: Of all nodes.
        truth: What really happened.
    """

    def __init__(
        self, world: World, hostility: Hostility, number: int, links: Sequence[tuple[int, int]]
    ) -> None:
        self.network = Network(world, hostility)
        self.truth = Ledger()
        self.names = [f"node-{one}" for one in range(number)]
        self._world = world
        self._peers = {
            name: [self.names[b] for a, b in links if a == one] for one, name in enumerate(self.names)
        }
        self._nodes: dict[str, SimNode] = {}
        self._strangers: dict[str, Stranger] = {}

    def admit(self, stranger: Stranger, heard_by: str) -> None:
        """Have a node that is not installed yet take somebody else for a peer, too."""
        self._strangers[stranger.name] = stranger
        self._peers[heard_by].append(stranger.name)

    def add(self, name: str, skew: int) -> None:
        """Install a node; it does not run yet."""
        self._nodes[name] = SimNode(
            self._world, self.network, self.truth, name, self._peers[name], skew, self._source
        )

    def node(self, name: str) -> SimNode:
        """The node of that name."""
        return self._nodes[name]

    def _source(self, name: str) -> Source:
        return self._strangers[name] if name in self._strangers else self._nodes[name]

    def any(self) -> SimNode:
        """One of them."""
        return self._nodes[self._world.random.choice(self.names)]

    @property
    def logs(self) -> list[MemoryFileLog]:
        """The logs of all nodes."""
        return [node.log for node in self._nodes.values()]

    @property
    def is_settled(self) -> bool:
        """Whether every node has been sent all that its peers hold."""
        return all(node.is_settled for node in self._nodes.values())

    def start_all(self) -> None:
        """Start what does not run."""
        for node in self._nodes.values():
            node.start()

    def beat(self) -> None:
        """Let every stream say that it lives, as each does once a second."""
        for node in self._nodes.values():
            if node.process is not None:
                node.process.beat()

    def sync(self) -> None:
        """Let every node do a round of anti-entropy."""
        for node in self._nodes.values():
            if node.process is not None:
                node.process.sync()

    def restore(self, node: SimNode, copy: bytes) -> None:
        """Put an older copy of a node's file back; what it alone had written since is lost."""
        before = node.digests()
        node.log.put_back(copy)
        self._lose(node, before)

    def wipe(self, node: SimNode) -> None:
        """Give a node an empty disk."""
        before = node.digests()
        node.log.wipe()
        self._lose(node, before)

    def close(self) -> None:
        """Be done with all of them."""
        for node in self._nodes.values():
            node.log.close()

    def _lose(self, node: SimNode, before: Sequence[bytes]) -> None:
        """What was on that disk and is on none now."""
        held = {digest for other in self._nodes.values() for digest in other.digests()}
        self.truth.lose([digest for digest in before if digest not in held])
