"""Owns the state of one entry and the pure rule by which an event changes it. Must not do I/O.

An entry's state, its node-local `id` and `offset` aside, is a function of its winning event alone: the one with
the greatest stamp (invariant 5). A delete wins like any other event and leaves a tombstone, so that an older
event that arrives later cannot bring the entry back.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from oscd.events.event import EventRef, EventType, Origin, Recorded

DIGEST_MODULUS = 2**256


class Entry(NamedTuple):
    """The current state of `(environment, key)`, as its winning event left it.

    Attributes:
        id: Node-local number of this life of the entry; None in a tombstone.
        created_at: µs since 1970.
        updated_at: µs since 1970 when the entry was written; not always the stamp (`oscd.events.event.Draft`).
        stamp: Stamp of the winning event.
        winner: Identity of the winning event.
        offset: Where the winning event, and so the value, stands in this node's log.
        key_id: Whose entry it is; None where the original wrote the value.
    """

    environment: str
    key: str
    id: int | None
    category: str | None
    version: int
    created_at: int
    updated_at: int
    stamp: int
    winner: EventRef
    offset: int
    event_id: bytes
    key_id: bytes | None
    imported: bool
    deleted: bool

    @property
    def tag(self) -> str:
        """The state's identity as one word, the same on every node; it says nothing of the value.

        The winning event's random id, and not its number: a lone node that was restored from an older copy issues
        numbers again, and a tag that a client kept must not match another state.
        """
        return self.event_id.hex()

    @property
    def precedence(self) -> tuple[int, Origin]:
        """What decides a merge: the greater one wins."""
        return (self.stamp, self.winner.origin)


def merge(current: Entry | None, recorded: Recorded) -> Entry:
    """The entry after an event; `current` itself where the event loses and changes nothing.

    Args:
        current: The entry so far; None where this log never held one.
    """
    if current is not None and recorded.event.precedence <= current.precedence:
        return current
    return entry_after(recorded)


def entry_after(recorded: Recorded) -> Entry:
    """The entry as its winning event left it."""
    event = recorded.event
    return Entry(
        environment=event.environment,
        key=event.key,
        id=recorded.entry_id,
        category=event.category,
        version=event.version,
        created_at=event.created_at,
        updated_at=event.updated_at,
        stamp=event.stamp,
        winner=event.ref,
        offset=recorded.offset,
        event_id=event.event_id,
        key_id=event.key_id,
        imported=event.imported,
        deleted=event.type == EventType.DELETED,
    )


def state_digest(entry: Entry) -> int:
    """What an entry adds to the state digest of a node, tombstones included; the sum is taken modulo 2²⁵⁶.

    Nodes that hold the same events have the same sum, in whatever order the events came.
    """
    winner = entry.winner
    origin = winner.origin
    # No part can hold a NUL: names have no control characters.
    parts = f"{entry.environment}\0{entry.key}\0{origin.node_id}\0{origin.incarnation}\0{winner.seq}"
    return int.from_bytes(sha256(parts.encode()).digest())
