"""What is wrong with one peer is said now and then; neither the log nor the memory is anybody's to fill."""

from __future__ import annotations

from oscd.replication.seldom import MOST_NAMES, QUIET_SECONDS, Seldom


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_is_said_once_in_a_while() -> None:
    """Again when the operator may have forgotten it, and of each name by itself."""
    clock = Clock()
    seldom = Seldom(clock)
    assert [seldom.is_due("a") for _ in range(3)] == [True, False, False]
    clock.now += QUIET_SECONDS - 1
    assert [seldom.is_due("a"), seldom.is_due("b")] == [False, True]
    clock.now += 1
    assert [seldom.is_due("a"), seldom.is_due("b")] == [True, False]


def test_many_names_fill_nothing() -> None:
    """Of more than so many within the time nothing is said; afterwards there is room again."""
    clock = Clock()
    seldom = Seldom(clock)
    assert sum(seldom.is_due(str(number)) for number in range(10 * MOST_NAMES)) == MOST_NAMES
    clock.now += QUIET_SECONDS
    assert seldom.is_due("another")
