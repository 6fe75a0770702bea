"""Which events of an entry count as superseded."""

from __future__ import annotations

from oscd.events.event import Event, EventRef, EventType, Origin
from oscd.history.lineage import Lineage
from tests.feed.merging import event_of

HERE, THERE = Origin("here", "00112233445566aa"), Origin("there", "00112233445566bb")


def event(origin: Origin, seq: int, stamp: int, replaces: EventRef | None) -> Event:
    made = event_of(EventType.UPDATED, "k", "", origin=origin, seq=seq, last_seq=seq, stamp=stamp)
    return made._replace(replaces=replaces)


def superseded(events: list[Event]) -> list[int]:
    """The stamps of those that a walk from the greatest stamp down does not hold."""
    lineage, lost = Lineage(), []
    for one in sorted(events, key=lambda one: one.precedence, reverse=True):
        if not lineage.holds(one):
            lost.append(one.stamp)
        lineage = lineage.past(one)
    return lost


def test_a_history_without_merges_has_nothing_superseded() -> None:
    """Each event replaces the one before it, so all are on the chain."""
    first = event(HERE, 1, 10, None)
    second = event(HERE, 2, 20, first.ref)
    third = event(HERE, 3, 30, second.ref)
    assert superseded([first, second, third]) == []


def test_the_branch_that_lost_is_superseded_with_all_that_was_built_on_it() -> None:
    """Two nodes that could not see each other wrote on: of the later winner's chain nothing is lost, the other is."""
    first = event(HERE, 1, 10, None)
    lost = event(THERE, 1, 20, first.ref)
    lost_too = event(THERE, 2, 30, lost.ref)
    kept = event(HERE, 2, 25, first.ref)
    winner = event(HERE, 3, 40, kept.ref)
    assert superseded([first, lost, kept, lost_too, winner]) == [30, 20]


def test_what_an_import_took_over_is_superseded() -> None:
    """An event that was decided against nothing ends the chain."""
    old = event(HERE, 1, 10, None)
    newer = event(HERE, 2, 20, old.ref)
    imported = event(THERE, 1, 30, None)
    assert superseded([old, newer, imported]) == [20, 10]


def test_of_two_with_one_stamp_the_origin_decides() -> None:
    """A tie is broken as a merge breaks it."""
    first = event(HERE, 1, 10, None)
    assert superseded([first, event(HERE, 2, 20, first.ref), event(THERE, 1, 20, first.ref)]) == [20]
