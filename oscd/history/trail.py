"""Owns the trail: the log's events in its own order, page by page, for whoever audits it. Never a value.

Must not know HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from oscd.events.event import Change
from oscd.events.log import EventLog, Reading, past_write
from oscd.events.position import Position, mark
from oscd.feed.frame import StreamFilter
from oscd.feed.place import Place, place_of
from oscd.listing import LARGE_READ_BYTES
from oscd.moment import MomentUnknown

# Events one view may examine, whatever matches, and how many views one page may take.
MAX_EXAMINED = 1000
MAX_VIEWS = 20
# Bytes of bodies past which a view ends: who wrote an event is kept beside its value.
PAGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the trail.

    Attributes:
        position: Where a reader of the trail stands who was told it, and all of its write.
        actor: What the caller claimed to be; None where they did not, or the body was removed.
    """

    change: Change
    position: Position
    actor: str | None


@dataclass(frozen=True, slots=True)
class Trail:
    """A page.

    Attributes:
        next: Where the next one begins, which may be within a write. A page may be empty and not the last; the last
            one ends where it began.
    """

    steps: list[Step]
    next: Position


async def trail(
    log: EventLog[sqlite3.Connection], after: Position, wanted: StreamFilter, limit: int
) -> Trail:
    """The events past a position that match, at most `limit` of them.

    Raises:
        MomentUnknown: This log does not hold what the position covers.
        Unavailable: Not now.
    """
    steps: list[Step] = []
    for _ in range(MAX_VIEWS):
        left = limit - len(steps)
        page = await log.read(
            lambda reading, after=after, left=left: _page(reading, after, wanted, left),  # type: ignore[misc]
            size=LARGE_READ_BYTES,
        )
        steps += page.steps
        if page.next == after or len(steps) >= limit:
            return Trail(steps, page.next)
        after = page.next
    return Trail(steps, after)


def _page(reading: Reading[sqlite3.Connection], after: Position, wanted: StreamFilter, limit: int) -> Trail:
    place = place_of(reading, after)
    if not isinstance(place, Place):
        raise MomentUnknown("this node does not hold all that the position covers")
    marks = dict(after.marks)
    steps: list[Step] = []
    size = 0
    for change in reading.changes(place.offset, MAX_EXAMINED):
        event = change.event
        if event.seq <= place.ahead.get(event.origin.incarnation, 0):
            continue  # Told already: the position covers it, though not all that stands before it here.
        marks[event.origin.incarnation] = mark(event.seq, change.digest)
        if not _matches(wanted, change):
            continue
        body = reading.body_at(change.offset)
        position = past_write(reading, marks, event)
        steps.append(Step(change, position, None if body is None else body.actor))
        size += 0 if body is None else len(body.ciphertext or b"")
        if len(steps) >= limit or size >= PAGE_BYTES:
            break
    return Trail(steps, Position(marks))


def _matches(wanted: StreamFilter, change: Change) -> bool:
    """Whether an event is asked for; by category also where it takes an entry out of it."""
    event, previous = change.event, change.previous
    categories: Iterable[str | None] = (event.category, None if previous is None else previous.category)
    return (
        wanted.key in (None, event.key)
        and wanted.environment in (None, event.environment)
        and (wanted.category is None or wanted.category in categories)
    )
