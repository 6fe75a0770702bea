"""Owns a peer that holds the cluster key and lies: what it has written itself, and what it makes of that.

Its own events are real ones, of a real log, so that a lie is one change and everything around it is true. Must not be
believed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from oscd.events import codec
from oscd.events.event import Event
from oscd.replication.ship import Identity, Pull, status_of
from oscd.replication.wire import EventFrame, event_frame, status_frame
from tests.simulator.ledger import Ledger
from tests.simulator.link import SALT
from tests.simulator.log import MemoryFileLog
from tests.simulator.network import Connection, Serve
from tests.simulator.world import EPOCH, HOUR, World
from tests.simulator.writing import Users


class Liar:
    """The peer.

    Attributes:
        log: Its own.
    """

    name = "liar"

    def __init__(self, world: World, truth: Ledger) -> None:
        self._story: Sequence[EventFrame | bytes] = ()
        self._connections: list[Connection] = []
        self._world = world
        self._truth = truth
        self.log = MemoryFileLog(self.name, self.now, self._committed, lambda _: False, asks=False)
        self.log.prepare()
        self.users = Users(self.log, world.random)
        self._identity = Identity(self.name, secrets.token_hex(8), SALT)

    def now(self) -> int:
        """µs since 1970."""
        return EPOCH + HOUR + self._world.now

    def tell(self, *story: EventFrame | bytes) -> None:
        """From now on send this to whoever asks: frames, or bytes that are none. Whoever is here has to ask anew."""
        self._story = story
        while self._connections:
            self._connections.pop().close()

    def serve(self, pull: Pull) -> Serve:
        """Answer a request for the log."""

        def serve(connection: Connection) -> Liar:
            status = status_of(self.log.reading(), self._identity, self.now(), is_at_head=False)
            self._connections.append(connection)
            frames = [one if isinstance(one, bytes) else event_frame(one) for one in self._story]
            connection.send(b"".join([status_frame(status), *frames]))
            return self

        return serve

    def ended(self) -> None:
        """The puller is gone."""

    def invents(self, event: Event, digest: bytes, before: bytes) -> None:
        """Have it be known that this event is there, and that nobody needs to have it."""
        self._truth.committed(event, digest, before)
        self._truth.lose([digest])

    def _committed(self, before: int) -> None:
        reading = self.log.reading()
        for change in reading.changes(before, 1000):
            earlier = reading.find(change.event.origin.incarnation, change.event.seq - 1)
            self.invents(change.event, change.digest, b"" if earlier is None else earlier.digest)


def frames_of(log: MemoryFileLog) -> list[EventFrame]:
    """All events of a log, as they are shipped."""
    return [
        EventFrame(raw.incarnation, raw.seq, raw.digest, raw.header, raw.body)
        for raw in log.reading().raw(0, 1000)
    ]


def event_of(frame: EventFrame) -> Event:
    """What a frame says."""
    return codec.decode_header(frame.header)


def forged(event: Event, before: bytes, body: bytes | None) -> EventFrame:
    """A frame of an event that nobody has written, with a chain that fits it.

    Args:
        before: Chain digest of the event before it.
        body: One that its header names.
    """
    header = codec.encode_header(event)
    digest = codec.chain_digest(before, header)
    return EventFrame(event.origin.incarnation, event.seq, digest, header, body)


def alone(event: Event, body: bytes | None) -> EventFrame:
    """An event as the first and only one of its origin."""
    event = event._replace(seq=1, last_seq=1, replaces=None)
    return forged(event, codec.genesis_digest(event.origin), body)
