"""What `at=` may say, and which events it stands for."""

from __future__ import annotations

from itertools import count

import pytest

from oscd.events.event import Origin
from oscd.events.memory import MemoryLog, MemoryReading
from oscd.events.position import Mark, Position
from oscd.moment import MomentUnknown, MomentUnreadable, cut_at, parse_moment
from tests.events.log_contract import draft
from tests.events.test_log_memory import Noted

BEGUN = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z, in µs."""


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2023-11-14T22:13:20Z", BEGUN),
        ("2023-11-14t22:13:20.5z", BEGUN + 500_000),
        ("2023-11-14 23:13:20+01:00", BEGUN),
        ("2023-11-14T23:13:20 01:00", BEGUN),
        ("2023-11-14T20:13:20.000001999-02:00", BEGUN + 1),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times_are_read(text: str, microseconds: int) -> None:
    """RFC 3339 in all its forms, and with the plus sign that a URL turned into a space."""
    assert parse_moment(text) == microseconds


def test_positions_are_read() -> None:
    """A position is told from a time by its first character."""
    for position in (Position({}), Position({"00112233445566aa": Mark(7, b"abcd")})):
        assert not position.encode()[0].isdecimal()
        assert parse_moment(position.encode()) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-02-30T22:13:20Z",
        "2023-11-14T24:13:20Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+23:59",
        "٢٠٢٣-11-14T22:13:20Z",
        "17",
        "AQ=",
        "A" * 5000,
    ],
)
def test_what_is_neither_is_refused(text: str) -> None:
    """Anything else is refused, with an example of what would do."""
    with pytest.raises(MomentUnreadable, match="2026-01-31T12:00:00Z"):
        parse_moment(text)


async def test_what_has_not_come_yet_is_refused() -> None:
    """A time is refused while a later write could still be stamped up to it, a position until its events are here."""
    ticks = count(BEGUN)
    log = MemoryLog(origin=Origin("n", "00112233445566aa"), projections=Noted(), clock=lambda: next(ticks))
    await log.write(lambda writing: writing.append([draft()]), size=1)
    await log.write(lambda writing: writing.append([draft(stamp=BEGUN + 50)]), size=1)
    reading = await log.read(lambda reading: reading)
    assert isinstance(reading, MemoryReading)
    assert cut_at(reading, BEGUN + 50, now=BEGUN) == reading.cut_at_head()
    assert cut_at(reading, BEGUN + 60, now=BEGUN + 60) == reading.cut_at_head()
    assert cut_at(reading, BEGUN, now=BEGUN) != reading.cut_at_head()
    assert cut_at(reading, Position({}), now=0).position == Position({})
    with pytest.raises(MomentUnknown, match="not come yet"):
        cut_at(reading, BEGUN + 51, now=BEGUN)
    with pytest.raises(MomentUnknown, match="not come yet"):
        cut_at(reading, parse_moment("9999-12-31T23:59:59-23:59"), now=BEGUN)
    ahead = Position({"00112233445566aa": Mark(3, b"abcd")})
    with pytest.raises(MomentUnknown, match="does not hold"):
        cut_at(reading, ahead, now=BEGUN)
