"""When a link asks again for what is held on it."""

from __future__ import annotations

from oscd.events.event import Origin
from oscd.replication.again import FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, Again
from oscd.replication.take import Held

FORK = Held(Origin("node-b", "00" * 8), 1, "fork")
AHEAD = Held(Origin("node-c", "11" * 8), 1, "ahead", passes=True)
ROUND = 30.0
DAY = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tries(again: Again, clock: Clock, seconds: float, *held: Held) -> list[float]:
    """When a link is begun anew in so long a time, counted from now."""
    begun, found = clock.now, []
    while clock.now < begun + seconds:
        clock.now += ROUND
        if again.is_due(held):
            found.append(clock.now - begun)
    return found


def test_what_time_may_cure_is_asked_for_each_round() -> None:
    """A stamp ahead of the clock is not so for ever."""
    clock = Clock()
    assert tries(Again(clock), clock, 10 * ROUND, FORK, AHEAD) == [ROUND * number for number in range(1, 11)]


def test_a_fork_is_asked_for_ever_more_seldom() -> None:
    """Nothing but a person ends it, and each try ships its origin from where it parted; at last once an hour."""
    clock = Clock()
    found = tries(Again(clock), clock, DAY, FORK)
    pauses = [after - before for before, after in zip([ROUND, *found], found, strict=False)]
    assert pauses[:4] == [FIRST_PAUSE_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert max(pauses) == pauses[-1] == MOST_PAUSE_SECONDS


def test_what_was_mended_begins_with_short_pauses_again() -> None:
    """A fork that is gone was not tried in vain; a later one is another."""
    clock = Clock()
    again = Again(clock)
    tries(again, clock, DAY, FORK)
    assert tries(again, clock, ROUND) == []
    assert tries(again, clock, FIRST_PAUSE_SECONDS + ROUND, FORK) == [FIRST_PAUSE_SECONDS + ROUND]
