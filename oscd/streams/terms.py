"""Owns the facts of a stream: what its subscriber asks for, and the reasons it gives. Must not do anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oscd.events.cipher import Cipher
from oscd.feed.frame import StreamFilter


class End(Enum):
    """Why a stream is ended by this node; the reason its `goodbye` gives."""

    SHUTDOWN = "shutdown"
    TICKET_EXPIRED = "ticket_expired"
    API_KEY_REMOVED = "api_key_removed"


class Reset(Enum):
    """Why a reader goes on from the head, and may have missed something; the reason its `reset` gives."""

    UNREADABLE = "unreadable"
    UNREACHABLE = "unreachable"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asks for.

    Attributes:
        resume: The position to go on from; None: from the head, or a snapshot.
        from_snapshot: Whether the entries as they stand come first, where nothing is resumed.
        cipher: Opens values; None where none are asked for.
        credential: Of the API key that let it in (`ticket.credential`); None where none is required.
        expires_at: When it must end, in seconds since 1970; None: never.
    """

    filter: StreamFilter
    resume: str | None = None
    from_snapshot: bool = False
    cipher: Cipher | None = None
    credential: bytes | None = None
    expires_at: float | None = None

    @property
    def begins_with_snapshot(self) -> bool:
        """Whether the entries come first; a position to go on from beats that."""
        return self.from_snapshot and self.resume is None
