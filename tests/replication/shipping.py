"""Logs that are shipped from one to another within a test, by the code that ships and takes them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from oscd.events import codec
from oscd.events.event import Body, Draft, Event, EventType, Origin
from oscd.events.foreign import OriginTip
from oscd.events.position import Position
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections.sqlite import SqliteProjections
from oscd.replication.reception import Recent, Reception
from oscd.replication.ship import Identity, Pull, begin, page
from oscd.replication.take import Sender, Taken, meet, take
from oscd.replication.verify import Candidate, Terms
from oscd.replication.wire import EventFrame
from oscd.replication.writes import Bounds, Writes

NOW = 1_700_000_000_000_000
BOUNDS = Bounds(max_body_bytes=64 * 1024, max_write_bytes=8 * 1024 * 1024)


@dataclass
class Log:
    """The log of one node, in memory."""

    node_id: str
    connection: sqlite3.Connection
    run: str = "run-1"
    now: int = NOW
    recent: Recent = field(default_factory=Recent)

    @property
    def reading(self) -> SqliteReading:
        return SqliteReading(self.connection)

    @property
    def identity(self) -> Identity:
        return Identity(self.node_id, self.run, "5a" * 32)

    @property
    def sender(self) -> Sender:
        return Sender(self.node_id, self.run)

    @contextmanager
    def writing(self) -> Iterator[SqliteWriting]:
        """A transaction, rolled back where its body raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield SqliteWriting(self.connection, projections=SqliteProjections(), clock=lambda: self.now)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def write(self, *keys: str, size: int = 10, type: str = EventType.CREATED) -> list[Event]:
        """Append one write."""
        with self.writing() as writing:
            return [r.event for r in writing.append([draft(key, size=size, type=type) for key in keys])]

    def shipped(self, after: Position | None = None, skip: str | None = None) -> bytes:
        """All that a puller which stands there is sent."""
        pull = Pull(after or Position({}), "other", "run", "", skip)
        shipping = begin(self.reading, pull)
        data = b""
        while True:
            found = page(self.reading, shipping, skip)
            data, shipping = data + found.data, found.shipping
            if found.is_at_head:
                return data

    def take(self, batch: Writes, sender: Sender, members: frozenset[str] = frozenset()) -> Taken:
        """Take a batch in, from a peer that has been met."""
        with self.writing() as writing:
            meet(writing, sender, writing.runs().get(sender.node_id))
        with self.writing() as writing:
            return take(writing, batch, Terms(self.now, members), sender)

    def pull(self, other: Log, directory: Path) -> int:
        """Take in what another log has and this one lacks; gives how many events that were."""
        reception = Reception(BOUNDS, directory, Recent())
        taken = 0
        for one in [*reception.feed(other.shipped(self.reading.position())), reception.pending()]:
            if one is not None:
                assert not isinstance(one, str)
                taken += self.take(one, other.sender).events  # type: ignore[arg-type]
        return taken


def log_of(node_id: str) -> Log:
    """An empty log."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection)
    SqliteProjections().create(connection)
    schema.begin_own_origin(connection, node_id)
    return Log(node_id, connection)


def draft(key: str, *, size: int = 10, type: str = EventType.CREATED) -> Draft:
    """A draft whose value takes so many bytes."""
    is_deleted = type == EventType.DELETED
    return Draft(
        type=type,
        environment="prod",
        key=key,
        category=None,
        version=1,
        created_at=None,
        event_id=os.urandom(16),
        key_id=b"k" * 16,
        replaces=None,
        body=Body(None if is_deleted else b"x" * size, "actor", "127.0.0.1"),
    )


def frame_of(event: Event, body: bytes | None, before: bytes | None = None) -> EventFrame:
    """An event as a peer would send it, made up or not.

    Args:
        before: Chain digest of the event before it; None where it is the first.
    """
    assert body is not None
    event = event._replace(body_digest=codec.body_digest(body))
    header = codec.encode_header(event)
    before = codec.genesis_digest(event.origin) if before is None else before
    return EventFrame(event.origin.incarnation, event.seq, codec.chain_digest(before, header), header, body)


def invented(
    origin: Origin,
    keys: Sequence[str] = ("k",),
    *,
    stamp: int = NOW,
    seq: int = 1,
    before: bytes | None = None,
) -> list[Candidate]:
    """One write of an origin, chained as that origin would."""
    tip = OriginTip(origin, seq - 1, before or codec.genesis_digest(origin), 0)
    made = []
    for number, key in enumerate(keys):
        body = codec.encode_body(draft(key).body)
        event = codec.event_from_draft(
            draft(key),
            origin=origin,
            seq=seq + number,
            last_seq=seq + len(keys) - 1,
            stamp=stamp + number,
            body=body,
        )
        header = codec.encode_header(event)
        tip = OriginTip(origin, event.seq, codec.chain_digest(tip.digest, header), event.stamp)
        made.append(Candidate(event, header, body, tip.digest))
    return made


def batch(*writes: Sequence[Candidate]) -> Writes:
    """A batch of these writes."""
    return Writes([candidate for write in writes for candidate in write], 1)
