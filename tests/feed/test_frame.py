"""What a reader is told of an event, given what it was told before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscd.events.event import Event, EventType, Origin
from oscd.feed.frame import Frame, StreamFilter, frame
from tests.feed.merging import Step, apply, cluster, event_of, live, meet, run, steps

CREATED, UPDATED, DELETED = EventType.CREATED, EventType.UPDATED, EventType.DELETED
A, B = Origin("node-a", "0" * 16), Origin("node-b", "0" * 16)


@pytest.mark.parametrize(
    ("before", "type", "effect"),
    [
        (None, CREATED, CREATED),
        (None, UPDATED, CREATED),
        (None, DELETED, None),
        (CREATED, CREATED, UPDATED),
        (CREATED, UPDATED, UPDATED),
        (CREATED, DELETED, DELETED),
        (UPDATED, CREATED, UPDATED),
        (UPDATED, UPDATED, UPDATED),
        (UPDATED, DELETED, DELETED),
        (DELETED, CREATED, CREATED),
        (DELETED, UPDATED, CREATED),
        (DELETED, DELETED, None),
    ],
)
def test_the_effect_depends_on_what_was_there(
    before: EventType | None, type: EventType, effect: EventType | None
) -> None:
    """Each event after each other: over nothing or a tombstone an entry is created, and nothing is not deleted."""
    previous = None if before is None else event_of(before, stamp=1)
    told = frame(previous, event := event_of(type, seq=2, stamp=2))
    assert (None if told is None else told.effect) == effect
    assert told is None or told.event is event


@pytest.mark.parametrize("type", list(EventType))
@pytest.mark.parametrize("before", list(EventType))
def test_an_event_that_loses_is_not_told(before: EventType, type: EventType) -> None:
    """An older stamp changes nothing, nor does the lesser origin at the same stamp, nor an event told before."""
    previous = event_of(before, origin=B, stamp=5)
    assert frame(previous, event_of(type, origin=B, stamp=4)) is None
    assert frame(previous, event_of(type, origin=A, stamp=5)) is None
    assert frame(previous, previous) is None


def test_at_one_stamp_the_greater_origin_wins() -> None:
    """Two nodes may stamp the same microsecond; the origin's name decides, as in the merge."""
    told = frame(event_of(CREATED, origin=A, stamp=5), event_of(DELETED, origin=B, stamp=5))
    assert told is not None
    assert told.effect is DELETED


@pytest.mark.parametrize("before", [None, event_of(CREATED)])
def test_what_is_not_of_an_entry_is_not_told(before: Event | None) -> None:
    """An event of a type that this version does not know changes nothing for a reader."""
    assert frame(before, event_of("incarnation_began", seq=2, stamp=2)) is None
    assert frame(before, event_of("renamed", stamp=2)._replace(key="a", environment="prod")) is None


@pytest.mark.parametrize(
    ("before", "old", "type", "new", "categories"),
    [
        (CREATED, "x", UPDATED, "y", {"x", "y"}),
        (CREATED, "x", UPDATED, "x", {"x"}),
        (CREATED, "x", UPDATED, "", {"x", None}),
        (CREATED, "", UPDATED, "y", {None, "y"}),
        (CREATED, "x", DELETED, "x", {"x"}),
        (CREATED, "x", DELETED, "", {"x", None}),
        (DELETED, "x", CREATED, "y", {"y"}),
        (None, "", CREATED, "y", {"y"}),
    ],
)
def test_a_change_concerns_the_category_before_and_after(
    before: EventType | None, old: str, type: EventType, new: str, categories: set[str | None]
) -> None:
    """Who follows a category hears of what leaves it, enters it, is deleted in it; not of what is long gone."""
    previous = None if before is None else event_of(before, category=old, stamp=1)
    told = frame(previous, event_of(type, category=new, stamp=2))
    assert told is not None
    assert set(told.categories) == categories
    for category in ("x", "y", "z"):
        assert StreamFilter(category=category).matches(told) == (category in categories)


def test_all_filters_must_match() -> None:
    """Key, environment and category are joined by AND; what is not given matches everything."""
    told = Frame(CREATED, event_of(CREATED, "a", "x"), ("x",))
    for wanted in (
        StreamFilter(),
        StreamFilter(key="a"),
        StreamFilter(environment="prod"),
        StreamFilter(category="x"),
        StreamFilter("a", "prod", "x"),
    ):
        assert wanted.matches(told)
    for unwanted in (
        StreamFilter("b", "prod", "x"),
        StreamFilter("a", "dev", "x"),
        StreamFilter("a", "prod", "y"),
        StreamFilter(key="A"),
        StreamFilter(category=""),
    ):
        assert not unwanted.matches(told)


@settings(deadline=None)
@given(steps(2), st.integers(0, 1))
def test_frames_in_any_causal_order_leave_the_winner(history: list[Step], node: int) -> None:
    """Invariant 5: whoever applies the frames of a log, whatever its interleaving, holds what the merge says."""
    logs = cluster(2)
    run(logs, history)
    meet(logs)
    told: dict[str, Event] = {}
    entries: dict[str, Event] = {}
    for recorded in logs[node].recorded:
        event = recorded.event
        shown = frame(told.get(event.key), event)
        if event.is_of_entry and (event.key not in told or event.precedence > told[event.key].precedence):
            told[event.key] = event
        if shown is not None:
            apply(entries, shown)
    assert entries == live([recorded.event for recorded in logs[1 - node].recorded])
