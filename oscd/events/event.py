"""Owns the facts of the log: events, what identifies them, and drafts of them. Must not do I/O or know bytes.

Words: *offset* is a place in this node's log; *origin* is the log that first wrote an event (node id and
incarnation); *seq* counts an origin's events from 1; *stamp* is the hybrid logical clock in µs since 1970.

What is made of each event as it is taken in or read is a named tuple, other facts are dataclasses:
`docs/adr/014-facts-of-each-event-are-named-tuples.md`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class EventType(StrEnum):
    """What an event did to its entry.

    An event of any other type is not about an entry: its environment and key are empty, and readers that do not
    know it pass over it.
    """

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


_ENTRY_TYPES = frozenset(EventType)
_NODE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

EVENT_ID_BYTES = 16
"""Random bytes that name an event and that its ciphertext is bound to."""

MAX_VERSION: Final = 2**53 - 1
"""The greatest number that every reader of JSON keeps as it is; an entry that has it keeps it."""

ORIGIN_BEGAN = "origin_began"
"""Type of the first event of an incarnation that follows another in one log; `replaces` is the last one of that."""


def is_node_id(text: str) -> bool:
    """Whether a text may name a node: short, and plain enough for positions, metrics and log lines."""
    return _NODE_ID.fullmatch(text) is not None


class Origin(NamedTuple):
    """The log that first wrote an event.

    Attributes:
        node_id: The stable name of the node.
        incarnation: 16 hexadecimal digits, drawn anew whenever a node cannot be sure where its numbering ended.
    """

    node_id: str
    incarnation: str


class EventRef(NamedTuple):
    """Identity of one event on every node: the `seq`-th event of `origin` (invariant 2)."""

    origin: Origin
    seq: int


class Body(NamedTuple):
    """The removable part of an event: the chain covers its digest only, so it may go while the chain holds.

    Attributes:
        ciphertext: The sealed value; None in a delete.
        actor: What the caller claimed to be in `X-Actor`.
        address: The client's address.
    """

    ciphertext: bytes | None
    actor: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """An event as decided, before the log gives it offset, seq, stamp and digest.

    Attributes:
        created_at: µs since 1970 when this life of the entry began; None means with this very event.
        updated_at: µs since 1970 when the entry was written, as its readers are told; None means at the stamp.
        event_id: 16 random bytes that the ciphertext is bound to.
        key_id: Whose entry it is (never the key); None for events imported from the original, for deletes by whoever
            holds the file (`oscd release`), and where the event is not about an entry.
        replaces: The event this one was decided against.
        stamp: Wanted stamp of an imported row; None means now.
        entry_id: The id an imported row had; None means the next free one.
    """

    type: str
    environment: str
    key: str
    category: str | None
    version: int
    created_at: int | None
    event_id: bytes
    key_id: bytes | None
    replaces: EventRef | None
    body: Body
    updated_at: int | None = None
    imported: bool = False
    stamp: int | None = None
    entry_id: int | None = None


class Event(NamedTuple):
    """One event as every node stores it: the header, which the hash chain covers.

    Attributes:
        last_seq: Seq of the last event of the same write, so that a batch travels whole or not at all.
        type: An `EventType`, or one of a newer oscd.
        created_at: µs since 1970 when this life of the entry began.
        updated_at: µs since 1970; the stamp, but for writes that keep an older time (imports).
        body_digest: SHA-256 of the body's bytes.
    """

    origin: Origin
    seq: int
    last_seq: int
    stamp: int
    type: str
    environment: str
    key: str
    category: str | None
    version: int
    created_at: int
    updated_at: int
    event_id: bytes
    key_id: bytes | None
    imported: bool
    replaces: EventRef | None
    body_digest: bytes

    @property
    def ref(self) -> EventRef:
        """The identity of this event."""
        return EventRef(self.origin, self.seq)

    @property
    def is_of_entry(self) -> bool:
        """Whether it is about an entry, in a way this version knows."""
        return self.type in _ENTRY_TYPES

    @property
    def precedence(self) -> tuple[int, Origin]:
        """What decides a merge: the greater one wins (invariant 5)."""
        return (self.stamp, self.origin)


class Recorded(NamedTuple):
    """An event as it stands in one node's log.

    Attributes:
        offset: Its place in this log, rising in commit order (invariant 1).
        digest: Chain digest up to and including this event.
        body: None where it has been removed.
        previous: Offset of the greatest-stamped event of the same entry that this log held before it.
        entry_id: Number of this life of the entry on this node, from 1; None where the event ended it or is not of
            an entry. Kept outside the chain, because other nodes number on their own.
    """

    offset: int
    event: Event
    digest: bytes
    body: Body | None
    previous: int | None
    entry_id: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """An event as readers of a log are told of it: its header, and the event it met.

    Attributes:
        offset: Its place in this log.
        digest: Chain digest up to and including this event.
        previous: The greatest-stamped event of the same entry that this log held before it.
    """

    offset: int
    event: Event
    digest: bytes
    previous: Event | None


def next_version(version: int) -> int:
    """The version of an entry after one more write.

    Nobody writes so often, but a peer may claim it of an entry; the next write must still be one that nodes take.
    """
    return min(version + 1, MAX_VERSION)


def life_number(type: str, previous: int | None, last: int, wanted: int | None = None) -> int | None:
    """The `entry_id` an event is recorded with.

    Args:
        type: Of the event.
        previous: That of the entry's winning event so far; None where there is none, or it is a delete.
        last: The greatest ever given in this log.
        wanted: The one an imported row had; None: the next free one.
    """
    if type not in _ENTRY_TYPES or type == EventType.DELETED:
        return None
    if previous is not None:
        return previous
    return last + 1 if wanted is None else wanted


def origin_began(ended: EventRef, event_id: bytes) -> Draft:
    """The first event of an incarnation that follows another one in its log.

    Args:
        ended: The last event of the other one.
        event_id: 16 random bytes.
    """
    return Draft(
        type=ORIGIN_BEGAN,
        environment="",
        key="",
        category=None,
        version=0,
        created_at=None,
        event_id=event_id,
        key_id=None,
        replaces=ended,
        body=Body(None),
    )
