"""Owns times as text. Must not read a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(microseconds: int) -> str:
    """A time in µs since 1970 as RFC 3339 UTC with microseconds and `Z`."""
    # A timedelta, not a float of seconds, which would lose the last digits.
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
