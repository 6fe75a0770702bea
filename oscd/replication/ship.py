"""Owns what a peer that stands at a position is sent: pages of the log past it, and how this node stands.

The order is this log's own, so whoever takes it all in has a causal log as well. Pure reading: must not wait, nor
know who listens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from oscd.events import codec
from oscd.events.foreign import Raw
from oscd.events.log import Reading
from oscd.events.position import Position
from oscd.projections.sqlite import totals
from oscd.replication.wire import PeerStatus, event_frame

PAGE_EVENTS: Final = 500
"""Events one view reads at most; their bodies are at most some 4 MiB and one more."""


@dataclass(frozen=True, slots=True)
class Pull:
    """What a puller says of itself.

    Attributes:
        after: Where it stands.
        run: A random word of its start.
        salt: SHA-256 of its salt, in hexadecimal.
        skip: The incarnation it appends to, of which it needs nothing; None where it cannot be sure of that.
        asks: Whether it has not settled yet where its log ended (invariant 9).
    """

    after: Position
    node_id: str
    run: str
    salt: str
    skip: str | None = None
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is to others: id, run and the SHA-256 of its salt, in hexadecimal."""

    node_id: str
    run: str
    salt: str


@dataclass(frozen=True, slots=True)
class Shipping:
    """How far a puller has been sent this log.

    Attributes:
        offset: All up to here was sent, or is known to it.
        known: By incarnation, the seq up to which it has the events from elsewhere, or was sent them.
    """

    offset: int
    known: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Page:
    """The next frames of a stream, perhaps none, and how far they lead.

    Attributes:
        is_at_head: Whether that is all there is.
        ends_write: Whether the last write of which it has anything ends with it: nothing but events may follow where
            it does not.
    """

    data: bytes
    shipping: Shipping
    is_at_head: bool
    ends_write: bool


def begin(reading: Reading[sqlite3.Connection], pull: Pull) -> Shipping:
    """Where a stream to a puller begins: before the first event here that its position does not cover."""
    known = {incarnation: mark.seq for incarnation, mark in pull.after.marks.items()}
    first = reading.head() + 1
    for incarnation in reading.position().marks:
        if incarnation != pull.skip:
            following = reading.find(incarnation, known.get(incarnation, 0) + 1)
            first = first if following is None else min(first, following.offset)
    return Shipping(first - 1, known)


def page(reading: Reading[sqlite3.Connection], shipping: Shipping, skip: str | None) -> Page:
    """The next page of the log, as frames.

    Raises:
        LogCorrupt: An event cannot be read.
    """
    known = shipping.known
    if not _lacks_any(reading, known, skip):
        # A node that is sent a backlog must not read it all again for whoever sends it.
        return Page(b"", Shipping(reading.head(), known), is_at_head=True, ends_write=True)
    raws = reading.raw(shipping.offset, PAGE_EVENTS)
    if not raws:
        return Page(b"", shipping, is_at_head=True, ends_write=True)
    sent = [raw for raw in raws if raw.incarnation != skip and raw.seq > known.get(raw.incarnation, 0)]
    last = raws[-1]
    is_at_head = last.offset >= reading.head()
    # A write has consecutive offsets, and is sent whole or not at all.
    ends_write = is_at_head or not sent or sent[-1] is not last or _is_last_of_write(last)
    data = b"".join(event_frame(raw) for raw in sent)
    # Of one origin they come in order, so the last one that was sent stands for all before it.
    known = {**known, **{raw.incarnation: raw.seq for raw in sent}}
    return Page(data, Shipping(last.offset, known), is_at_head=is_at_head, ends_write=ends_write)


def _lacks_any(reading: Reading[sqlite3.Connection], known: Mapping[str, int], skip: str | None) -> bool:
    """Whether there is an event here that the puller neither has nor was sent."""
    return any(
        mark.seq > known.get(incarnation, 0)
        for incarnation, mark in reading.position().marks.items()
        if incarnation != skip
    )


def _is_last_of_write(raw: Raw) -> bool:
    event = codec.decode_header(raw.header)
    return event.seq == event.last_seq


def status_of(
    reading: Reading[sqlite3.Connection], identity: Identity, now: int, *, is_at_head: bool
) -> PeerStatus:
    """How this node stands, all of it as of one view.

    Args:
        now: This node's clock, µs since 1970.
    """
    held = totals(reading.store)
    return PeerStatus(
        node_id=identity.node_id,
        run=identity.run,
        salt=identity.salt,
        now=now,
        position=reading.position(),
        state=held.state.hex(),
        entries=held.entries,
        head=reading.head(),
        is_at_head=is_at_head,
    )
