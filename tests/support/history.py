"""Owns what one logical subscriber was told, over all its connections. Must not do I/O or judge it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CHANGES = frozenset({"created", "updated", "deleted"})
"""Events that are the effect of a write on an entry."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a subscriber wants to hear of; None matches all."""

    key: str | None = None
    environment: str | None = None
    category: str | None = None

    def query(self) -> dict[str, str]:
        """As query parameters."""
        given = {"key": self.key, "environment": self.environment, "category": self.category}
        return {name: value for name, value in given.items() if value is not None}

    def match(self, environment: str, key: str, *categories: str | None) -> bool:
        """Whether they match an entry that has, or had, one of these categories."""
        return (
            self.key in {None, key}
            and self.environment in {None, environment}
            and (self.category is None or self.category in categories)
        )


@dataclass(frozen=True, slots=True)
class Received:
    """One frame that arrived whole.

    Attributes:
        event: Its type; empty for a frame that is only an id.
        id: None where it carries none.
        data: Its JSON object; empty for a frame that is only an id.
        at: Seconds of the local monotonic clock.
    """

    event: str
    id: str | None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0

    @property
    def is_change(self) -> bool:
        """Whether it tells of a write's effect on an entry."""
        return self.event in CHANGES

    @property
    def entry(self) -> tuple[str, str]:
        """Environment and key of the entry it is about."""
        return (self.data["environment"], self.data["key"])


@dataclass(slots=True)
class Attempt:
    """One connection of a subscriber.

    Attributes:
        last_event_id: The `Last-Event-ID` it sent, None where it sent none.
        after: What it asked for with `?after=`.
        snapshot: Whether it asked with `?from=snapshot`.
        status: Of the answer; None while there is none.
        ended: How it ended, in words; None while it goes on.
        raw: The bytes of the answer's body, where they are kept.
    """

    last_event_id: str | None = None
    after: str | None = None
    snapshot: bool = False
    frames: list[Received] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    status: int | None = None
    ended: str | None = None
    raw: bytearray = field(default_factory=bytearray)

    @property
    def began_with_snapshot(self) -> bool:
        """Whether it was owed a snapshot: `Last-Event-ID` and `after` come before `from`."""
        return self.snapshot and self.last_event_id is None and self.after is None


@dataclass(slots=True)
class History:
    """Everything one logical subscriber was told."""

    filters: Filters = field(default_factory=Filters)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def last_id(self) -> str | None:
        """The id of the last whole frame that carried one: where to resume."""
        for attempt in reversed(self.attempts):
            for frame in reversed(attempt.frames):
                if frame.id is not None:
                    return frame.id or None  # An empty id takes back the ones before.
        return None

    def runs(self) -> Iterator[Run]:
        """Its attempts, a run for each time it started over instead of resuming."""
        run: list[Attempt] = []
        for attempt in self.attempts:
            if run and attempt.last_event_id is None:
                yield Run(tuple(run))
                run = []
            run.append(attempt)
        if run:
            yield Run(tuple(run))

    def last_run(self) -> Run:
        """The attempts since it started over last; there must have been one."""
        *_, last = self.runs()
        return last


@dataclass(frozen=True, slots=True)
class Run:
    """Attempts of which each but the first resumed from what the ones before were told."""

    attempts: tuple[Attempt, ...]

    def frames(self) -> list[Received]:
        """Every frame that arrived whole, in order; what was cut off within a write may have come again."""
        return [frame for attempt in self.attempts for frame in attempt.frames]
