"""Owns both ends of a link in virtual time: who pulls, and the stream it is sent.

It stands where `puller.py` and the endpoint of the stream stand in a real node: it moves bytes and waits. What is
sent, and what is believed of it, comes from the code that ships.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from oscd.replication import ship, take
from oscd.replication.again import Again
from oscd.replication.compare import lag
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.reception import Recent, Reception
from oscd.replication.take import Sender
from oscd.replication.verify import Terms
from oscd.replication.wire import Goodbye, PeerStatus, status_frame
from oscd.replication.writes import Bounds, LargeWrite, Writes
from tests.simulator.log import MemoryFileLog
from tests.simulator.network import Connection, Network, Serve
from tests.simulator.world import MILLISECOND, SECOND, World

SHIP: Final = 8 * MILLISECOND
"""How long a stream waits for company after a commit."""

BACKOFF: Final = (100 * MILLISECOND, SECOND)
"""Before the first retry, and at most."""

SALT: Final = "5a17" * 16

BOUNDS: Final = Bounds(max_body_bytes=64 * 1024, max_write_bytes=256 * 1024)

_DIRECTORY: Final = Path(tempfile.gettempdir())


class Home(Protocol):
    """What a process is to its links and streams."""

    world: World
    network: Network
    log: MemoryFileLog
    identity: ship.Identity
    members: frozenset[str]
    recent: Recent
    is_alive: bool

    def now(self) -> int:
        """µs since 1970 by its clock."""

    def asks(self) -> bool:
        """Whether it has not settled yet where its log ended."""

    def heard(self, peer: str, status: PeerStatus) -> None:
        """A peer told where it stands."""

    def lost(self, peer: str) -> None:
        """A peer is gone again."""

    def ended(self, stream: Stream) -> None:
        """A puller is gone."""


class Link:
    """A process pulling from one peer.

    Attributes:
        is_at_head: Whether the peer said last that it has sent all it holds.
    """

    def __init__(self, home: Home, peer: str, serve: Callable[[ship.Pull], Serve | None]) -> None:
        self._home = home
        self._peer = peer
        self._serve = serve
        self._connection: Connection | None = None
        self._reception = Reception(BOUNDS, _DIRECTORY, home.recent)
        self._sender: Sender | None = None
        self._runs: Mapping[str, str] = {}
        self._again = Again(lambda: home.world.now / SECOND)
        self._backoff = BACKOFF[0]
        self._asked_as: tuple[str | None, bool] = (None, False)
        self.is_at_head = False

    @property
    def held(self) -> Mapping[str, take.Held]:
        """By incarnation, the origins of which nothing more is taken from this stream."""
        return self._reception.held

    @property
    def asks(self) -> bool:
        """Whether the peer was asked where the own origin ended."""
        return self._asked_as[1]

    def open(self) -> None:
        """Ask the peer for its stream, unless the process is gone."""
        if not self._home.is_alive or self._connection is not None:
            return
        home = self._home
        reading = home.log.reading()
        self._asked_as = skip, asks = self._ask_as()
        identity = home.identity
        pull = ship.Pull(
            after=reading.position(),
            node_id=identity.node_id,
            run=identity.run,
            salt=SALT,
            skip=skip,
            asks=asks,
        )
        self._reception = Reception(BOUNDS, _DIRECTORY, home.recent)
        self._sender, self._runs = None, reading.runs()
        self._connection = home.network.connect(self._peer, identity.node_id, self, lambda: self._serve(pull))

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()

    def renew(self) -> None:
        """Begin anew where it asks for what is not true any more of the own origin, as the steward has it."""
        if self._connection is not None and self._asked_as != self._ask_as():
            self.begin_anew()

    def begin_anew(self) -> None:
        """Ask for the stream again at once."""
        self.close()
        self.open()

    def try_held_again(self) -> None:
        """What each sync interval does."""
        if self._connection is not None and self._again.is_due(self._reception.held.values()):
            self.begin_anew()

    def _ask_as(self) -> tuple[str | None, bool]:
        """What the peer need not send, and whether it is asked where the own origin ended."""
        asks = self._home.asks()
        return (None if asks else self._home.log.reading().own().origin.incarnation, asks)

    def received(self, data: bytes) -> None:
        """Take in what has come."""
        if not self._home.is_alive:
            return
        try:
            for item in self._reception.feed(data):
                if isinstance(item, PeerStatus):
                    self._hear(item)
                elif isinstance(item, Goodbye):
                    raise PeerRefused("it said goodbye.")
                else:
                    self._take(item)
            if (writes := self._reception.pending()) is not None:
                self._take(writes)
        except PeerRefused as refused:
            self._home.world.counts[f"refused: {refused}"] += 1
            self.close()
        finally:
            for held in self.held.values():
                self._home.world.counts[f"held: {held.reason}"] += 1

    def _hear(self, status: PeerStatus) -> None:
        home = self._home
        if self._sender is None:
            sender = Sender(status.node_id, status.run)
            before = self._runs.get(status.node_id)
            if not home.log.change(lambda writing: take.meet(writing, sender, before)):
                raise PeerRefused("it has started anew meanwhile.")
            self._sender = sender
        self._backoff = BACKOFF[0]
        self.is_at_head = status.is_at_head
        home.heard(self._peer, status)
        is_all = status.is_at_head and not self._reception.held
        if is_all and lag(home.log.reading().position(), status.position):
            raise PeerRefused("what it sent last was lost.")

    def _take(self, batch: Writes | LargeWrite) -> None:
        home, sender = self._home, self._sender
        if sender is None:
            batch.close()
            raise PeerRefused("it begins without a status.")
        terms = Terms(home.now(), home.members)
        try:
            held = home.log.change(lambda writing: take.take(writing, batch, terms, sender)).held
            if isinstance(batch, Writes):
                passed = {one.origin.incarnation for one in held}
                home.recent.note(
                    one.digest for one in batch.events if one.event.origin.incarnation not in passed
                )
        except OriginHeld as refused:
            held = (take.held_in(batch, refused),)
        finally:
            batch.close()
        for one in held:
            self._reception.hold(one)

    def ended(self) -> None:
        """Try again in a while."""
        self._connection = None
        self.is_at_head = False
        self._reception.close()
        self._home.lost(self._peer)
        delay = int(self._backoff * (0.5 + self._home.world.random.random() / 2))
        self._backoff = min(2 * self._backoff, BACKOFF[1])
        self._home.world.later(delay, self.open)


class Stream:
    """A process being pulled from by one puller."""

    def __init__(self, home: Home, pull: ship.Pull, connection: Connection) -> None:
        self._home = home
        self._pull = pull
        self._connection = connection
        self._shipping = ship.begin(home.log.reading(), pull)
        self._is_due = False
        self._status(is_at_head=False)
        self.ring()

    def ring(self) -> None:
        """There may be more."""
        if not self._is_due:
            self._is_due = True
            self._home.world.later(SHIP, self._go_on)

    def ended(self) -> None:
        """The puller is gone."""
        self._connection.mouth = None
        self._home.ended(self)

    def _go_on(self) -> None:
        self._is_due = False
        if not self._home.is_alive or not self._connection.is_open:
            return
        while True:
            page = ship.page(self._home.log.reading(), self._shipping, self._pull.skip)
            self._shipping = page.shipping
            self._connection.send(page.data)
            if page.is_at_head or not self._connection.is_open:
                break
        self._status(is_at_head=True)

    def _status(self, *, is_at_head: bool) -> None:
        home = self._home
        status = ship.status_of(home.log.reading(), home.identity, home.now(), is_at_head=is_at_head)
        self._connection.send(status_frame(status))
