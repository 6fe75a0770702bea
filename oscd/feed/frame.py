"""Owns the rule of what a reader is told of an event, given what it was told before. Pure.

A log that merges holds events that change nothing: they lost to one that was there already. What goes out is the
*effect* an event has on what this reader has been told, so that whoever applies frames in order holds the winner.
Must not know how a frame is written down.
"""

from __future__ import annotations

from dataclasses import dataclass

from oscd.events.event import Event, EventType


@dataclass(frozen=True, slots=True)
class Frame:
    """What one event changes for a reader.

    Attributes:
        effect: What happened to the entry in this reader's eyes; not always the event's own type.
        event: The event, which is the entry's winner now.
        categories: Those that the change concerns: of the entry before, and of the event.
    """

    effect: EventType
    event: Event
    categories: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """What a reader wants to be told of; None matches everything, and all three must match."""

    key: str | None = None
    environment: str | None = None
    category: str | None = None

    def matches(self, frame: Frame) -> bool:
        """Whether the change concerns this reader."""
        return (
            (self.key is None or frame.event.key == self.key)
            and (self.environment is None or frame.event.environment == self.environment)
            and (self.category is None or self.category in frame.categories)
        )


def frame(previous: Event | None, event: Event) -> Frame | None:
    """What a reader is told of an event; None where it changes nothing.

    Args:
        previous: The greatest-stamped event of the entry among those the reader has been told.
    """
    if not event.is_of_entry or (previous is not None and event.precedence <= previous.precedence):
        return None
    is_deleted = event.type == EventType.DELETED
    if previous is None or previous.type == EventType.DELETED:
        return None if is_deleted else Frame(EventType.CREATED, event, (event.category,))
    effect = EventType.DELETED if is_deleted else EventType.UPDATED
    return Frame(effect, event, _distinct(previous.category, event.category))


def _distinct(before: str | None, after: str | None) -> tuple[str | None, ...]:
    return (after,) if before == after else (before, after)
