"""The judges of streams: each accepts what a faultless node tells, and notices what it is there to notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.streams.ideal import Ideal, Step, filters, frame_of, log_of, writes
from tests.support.guarantees import (
    VALIDATORS,
    atomic,
    bookmarkable,
    findings,
    ordered,
    reliable,
    resumable,
    unique,
)
from tests.support.history import Attempt, Filters, History, Received
from tests.support.truth import Effect, Held, Model, Truth, Write, concerns, judged

Writes = list[list[Step]]
Frames = list[Received]

LOG: Writes = [
    [("prod", "a", "db")],
    [("prod", "b", "db"), ("prod", "c", "web"), ("dev", "a", "db")],
    [("prod", "a", "web")],
    [("prod", "b", "gone")],
    [("prod", "a", "db")],
    [("prod", "b", "web")],
    [("prod", "b", "db"), ("prod", "c", "db")],
    [("dev", "a", "gone")],
    [("dev", "a", None)],
]
"""Creates, moves into and out of categories, deletes, a new life, writes of several changes."""

EVERYTHING = Filters()
DB = Filters(category="db")


def told(truth: Truth, wanted: Filters, seed: int, *, snapshot: bool = False, cuts: int = 0) -> History:
    return Ideal(truth, History(wanted), Random(seed)).tell(snapshot=snapshot, cuts=cuts)


def plain(truth: Truth, wanted: Filters = EVERYTHING) -> History:
    """What is told from the first event on, each write's last frame with the id, no ids alone."""
    frames = [Received("connected", "p0")]
    for _, group in groupby(enumerate(truth.events), lambda placed: placed[1].write):
        placed = list(group)
        heard = [event for _, event in placed if concerns(wanted, event.effect)]
        frames += [frame_of(event, None) for event in heard[:-1]]
        frames += [frame_of(event, f"p{placed[-1][0] + 1}") for event in heard[-1:]]
    return History(wanted, [Attempt(after="p0", frames=frames)])


def snapshot_at(truth: Truth, cut: int, wanted: Filters = EVERYTHING) -> History:
    """What is told to who asks for a snapshot and gets it at a cut."""
    shown: dict[tuple[str, str], Received] = {}
    for event in truth.events[:cut]:
        shown[event.effect.environment, event.effect.key] = frame_of(event, None)
    frames = [
        replace(frame, event="snapshot")
        for frame in shown.values()
        if frame.event != "deleted" and wanted.match(*frame.entry, frame.data["category"])
    ]
    live = plain(truth, wanted).attempts[0].frames
    after = [frame for frame in live if frame.is_change and (truth.place(frame) or 0) >= cut]
    whole = [Received("connected", None), *frames, Received("bookmark", f"p{cut}"), *after]
    return History(wanted, [Attempt(snapshot=True, frames=whole)])


@given(writes, filters, st.integers(), st.booleans(), st.integers(0, 6))
def test_what_a_faultless_node_tells_is_accepted(
    steps: Writes, wanted: Filters, seed: int, snapshot: bool, cuts: int
) -> None:
    """With any log, filters, cuts and ids alone: no validator has anything to say, and the model holds the state."""
    truth = log_of(steps)
    history = told(truth, wanted, seed, snapshot=snapshot, cuts=cuts)
    assert findings(history, truth) == []
    if snapshot:
        assert Model.of(history).held == truth.state(len(truth.events), wanted)


@given(writes, filters)
def test_the_model_holds_the_state_of_who_heard_everything(steps: Writes, wanted: Filters) -> None:
    """Told from an empty log on, a careful client holds exactly the matching entries, whatever they moved through."""
    truth = log_of(steps)
    history = plain(truth, wanted)
    assert findings(history, truth) == []
    assert Model.of(history).held == truth.state(len(truth.events), wanted)


@given(writes, filters, st.data())
def test_two_frames_in_each_others_place_are_noticed(
    steps: Writes, wanted: Filters, data: st.DataObject
) -> None:
    """Any two changes that are exchanged break Ordered; two of one entry do so by their timestamps alone."""
    truth = log_of(steps)
    history = plain(truth, wanted)
    frames = history.attempts[0].frames
    assume(len(frames) > 2)
    first, second = data.draw(st.lists(st.integers(1, len(frames) - 1), min_size=2, max_size=2, unique=True))
    frames[first], frames[second] = frames[second], frames[first]
    assert ordered(history, truth)
    assert unique(history, truth) == reliable(history, truth) == []
    if frames[first].entry == frames[second].entry:
        assert ordered(history, log_of([]))


@given(writes, filters, st.data())
def test_a_frame_told_twice_is_noticed(steps: Writes, wanted: Filters, data: st.DataObject) -> None:
    """Any change told again, at once or later, breaks Unique and not Reliable."""
    truth = log_of(steps)
    history = plain(truth, wanted)
    frames = history.attempts[0].frames
    assume(len(frames) > 1)
    number = data.draw(st.integers(1, len(frames) - 1))
    frames.insert(data.draw(st.integers(number + 1, len(frames))), frames[number])
    assert len(unique(history, truth)) == 1
    assert reliable(history, truth) == []


@given(writes, filters, st.data())
def test_a_frame_left_out_is_noticed(steps: Writes, wanted: Filters, data: st.DataObject) -> None:
    """Any change that is not told breaks Reliable, and nothing that Ordered or Unique promise."""
    truth = log_of(steps)
    history = plain(truth, wanted)
    frames = history.attempts[0].frames
    assume(len(frames) > 1)
    del frames[data.draw(st.integers(1, len(frames) - 1))]
    assert len(reliable(history, truth)) == 1
    assert ordered(history, truth) == unique(history, truth) == []


@given(writes, filters, st.integers(), st.integers(1, 6), st.data())
def test_a_resume_from_any_other_place_is_noticed(
    steps: Writes, wanted: Filters, seed: int, cuts: int, data: st.DataObject
) -> None:
    """Whatever a reconnect leaves out, or tells again, of what follows its id breaks Resumable."""
    truth = log_of(steps)
    history = told(truth, wanted, seed, cuts=cuts)
    attempt = history.attempts[-1]
    changes = [number for number, frame in enumerate(attempt.frames) if frame.is_change]
    assume(attempt.last_event_id is not None)
    start = int((attempt.last_event_id or "p0")[1:])
    earlier = truth.matching(wanted, 0, start)
    if earlier and (not changes or data.draw(st.integers(0, 1))):
        attempt.frames.insert(1, frame_of(truth.events[data.draw(st.sampled_from(earlier))], None))
    else:
        assume(changes)
        del attempt.frames[data.draw(st.sampled_from(changes))]
    assert resumable(history, truth)


def changed(history: History, change: Callable[[Frames], None]) -> History:
    """A copy of it with the frames of its last connection doctored."""
    copy = deepcopy(history)
    change(copy.attempts[-1].frames)
    return copy


def at(frames: Frames, event: str, key: str, version: int, environment: str = "prod") -> int:
    """The number of the first such frame."""
    wanted = (event, environment, key, version)
    return next(
        number
        for number, frame in enumerate(frames)
        if "key" in frame.data and (frame.event, *frame.entry, frame.data["version"]) == wanted
    )


def without(event: str, key: str, version: int) -> Callable[[Frames], None]:
    def drop(frames: Frames) -> None:
        del frames[at(frames, event, key, version)]

    return drop


def with_id(event: str, key: str, version: int, identifier: str | None) -> Callable[[Frames], None]:
    def set_id(frames: Frames) -> None:
        number = at(frames, event, key, version)
        frames[number] = replace(frames[number], id=identifier)

    return set_id


def moved(event: str, key: str, version: int, by: int) -> Callable[[Frames], None]:
    def move(frames: Frames) -> None:
        number = at(frames, event, key, version)
        frames.insert(number + by, frames.pop(number))

    return move


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without("updated", "a", 2), id="a move out of the category"),
        pytest.param(without("updated", "a", 3), id="a move into the category"),
        pytest.param(without("deleted", "b", 2), id="a delete"),
        pytest.param(without("updated", "b", 2), id="a move of the new life"),
    ],
)
def test_a_subscriber_to_a_category_must_hear_of_it(change: Callable[[Frames], None]) -> None:
    """A missed delete, or a missed move into or out of the category, breaks Reliable."""
    truth = log_of(LOG)
    assert reliable(changed(plain(truth, DB), change), truth)


def test_a_subscriber_to_a_category_hears_nothing_else() -> None:
    """A change of other categories breaks Reliable for who did not ask for it."""
    truth = log_of(LOG)
    stray = frame_of(truth.events[2], None)
    assert stray.data["category"] == "web"
    assert reliable(changed(plain(truth, DB), lambda frames: frames.insert(3, stray)), truth)


def test_what_never_happened_is_noticed() -> None:
    """A change the log does not have, or has in another category, breaks Reliable."""
    truth = log_of(LOG)
    history = plain(truth)
    forgeries: list[dict[str, object]] = [
        {"version": 9},
        {"category": "other"},
        {"timestamp": "2026-01-01T00:00:01.000000Z"},
    ]
    for doctored in forgeries:

        def forge(frames: Frames, doctored: Mapping[str, object] = doctored) -> None:
            frames[3] = replace(frames[3], data={**frames[3].data, **doctored})

        assert reliable(changed(history, forge), truth)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(moved("created", "a", 1, 1), id="another change first"),
        pytest.param(moved("updated", "a", 2, -1), id="another change within"),
        pytest.param(lambda frames: frames.insert(3, Received("", "p1")), id="an id alone within"),
        pytest.param(lambda frames: frames.insert(3, Received("sync", None)), id="another event within"),
        pytest.param(with_id("created", "b", 1, "p2"), id="an id inside a write"),
        pytest.param(with_id("created", "b", 1, "p4"), id="the write's id too early"),
        pytest.param(lambda frames: frames.insert(1, Received("", "p3")), id="an id alone that lies inside"),
        pytest.param(without("created", "c", 1), id="a write told in part"),
    ],
)
def test_a_split_write_is_noticed(change: Callable[[Frames], None]) -> None:
    """Whatever comes between the changes of one write, or lets a reader resume inside it, breaks Atomic."""
    truth = log_of(LOG)
    assert atomic(plain(truth), truth) == []
    history = changed(plain(truth), change)
    assert atomic(history, truth)


def test_a_cut_within_a_write_tells_it_again() -> None:
    """A reader that is cut off within a write resumes before it: the part it had does not count as told twice."""
    truth = log_of(LOG)
    first, second = plain(truth).attempts[0], plain(truth).attempts[0]
    first.frames = first.frames[:3]
    second.last_event_id, second.frames = "p1", [Received("connected", "p1"), *second.frames[2:]]
    history = History(EVERYTHING, [first, second])
    assert findings(history, truth) == []
    second.frames[0] = Received("connected", "p4")
    del second.frames[1:4]
    assert resumable(history, truth)
    assert reliable(history, truth)


def test_what_a_reconnect_tells_again_is_told_twice() -> None:
    """A change before the id that a reconnect resumed from breaks Unique; one behind it was never confirmed."""
    truth = log_of(LOG)
    whole = plain(truth).attempts[0].frames
    first = Attempt(after="p0", frames=whole[:3])
    again = Attempt(last_event_id="p1", frames=[Received("connected", "p1"), *whole[2:]])
    assert unique(History(EVERYTHING, [first, again]), truth) == []
    again.frames.insert(1, whole[1])
    assert len(unique(History(EVERYTHING, [first, again]), truth)) == 1


def test_a_reset_is_no_resume() -> None:
    """Who is told to start over was not resumed."""
    truth = log_of(LOG)
    history = plain(truth)
    resumed = Attempt(last_event_id="p4", frames=[Received("connected", "p4"), Received("reset", "p12")])
    history.attempts.append(resumed)
    assert resumable(history, truth)


@pytest.mark.parametrize(
    "began", [Received("connected", None), Received("connected", "p5"), Received("", "p0")]
)
def test_a_stream_says_where_it_starts(began: Received) -> None:
    """The first frame is `connected`, with the very place that was asked for."""
    truth = log_of(LOG)
    history = plain(truth)
    history.attempts[0].frames[0] = began
    assert resumable(history, truth)


def first(event: str) -> Callable[[Frames], int]:
    return lambda frames: next(number for number, frame in enumerate(frames) if frame.event == event)


def bookmark(identifier: str | None) -> Callable[[Frames], None]:
    def set_id(frames: Frames) -> None:
        frames[first("bookmark")(frames)] = Received("bookmark", identifier)

    return set_id


def shown(**doctored: object) -> Callable[[Frames], None]:
    def forge(frames: Frames) -> None:
        number = at(frames, "snapshot", "c", 1)
        frames[number] = replace(frames[number], data={**frames[number].data, **doctored})

    return forge


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(bookmark("p5"), id="bookmark too early"),
        pytest.param(bookmark("p7"), id="bookmark too late"),
        pytest.param(bookmark(None), id="bookmark without an id"),
        pytest.param(bookmark("p9"), id="bookmark inside a write"),
        pytest.param(bookmark("elsewhere"), id="bookmark of no place"),
        pytest.param(without("snapshot", "c", 1), id="entry missing"),
        pytest.param(shown(key="d"), id="entry that does not exist"),
        pytest.param(shown(version=2), id="entry of a later version"),
        pytest.param(shown(category="db"), id="entry of another category"),
        pytest.param(lambda frames: frames.insert(2, frames[1]), id="entry shown twice"),
        pytest.param(with_id("snapshot", "c", 1, "p6"), id="id on a snapshot frame"),
        pytest.param(lambda frames: frames.insert(1, Received("", "p6")), id="id alone before the bookmark"),
        pytest.param(lambda f: f.__setitem__(0, Received("connected", "p6")), id="id on connected"),
        pytest.param(lambda frames: frames.insert(1, frames.pop()), id="change before the bookmark"),
        pytest.param(lambda frames: frames.append(frames[1]), id="snapshot after the bookmark"),
        pytest.param(lambda frames: frames.append(Received("bookmark", "p12")), id="two bookmarks"),
        pytest.param(without("created", "b", 1), id="first change after the bookmark left out"),
        pytest.param(
            lambda f: f.insert(first("bookmark")(f) + 1, frame_of(log_of(LOG).events[5], None)),
            id="change told again after the bookmark",
        ),
    ],
)
def test_a_wrong_snapshot_is_noticed(change: Callable[[Frames], None]) -> None:
    """A snapshot that is not the state at its bookmark, or an id where nobody could resume, breaks Bookmarkable."""
    truth = log_of(LOG)
    history = snapshot_at(truth, 6)
    assert findings(history, truth) == []
    assert bookmarkable(changed(history, change), truth)


def test_a_stale_snapshot_entry_is_noticed() -> None:
    """An entry as it was before the bookmark breaks Bookmarkable."""
    truth = log_of(LOG)
    stale = replace(frame_of(truth.events[4], None), event="snapshot")

    def forge(frames: Frames) -> None:
        frames[at(frames, "snapshot", "a", 3)] = stale

    assert bookmarkable(changed(snapshot_at(truth, 7), forge), truth)


def test_a_snapshot_nobody_asked_for_is_noticed() -> None:
    """A resumed stream is not to be filled with a snapshot."""
    truth = log_of(LOG)
    history = snapshot_at(truth, 6)
    history.attempts[0].snapshot = False
    assert bookmarkable(history, truth)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda frames: frames.insert(3, Received("", "p0")), id="before what was told"),
        pytest.param(lambda frames: frames.insert(3, Received("", "p12")), id="past what is due"),
        pytest.param(lambda frames: frames.insert(3, Received("", "elsewhere")), id="of no place"),
        pytest.param(with_id("updated", "a", 2, "p4"), id="before its own change"),
        pytest.param(with_id("updated", "a", 2, None), id="missing at the end of a write"),
    ],
)
def test_an_id_that_is_no_place_to_resume_from_is_noticed(change: Callable[[Frames], None]) -> None:
    """An id must lie behind what was told and must not pass over what is due, or Bookmarkable is broken."""
    truth = log_of(LOG)
    assert bookmarkable(changed(plain(truth), change), truth)


def test_an_id_may_pass_over_what_does_not_match() -> None:
    """With nothing to tell, ids alone go on over the changes of others."""
    truth = log_of(LOG)
    nothing = Filters(key="nowhere")
    frames = [Received("connected", "p0"), Received("", "p4"), Received("", "p4"), Received("", "p12")]
    assert findings(History(nothing, [Attempt(frames=frames)]), truth) == []


def test_each_guarantee_has_a_validator() -> None:
    """The contract names six."""
    assert list(VALIDATORS) == ["Ordered", "Unique", "Reliable", "Atomic", "Resumable", "Bookmarkable"]


def test_a_run_begins_where_a_subscriber_starts_over() -> None:
    """Who was cut off half way through a snapshot starts over; only what came then stands."""
    truth = log_of(LOG)
    history, whole = History(DB), snapshot_at(truth, 6, DB)
    history.attempts.append(Attempt(snapshot=True, frames=whole.attempts[0].frames[:2]))
    assert history.last_id is None
    history.attempts += whole.attempts
    assert findings(history, truth) == []
    assert Model.of(history).held == truth.state(len(truth.events), DB)


def test_the_model_follows_an_entry_through_its_categories() -> None:
    """An entry that moves out of the category is no longer held; one that moves in is; a delete ends it."""
    truth = log_of(LOG)
    frames = plain(truth, DB).attempts[0].frames
    model, names = Model(DB), []
    for frame in frames:
        model.apply(frame)
        names.append("".join(sorted(key for environment, key in model.held if environment == "prod")))
    assert names == ["", "a", "ab", "ab", "b", "", "a", "ab", "abc", "abc"]
    assert model.held["prod", "c"] == Held(2, "db")


def acknowledgements(truth: Truth) -> list[Write]:
    """What the writers of a log were answered."""
    numbers = sorted({event.write for event in truth.events})
    grouped = [[event for event in truth.events if event.write == number] for number in numbers]
    ends = [max(place for place, e in enumerate(truth.events) if e.write == number) + 1 for number in numbers]
    return [
        Write(f"p{end}", tuple(event.effect for event in group))
        for end, group in zip(ends, grouped, strict=True)
    ]


@given(writes)
def test_a_replay_that_agrees_with_the_acknowledgements_is_the_truth(steps: Writes) -> None:
    """Read from the log's start by who filters nothing, the log is found as it was written."""
    log = log_of(steps)
    truth, found = judged(plain(log), acknowledgements(log))
    assert found == []
    assert [event.effect for event in truth.events] == [event.effect for event in log.events]
    assert findings(plain(log), truth) == []


@pytest.mark.parametrize(
    "doctor",
    [
        pytest.param(lambda frames, acks: frames.pop(), id="an acknowledged write is not told"),
        pytest.param(lambda frames, acks: acks.pop(), id="a change nobody wrote"),
        pytest.param(lambda frames, acks: frames.pop(2), id="a part of a write is missing"),
        pytest.param(lambda frames, acks: frames.insert(4, frames.pop(3)), id="a write in another order"),
        pytest.param(lambda f, acks: with_id("created", "b", 1, "p2")(f), id="an id inside a write"),
        pytest.param(lambda f, acks: with_id("updated", "a", 2, None)(f), id="an id missing"),
    ],
)
def test_a_replay_that_disagrees_is_noticed(doctor: Callable[[Frames, list[Write]], object]) -> None:
    """The truth is not taken from the node alone: what the writers were answered must be in it, and only that."""
    log = log_of(LOG)
    history, writes_told = plain(log), acknowledgements(log)
    frames = history.attempts[0].frames
    doctor(frames, writes_told)
    assert judged(history, writes_told)[1]


def test_an_effect_that_was_acknowledged_otherwise_is_noticed() -> None:
    """A version or category that the writer was not answered is a finding."""
    log = log_of(LOG)
    told_writes = acknowledgements(log)
    effect: Effect = told_writes[0].effects[0]
    told_writes[0] = Write("p1", (replace(effect, after="other"),))
    assert judged(plain(log), told_writes)[1]
