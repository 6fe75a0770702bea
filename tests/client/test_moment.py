"""What a person may write for a moment in the past becomes what a node is told."""

from __future__ import annotations

import pytest

from oscd.client.errors import UsageRefused
from oscd.client.moment import moment
from oscd.times import parse_rfc3339

NOW = parse_rfc3339("2026-01-31T12:00:00.000005Z")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("90s", "2026-01-31T11:58:30.000005Z"),
        ("15m", "2026-01-31T11:45:00.000005Z"),
        ("2h", "2026-01-31T10:00:00.000005Z"),
        ("7d", "2026-01-24T12:00:00.000005Z"),
        ("4w", "2026-01-03T12:00:00.000005Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.25+02:00", "2026-01-31T10:00:00.250000Z"),
        ("2026-01-31 12:00:00-05:00", "2026-01-31T17:00:00.000000Z"),
        ("999999w", "1970-01-01T00:00:00.000000Z"),
        ("ATYwahKLTYekAm-0IH4_", "ATYwahKLTYekAm-0IH4_"),
    ],
)
def test_a_moment_is_a_duration_a_time_or_a_position(given: str, told: str) -> None:
    """A duration counts from now, a time is told in UTC, a position stays as it is."""
    assert moment(given, lambda: NOW) == told


@pytest.mark.parametrize(
    "given",
    [
        *("", "15", "15x", "-15m", "1.5h", "٣d", "now", "A", "A b", "A\n"),
        *("2026-01-31", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_anything_else_is_refused_with_what_is_accepted(given: str) -> None:
    """A time without its offset means another moment to everybody, and is refused like what is no time at all."""
    with pytest.raises(UsageRefused, match="2026-01-31T12:00:00Z"):
        moment(given, lambda: NOW)
