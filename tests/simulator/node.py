"""Owns one simulated node: its log, its clock, and its processes, one after the other.

A process that is killed loses what was on its way and nothing that was committed (invariant 6). Must not decide what
a peer is believed: `link.py` calls the code that does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from oscd.events.position import Position
from oscd.events.standing import Standing
from oscd.replication.asking import LATE_SECONDS
from oscd.replication.claims import Claims
from oscd.replication.continuation import ASK_SECONDS, RECOVER_SECONDS, Answer, answer, decide
from oscd.replication.reception import Recent
from oscd.replication.ship import Identity, Pull
from oscd.replication.sight import is_fork_of
from oscd.replication.take import Held
from oscd.replication.wire import PeerStatus
from tests.simulator.ledger import Ledger
from tests.simulator.link import SALT, Link, Stream
from tests.simulator.log import Killed, MemoryFileLog
from tests.simulator.network import Connection, Mouth, Network, Serve
from tests.simulator.world import EPOCH, HOUR, SECOND, World
from tests.simulator.writing import Users

LOOK: Final = SECOND // 5
"""The steward looks at its links so often."""

KILL: Final = 0.005
"""How likely a process is killed right before a commit, and right after it."""


class Source(Protocol):
    """Whom a link can pull from."""

    def serve(self, pull: Pull) -> Serve | None:
        """What answers a request for the log; None where nobody does."""


Find = Callable[[str], Source]


class SimNode:
    """One node.

    Args:
        skew: µs that its clock is ahead.
        find: Gives a peer by its name.

    Attributes:
        copies: Of its file, the oldest first; each an earlier state of what it holds now.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        truth: Ledger,
        name: str,
        peers: Sequence[str],
        skew: int,
        find: Find,
    ) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.peers = peers
        self.skew = skew
        self.find = find
        self.copies: list[bytes] = []
        self.process: Process | None = None
        self._truth = truth
        self.log = MemoryFileLog(name, self.now, self._committed, self._dies, asks=bool(peers))
        self._users = Users(self.log, world.random)

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None

    @property
    def is_settled(self) -> bool:
        """Whether it has learned from every peer that it holds all of what that holds."""
        return self.process is not None and self.process.is_settled

    def now(self) -> int:
        """µs since 1970, by its clock."""
        return EPOCH + HOUR + self.world.now + self.skew

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.process is None:
            self.log.prepare()
            self.process = Process(self)
            self.process.open()

    def crash(self) -> None:
        """Kill the process, if one runs; another one is started some time, unless the node was never started."""
        if self.process is not None:
            process, self.process = self.process, None
            process.die()
            self.world.counts["crash"] += 1
            pause = self.world.random.choice([0, self.world.between(0, 8 * SECOND)])
            self.world.later(pause, self.start)

    def ask(self) -> str:
        """Let a user ask for something, as far as anybody answers; gives what came of it."""
        if self.process is None:
            return "request to a node that is down"
        try:
            outcome = self._users.ask()
        except Killed:
            return "request that nobody answered"
        return outcome.kind if outcome.refusal is None else f"{outcome.kind}: {outcome.refusal}"

    def serve(self, pull: Pull) -> Serve | None:
        """What answers a request for the log; None where no process does."""
        return None if self.process is None else self.process.serve(pull)

    def digests(self) -> list[bytes]:
        """The chain digests of all events it holds."""
        return [digest for (digest,) in self.log.reading().store.execute("SELECT digest FROM events")]

    def _dies(self, fault: str) -> bool:
        if self.process is None or not self.world.happens(KILL, fault):
            return False
        self.crash()
        return True

    def _committed(self, before: int) -> None:
        """Tell the truth what this node itself wrote, and ring the bell."""
        reading = self.log.reading()
        for change in reading.changes(before, 1000):
            event = change.event
            if event.origin.node_id == self.name and change.digest not in self._truth.facts:
                earlier = reading.find(event.origin.incarnation, event.seq - 1)
                self._truth.committed(event, change.digest, b"" if earlier is None else earlier.digest)
        if self.process is not None:
            self.process.ring()


class Process:
    """One process of a node, from its start to its death.

    Attributes:
        members: The names of its peers.
        recent: What came in lately.
        last_heard: By peer, the last status of it.
    """

    def __init__(self, node: SimNode) -> None:
        self.world = node.world
        self.network = node.network
        self.log = node.log
        self.now = node.now
        self.identity = Identity(node.name, secrets.token_hex(8), SALT)
        self.members = frozenset((node.name, *node.peers))
        self.recent = Recent()
        self.is_alive = True
        self._began = self.world.now
        self._settled_at: int | None = None
        self._is_unsettled = False
        self._claims = Claims()
        self._links = {peer: Link(self, peer, node.find(peer).serve) for peer in node.peers}
        self.last_heard: dict[str, PeerStatus] = {}
        self._streams: dict[Stream, Connection] = {}
        self._answers: dict[str, Position] = {}

    @property
    def is_settled(self) -> bool:
        """Whether every peer has said lately that this process was sent all it has."""
        return all(link.is_at_head for link in self._links.values())

    def open(self) -> None:
        """Pull from every peer."""
        for link in self._links.values():
            link.open()
        self._ask()

    def lives(self) -> bool:
        """Whether it has not been killed yet."""
        return self.is_alive

    def die(self) -> None:
        """Be killed."""
        self.is_alive = False
        for link in self._links.values():
            link.close()
        for connection in tuple(self._streams.values()):
            connection.source_died()

    def ring(self) -> None:
        """There may be more in the log."""
        self.beat()
        self._settle()
        if self._is_unsettled:
            self._renew()

    def sync(self) -> None:
        """A round of anti-entropy."""
        for link in self._links.values():
            link.try_held_again()

    @property
    def held(self) -> dict[str, Held]:
        """By incarnation, the origins of which nothing more is taken from some peer now."""
        return {name: held for link in self._links.values() for name, held in link.held.items()}

    def beat(self) -> None:
        """Let every stream say how this node stands."""
        for stream in self._streams:
            stream.ring()

    def serve(self, pull: Pull) -> Serve:
        """Answer a request for the log."""

        def serve(connection: Connection) -> Mouth:
            if pull.asks:
                self.log.change(lambda writing: writing.fence(pull.node_id, pull.run))
            stream = Stream(self, pull, connection)
            self._streams[stream] = connection
            return stream

        return serve

    def ended(self, stream: Stream) -> None:
        """A puller is gone."""
        self._streams.pop(stream, None)

    def asks(self) -> bool:
        """Whether it has not settled yet where its log ended."""
        return self.log.reading().own().standing is not Standing.CONTINUES

    def heard(self, peer: str, status: PeerStatus) -> None:
        """A peer told where it stands."""
        if self._links[peer].asks:
            self._answers[peer] = status.position
        self._claims.heard(self.log.reading().own().origin.incarnation, status.position)
        self.last_heard[peer] = status
        self._look_back()
        self._settle()

    def lost(self, peer: str) -> None:
        """A peer is gone again, and so is what it answered."""
        self._answers.pop(peer, None)

    def _ask(self) -> None:
        self._began, self._is_unsettled = self.world.now, self.asks()
        self.world.later(int(ASK_SECONDS * SECOND) + 1, self._settle)

    def _look_back(self) -> None:
        """Ask again where a peer turns out to have had more of the own history when all had answered."""
        own = self.log.reading().own()
        is_late = self._settled_at is None or self.world.now - self._settled_at >= LATE_SECONDS * SECOND
        if is_late or own.standing is not Standing.CONTINUES:
            return
        if self._claims.greatest(own.origin.incarnation) > own.seq:
            self.log.change(lambda writing: writing.settle(Standing.ASKING))
            self.world.counts["standing: asks again"] += 1
            self._answers.clear()
            self._ask()
            self._renew()

    def _settle(self) -> None:
        """Go on with the own numbers, or begin anew, as the peers' answers have it (invariant 9)."""
        if not self.is_alive or not self._is_unsettled:
            return
        reading = self.log.reading()
        own = reading.own()
        if own.standing is Standing.CONTINUES:
            return
        positions = [self._answers.get(peer) for peer in self._links]
        answers = [None if position is None else answer(reading, own, position) for position in positions]
        if is_fork_of(own.origin, self.held.values()):
            answers.append(Answer(own.seq, is_contradicted=True))
        asked = (self.world.now - self._began) / SECOND
        standing = decide(
            own,
            answers,
            is_over=asked >= ASK_SECONDS,
            is_given_up=asked >= ASK_SECONDS + RECOVER_SECONDS,
            claimed=self._claims.greatest(own.origin.incarnation),
        )
        if standing is not own.standing:
            self.log.change(lambda writing: writing.settle(standing))
            self.world.counts[f"standing: {standing}"] += 1
            if standing is Standing.CONTINUES and self._settled_at is None:
                self._settled_at = self.world.now
            self._renew()

    def _renew(self) -> None:
        # Not at once: this may have been called by a link that is reading what came.
        self.world.later(LOOK, self._renew_links)

    def _renew_links(self) -> None:
        if self.is_alive:
            self._is_unsettled = self.asks()
            for link in self._links.values():
                link.renew()
