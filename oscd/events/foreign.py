"""Owns the facts of events that pass between logs: as one log ships them, and as another takes them in.

Header and body travel as the very bytes that are stored, because the chain is over bytes. Must not know how they
travel, nor who may be believed.
"""

from __future__ import annotations

from typing import NamedTuple

from oscd.events.event import Event, Origin


class Raw(NamedTuple):
    """An event as it is stored.

    Attributes:
        offset: Its place in the log it was read from.
        incarnation: Of its origin.
        digest: Chain digest up to and including it.
        body: None where it has been removed.
    """

    offset: int
    incarnation: str
    seq: int
    digest: bytes
    header: bytes
    body: bytes | None


class Foreign(NamedTuple):
    """An event that another log wrote first, decoded; taken in once it is the next one of its origin.

    Attributes:
        header: The bytes `event` was decoded from.
        digest: Chain digest up to and including it, as its source has it.
    """

    event: Event
    header: bytes
    body: bytes | None
    digest: bytes


class OriginTip(NamedTuple):
    """Where the chain of one origin ends in a log: its last event there."""

    origin: Origin
    seq: int
    digest: bytes
    stamp: int
