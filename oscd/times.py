"""Owns times: as text, and the clock that tells them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final

LAST_MICROSECOND: Final = 253_402_300_799_999_999
"""µs since 1970 of the last moment of the year 9999: no later one can be told as text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+\- ][0-9]{2}:[0-9]{2})"
)


_SLACK_MICROSECONDS: Final = 500_000
"""So far ahead a time may be of a clock that is corrected little by little."""


def is_recent(then: int, now: int, most: int) -> bool:
    """Whether a time is at most so long ago; one that is ahead is not, as the clock was set back since.

    Args:
        then, now: µs since 1970.
        most: µs.
    """
    return -_SLACK_MICROSECONDS <= now - then <= most


def microseconds_now() -> int:
    """µs since 1970, by this machine's clock."""
    return time.time_ns() // 1000


def parse_rfc3339(text: str) -> int:
    """µs since 1970 of a time in RFC 3339, with its offset; digits past microseconds are dropped.

    By its offset it may be later than `LAST_MICROSECOND`.

    Raises:
        ValueError: It is no such time, or is before 1970.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError("not a time in RFC 3339")
    # Python reads a T only; a space is what a URL makes of a plus sign that was not encoded.
    since = datetime.fromisoformat(f"{text[:10]}T{text[11:].replace(' ', '+')}".upper()) - _EPOCH
    if since < timedelta(0):
        raise ValueError("a time before 1970")
    return since // timedelta(microseconds=1)


def parse_ago(text: str, now: int) -> int | None:
    """µs since 1970 of a time as long ago as a person says: `90s`, `15m`, `2h`, `7d`, `4w`; None where they do not.

    Args:
        now: µs since 1970.
    """
    said = _AGO.fullmatch(text)
    return None if said is None else max(0, now - int(said[1]) * _SECONDS[said[2]] * 1_000_000)


def rfc3339(microseconds: int) -> str:
    """A time as RFC 3339 UTC with microseconds and `Z`.

    Args:
        microseconds: Since 1970, up to `LAST_MICROSECOND`.
    """
    # A timedelta, not a float of seconds, which would lose the last digits.
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
