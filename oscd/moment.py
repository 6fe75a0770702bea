"""Owns what `at=` may say: a position, which always means the same events, or a time.

Must not know HTTP, nor what is read at the moment.
"""

from __future__ import annotations

from oscd.errors import OscdError
from oscd.events.cut import Cut
from oscd.events.log import Reading, Store
from oscd.events.position import Position, PositionUnreadable, decode_position
from oscd.times import parse_rfc3339

Moment = Position | int
"""A position, or µs since 1970, which stand for the events stamped up to then."""


class MomentUnreadable(OscdError):
    """The text is neither a position nor a time."""


class MomentUnknown(OscdError):
    """The moment is not in the log: it has not come yet, or the events are not here."""


def parse_moment(text: str) -> Moment:
    """Read what a caller sent. A time begins with a digit, a position never does.

    Raises:
        MomentUnreadable: It is neither.
    """
    try:
        return parse_rfc3339(text) if text[:1].isdecimal() else decode_position(text)
    except (PositionUnreadable, ValueError, OverflowError):
        raise MomentUnreadable(
            "must be a position that a node has issued, or a time such as 2026-01-31T12:00:00Z"
        ) from None


def cut_of(reading: Reading[Store], position: Position) -> Cut:
    """The events that a position covers.

    Raises:
        MomentUnknown: This log does not hold all of them.
    """
    if (cut := reading.cut_of(position)) is None:
        raise MomentUnknown(
            "this node does not hold all that the position covers, or it stands within a write"
        )
    return cut


def cut_at(reading: Reading[Store], moment: Moment, now: int) -> Cut:
    """The events as of a moment.

    Args:
        now: µs since 1970.

    Raises:
        MomentUnknown: Later events could still belong to it, or this log does not hold all of its events.
    """
    if isinstance(moment, Position):
        return cut_of(reading, moment)
    # What begins from now on is stamped later than now, and later than everything in the log. A write that is being
    # committed, or comes late from a peer, may still join a time; the cut's position is what stays.
    if moment > now and moment > max(reading.cut_at_head().stamps.values(), default=0):
        raise MomentUnknown("is a time that has not come yet")
    return reading.cut_upto(moment)
