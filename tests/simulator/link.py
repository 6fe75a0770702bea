"""Owns both ends of a link in virtual time: who pulls, and the stream it is sent.

It stands where `puller.py` and the endpoint of the stream stand in a real node: it moves bytes and waits. What is
sent, and what is believed of it, comes from the code that ships.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from oscd.errors import OscdError
from oscd.events.position import Position
from oscd.replication import ship, take
from oscd.replication.reception import Reception
from oscd.replication.take import Terms
from oscd.replication.verify import PeerRefused
from oscd.replication.wire import Goodbye, Limits, PeerStatus, goodbye_frame, status_frame
from tests.simulator.log import MemoryFileLog
from tests.simulator.network import Connection, Network, Serve
from tests.simulator.world import MILLISECOND, SECOND, World

SHIP: Final = 8 * MILLISECOND
"""How long a stream waits for company after a commit."""

BACKOFF: Final = (100 * MILLISECOND, SECOND)
"""Before the first retry, and at most."""

SALT: Final = "5a17" * 16


class Home(Protocol):
    """What a process is to its links and streams."""

    world: World
    network: Network
    name: str
    log: MemoryFileLog
    run: str
    is_alive: bool

    def now(self) -> int:
        """µs since 1970 by its clock."""

    def heard(self, peer: str, status: PeerStatus) -> None:
        """A peer told where it stands."""


class Link:
    """A process pulling from one peer."""

    def __init__(self, home: Home, peer: str, serve: Callable[[ship.Pull], Serve | None]) -> None:
        self._home = home
        self._peer = peer
        self._serve = serve
        self._connection: Connection | None = None
        self._reception = Reception(Limits())
        self._terms = Terms("", "")
        self._backoff = BACKOFF[0]
        self._skip: str | None = None
        self.asks = False
        self.is_at_head = False

    def open(self) -> None:
        """Ask the peer for its stream, unless the process is gone."""
        if not self._home.is_alive or self._connection is not None:
            return
        home = self._home
        self._skip = None if self.asks else home.log.reading().own().origin.incarnation
        pull = ship.Pull(
            after=home.log.reading().position(),
            node_id=home.name,
            run=home.run,
            salt=SALT,
            skip=self._skip,
            asks=self.asks,
        )
        self._reception = Reception(Limits())
        self._connection = home.network.connect(self._peer, home.name, self, lambda: self._serve(pull))

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()

    def received(self, data: bytes) -> None:
        """Take in what has come."""
        if not self._home.is_alive:
            return
        try:
            for item in self._reception.feed(data):
                if isinstance(item, PeerStatus):
                    self._terms = Terms(item.node_id, item.run)
                    self._backoff = BACKOFF[0]
                    self.is_at_head = item.is_at_head
                    self._home.heard(self._peer, item)
                    if item.is_at_head and self._lacks(item.position):
                        # What was sent last was lost on the way, which no gap shows.
                        self._home.world.counts["lost the end"] += 1
                        self.close()
                        return
                elif isinstance(item, Goodbye):
                    self.close()
                    return
                else:
                    terms = self._terms
                    taken = self._home.log.change(lambda writing: take.take(writing, item, terms))
                    for held in taken.held:
                        self._home.world.counts[f"held: {held.reason}"] += 1
        except PeerRefused as refused:
            self._home.world.counts[f"refused: {refused}"] += 1
            self.close()

    def _lacks(self, position: Position) -> bool:
        """Whether the peer stands further than this log, in what it was asked for."""
        here = self._home.log.reading().position()
        return any(
            incarnation not in here.marks or here.marks[incarnation].seq < mark.seq
            for incarnation, mark in position.marks.items()
            if incarnation != self._skip
        )

    def ended(self) -> None:
        """Try again in a while."""
        self._connection = None
        self.is_at_head = False
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
        status = ship.status(home.log.reading(), home.name, home.run, SALT, home.now(), is_at_head)
        self._connection.send(status_frame(status))
