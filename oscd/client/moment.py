"""Owns what a person may write for a moment in the past. Must not judge a position: only a node can read one."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from oscd.client.errors import UsageRefused
from oscd.times import microseconds_now, parse_ago, parse_rfc3339, rfc3339

ACCEPTED: Final = "a position, a time as 2026-01-31T12:00:00Z, or how long ago as 90s, 15m, 2h, 7d, 4w"

# base64url of a version byte below 4, and so on (contract §6: at most 4 KiB).
_POSITION = re.compile(r"A[A-Za-z0-9_-]{1,4095}")


def moment(given: str, now: Callable[[], int] = microseconds_now) -> str:
    """What `at=` is told: a position as it is, a time as RFC 3339 UTC.

    Args:
        now: What a duration is subtracted from, in µs since 1970.

    Raises:
        UsageRefused: It is none of the three; says which would be.
    """
    ago = parse_ago(given, now())
    if ago is not None:
        return rfc3339(ago)
    if given[:1].isdecimal():
        with suppress(ValueError, OverflowError):
            return rfc3339(parse_rfc3339(given))
    if not is_position(given):
        raise UsageRefused(f"{given[:80]!r} is no moment; accepted is {ACCEPTED}")
    return given


def is_position(text: str) -> bool:
    """Whether a text looks like a position; whether a node knows it, the node says."""
    return _POSITION.fullmatch(text) is not None
