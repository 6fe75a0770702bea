"""Owns what a person may write for a moment in the past. Must not judge a position: only a node can read one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from oscd.client.errors import UsageRefused

ACCEPTED: Final = "a position, a time as 2026-01-31T12:00:00Z, or how long ago as 90s, 15m, 2h, 7d, 4w"

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
# base64url of a version byte below 4, and so on (contract §6: at most 4 KiB).
_POSITION = re.compile(r"A[A-Za-z0-9_-]{1,4095}")
_UNITS: dict[str, str] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def now_utc() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


def moment(given: str, now: Callable[[], datetime] = now_utc) -> str:
    """What `at=` is told: a position as it is, a time as RFC 3339 UTC.

    Args:
        now: What a duration is subtracted from.

    Raises:
        UsageRefused: It is none of the three; says which would be.
    """
    found = _AGO.fullmatch(given)
    try:
        if found is not None:
            return _text(now() - timedelta(**{_UNITS[found[2]]: int(found[1])}))
        if given[:1].isdigit():
            return _text(_time(given))
    except (ValueError, OverflowError):
        raise UsageRefused(f"{given[:80]!r} is no moment; accepted is {ACCEPTED}") from None
    if not is_position(given):
        raise UsageRefused(f"{given[:80]!r} is no moment; accepted is {ACCEPTED}")
    return given


def is_position(text: str) -> bool:
    """Whether a text looks like a position; whether a node knows it, the node says."""
    return _POSITION.fullmatch(text) is not None


def _time(given: str) -> datetime:
    time = datetime.fromisoformat(given)
    if time.tzinfo is None:
        raise ValueError("a time needs its offset")
    return time.astimezone(UTC)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
