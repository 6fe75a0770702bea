"""From a position to a place in a log."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from oscd.events.position import Mark, Position, decode_position, mark
from oscd.feed.place import NoPlace, Place, place_at_head, place_of
from tests.feed.merging import MergingLog, Step, cluster, meet, ref, run, steps


def two_events_each() -> tuple[MergingLog, MergingLog]:
    """Two nodes that wrote two events each and then met: a1 a2 b1 b2 on one, b1 b2 a1 a2 on the other."""
    a, b = cluster(2)
    for log, key in ((a, "a"), (b, "b")):
        log.append([("updated", key, "")])
        log.append([("updated", key, "")])
    meet([a, b])
    return a, b


@settings(deadline=None)
@given(steps(1))
def test_on_one_node_each_position_is_the_place_it_was_issued_at(history: list[Step]) -> None:
    """Where a log once ended, there a reader with that position stands, with nothing ahead."""
    (log,) = cluster(1)
    run([log], history)
    for end in log.ends_of_writes():
        issued = place_at_head(log.cut(end).reading())
        assert place_of(log.reading(), decode_position(issued.at)) == Place(end, issued.at)


@settings(deadline=None)
@given(steps(3))
def test_a_place_leaves_nothing_out_and_repeats_nothing(history: list[Step]) -> None:
    """Up to the place all is told, the next event is not, and `ahead` names what is told after it, no more."""
    logs = cluster(3)
    run(logs, history)
    meet(logs)
    for source in logs:
        for end in source.ends_of_writes():
            told = {ref(r.event) for r in source.recorded[:end]}
            position = source.cut(end).reading().position()
            for log in logs:
                place = place_of(log.reading(), position)
                assert isinstance(place, Place)
                assert place.at == position.encode()
                here = [ref(r.event) for r in log.recorded]
                assert told.issuperset(here[: place.offset])
                assert place.offset == len(here) or here[place.offset] not in told
                after = [(name, seq) for name, seq in here[place.offset :] if (name, seq) in told]
                assert dict(place.ahead) == {name: position.marks[name].seq for name, _ in after}


def test_a_position_of_another_node_has_events_ahead() -> None:
    """Who was told a1 a2 b1 there stands here, where b comes first, after b1, with a's two events ahead."""
    a, b = two_events_each()
    place = place_of(b.reading(), a.cut(3).reading().position())
    assert isinstance(place, Place)
    assert (place.offset, place.ahead) == (1, {a.origin.incarnation: 2})


def test_nobody_was_told_anything_at_the_empty_position() -> None:
    """The position of an empty log is before the first event of any log."""
    log, _ = two_events_each()
    assert place_of(log.reading(), Position({})) == Place(0, Position({}).encode())
    (empty,) = cluster(1)
    assert place_of(empty.reading(), Position({})) == place_at_head(empty.reading())


def test_a_position_with_an_event_that_is_not_here_is_not_yet_a_place() -> None:
    """An unknown seq, or an unknown origin, may still come; how large it is makes no difference."""
    a, b = two_events_each()
    known = a.reading().position().marks
    for marks in (
        {**known, a.origin.incarnation: Mark(3, b"\0\0\0\0")},
        {**known, b.origin.incarnation: Mark(2**63 - 1, b"\0\0\0\0")},
        {**known, "f" * 16: Mark(1, b"\0\0\0\0")},
        {"f" * 16: Mark(2**63 - 1, b"\0\0\0\0")},
    ):
        assert place_of(a.reading(), Position(marks)) is NoPlace.NOT_YET


def test_a_position_that_names_another_event_is_contradicted() -> None:
    """Invariant 9: a number that was issued twice is noticed, even beside events that are not here yet."""
    a, b = two_events_each()
    other = Mark(1, bytes(byte ^ 1 for byte in mark(1, a.recorded[0].digest).check))
    for marks in (
        {a.origin.incarnation: other},
        {a.origin.incarnation: other, "f" * 16: Mark(1, b"\0\0\0\0")},
        {"0" * 15 + "1": Mark(1, b"\0\0\0\0"), a.origin.incarnation: other},
    ):
        assert place_of(b.reading(), Position(marks)) is NoPlace.CONTRADICTED


@pytest.mark.parametrize("seq", [1, 2])
def test_a_position_inside_a_write_is_a_place(seq: int) -> None:
    """`/history` names single events of a write: who resumes there is told the rest of the write."""
    (log,) = cluster(1)
    log.append([("updated", key, "") for key in "abc"])
    position = Position({log.origin.incarnation: mark(seq, log.recorded[seq - 1].digest)})
    assert place_of(log.reading(), position) == Place(seq, position.encode())
