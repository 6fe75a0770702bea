"""Owns what lies between nodes: connections in virtual time that are cut, slow, and carry bytes wrongly.

What TCP may do to a stream (delay, cut, deliver what a dead process still had sent) happens, and also what it may not
(drop, double, swap pieces), because a puller believes nothing. Must not know what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.simulator.world import MILLISECOND, SECOND, World

SILENCE = 3 * SECOND
"""A puller that hears nothing for so long gives the connection up."""

CONNECT = 2 * SECOND
"""How long a puller waits for an answer."""


@dataclass(frozen=True, slots=True)
class Hostility:
    """How likely each fault is: of a connection when it is made, of a piece when it is sent."""

    refuse: float = 0.02
    cut: float = 0.02
    delay: float = 0.05
    drop: float = 0.01
    duplicate: float = 0.01
    reorder: float = 0.01
    truncate: float = 0.01
    split: float = 0.2


class Ear(Protocol):
    """Who pulls."""

    def received(self, data: bytes) -> None:
        """The next piece of the stream."""

    def ended(self) -> None:
        """The connection is no more; said once."""


class Mouth(Protocol):
    """Who is pulled from."""

    def ended(self) -> None:
        """The connection is no more; said once."""


class Connection:
    """One stream from a source to a puller."""

    def __init__(self, network: Network, source: str, puller: str, ear: Ear) -> None:
        self._network = network
        self._world = network.world
        self._source = source
        self._puller = puller
        self._ear = ear
        self.mouth: Mouth | None = None
        self.is_open = True
        self._is_silent = False
        self._is_dying = False
        self._lingers_until = 0
        self._last = 0

    def send(self, data: bytes) -> None:
        """Send a piece to the puller, in the order of sending unless a fault says otherwise."""
        if not self.is_open or self._is_dying or not data:
            return
        world, likely = self._world, self._network.hostility
        if len(data) > 1 and world.happens(likely.split, "split"):
            at = world.random.randrange(1, len(data))
            self._send(data[:at])
            data = data[at:]
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._is_dying:
            return
        world, likely = self._world, self._network.hostility
        if world.happens(likely.cut, "cut"):
            self._die(world.between(0, 500 * MILLISECOND))
            return
        if world.happens(likely.drop, "drop"):
            return
        if world.happens(likely.truncate, "truncate"):
            data = data[: world.random.randrange(len(data))]
            self._deliver(data)
            self._die(0)
            return
        self._deliver(data, swap=world.happens(likely.reorder, "reorder"))
        if world.happens(likely.duplicate, "duplicate"):
            self._deliver(data)

    def _deliver(self, data: bytes, *, swap: bool = False) -> None:
        world = self._world
        latency = world.between(200, 3 * MILLISECOND)
        if world.happens(self._network.hostility.delay, "delay"):
            latency = world.between(20 * MILLISECOND, 2_800 * MILLISECOND)
        at = world.now + latency
        if swap:
            at += world.between(1 * MILLISECOND, 50 * MILLISECOND)
        else:
            at = self._last = max(at, self._last)
        world.later(at - world.now, lambda: self._arrive(data))

    def _arrive(self, data: bytes) -> None:
        if self._world.now < self._lingers_until:
            self._world.later(self._lingers_until - self._world.now, lambda: self._arrive(data))
        elif self.is_open and not self._is_silent:
            self._ear.received(data)

    def _die(self, delay: int) -> None:
        """Carry nothing more, and let both ends learn it: the puller after what is on its way."""
        self._is_dying = True
        world = self._world
        world.later(max(delay, self._last - world.now), self.close)

    def source_died(self) -> None:
        """The process at the source is gone; what it had sent may still arrive, and late."""
        self.mouth = None
        world = self._world
        if world.happens(0.5, "late bytes of a dead process"):
            self._lingers_until = world.now + world.between(0, SILENCE)
            self._last = max(self._last, self._lingers_until)
            self._die(0)
        else:
            self.close()

    def silence(self) -> None:
        """Nothing will be heard any more: the puller gives up in time."""
        self._is_silent = True
        self._world.later(SILENCE, self.close)

    def close(self) -> None:
        """Both ends learn that it is no more."""
        if not self.is_open:
            return
        self.is_open = False
        self._network.forget(self)
        if self.mouth is not None:
            self.mouth.ended()
        self._ear.ended()

    @property
    def ends(self) -> tuple[str, str]:
        """Source and puller."""
        return self._source, self._puller


Serve = Callable[[Connection], Mouth]


class Network:
    """All connections, and who cannot reach whom."""

    def __init__(self, world: World, hostility: Hostility) -> None:
        self.world = world
        self.hostility = hostility
        self._blocked: dict[tuple[str, str], None] = {}
        self._connections: dict[Connection, None] = {}

    def connect(self, source: str, puller: str, ear: Ear, serve: Callable[[], Serve | None]) -> Connection:
        """Ask a source for its stream.

        Args:
            serve: What the source does with the request when it arrives; None where nobody listens there.
        """
        connection = Connection(self, source, puller, ear)
        self._connections[connection] = None
        world = self.world
        if self.is_blocked(source, puller) or self.is_blocked(puller, source):
            world.later(CONNECT, connection.close)
        elif world.happens(self.hostility.refuse, "refuse"):
            world.later(world.between(0, 5 * MILLISECOND), connection.close)
        else:
            world.later(world.between(200, 2 * MILLISECOND), lambda: self._arrived(connection, serve))
        return connection

    def _arrived(self, connection: Connection, serve: Callable[[], Serve | None]) -> None:
        if not connection.is_open:
            if self.world.happens(0.5, "late request of a dead process"):
                self.world.later(
                    self.world.between(0, SILENCE), lambda: self._serve_nobody(connection, serve)
                )
            return
        listening = serve()
        try:
            if listening is not None:
                connection.mouth = listening(connection)
        finally:
            # Nobody listens, or who did was killed meanwhile.
            if connection.mouth is None:
                connection.close()

    def _serve_nobody(self, connection: Connection, serve: Callable[[], Serve | None]) -> None:
        """Answer a request whose sender is no more."""
        listening = serve()
        if listening is not None:
            listening(connection).ended()

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._connections.pop(connection, None)

    def is_blocked(self, sender: str, receiver: str) -> bool:
        """Whether what one sends does not reach the other."""
        return (sender, receiver) in self._blocked

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing pass from one to the other; what waits for it notices in time."""
        self._blocked[sender, receiver] = None
        for connection in tuple(self._connections):
            if connection.ends == (sender, receiver):
                connection.silence()

    def heal(self) -> None:
        """Let everything pass."""
        self._blocked.clear()

    def cut_one(self) -> bool:
        """Cut a connection; False where there is none."""
        if not self._connections:
            return False
        self.world.random.choice(tuple(self._connections)).close()
        return True
