"""Owns the six guarantees of a stream (contract §6, after those of etcd's watch), a pure validator for each.

A validator takes the judged truth and what one logical subscriber was told, and gives findings in words; none means
that the guarantee holds. All judge streams of one node, where everybody hears in log order. Must not do I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from tests.support.history import Attempt, History, Received, Run
from tests.support.truth import Truth

Validator = Callable[[History, Truth], list[str]]


def ordered(history: History, truth: Truth) -> list[str]:
    """Changes are told in log order, and the frames of one entry have rising timestamps.

    Judged over what a run was told, reconnects included; whether all of it was told is `reliable`'s business.
    """
    return [finding for run in history.runs() for finding in _ordered(run, truth)]


def _ordered(run: Run, truth: Truth) -> Iterator[str]:
    changes = _changes(_told(run, truth))
    placed = [(place, frame) for frame in changes if (place := truth.place(frame)) is not None]
    for (before, earlier), (after, later) in pairwise(placed):
        if after < before:
            yield f"{brief(later)} was told after {brief(earlier)}, which the log has {before - after} later"
    last: dict[tuple[str, str], Received] = {}
    for frame in changes:
        previous = last.get(frame.entry)
        if previous is not None and frame.data["timestamp"] < previous.data["timestamp"]:
            yield f"{brief(frame)} is older than {brief(previous)}, which was told before it"
        last[frame.entry] = frame


def unique(history: History, truth: Truth) -> list[str]:
    """No event is told twice in a run. What makes an event is its type, entry, version and timestamp."""
    findings = []
    for run in history.runs():
        seen = set()
        for frame in _changes(_told(run, truth)):
            if truth.identity(frame) in seen:
                findings.append(f"{brief(frame)} was told more than once")
            seen.add(truth.identity(frame))
    return findings


def reliable(history: History, truth: Truth) -> list[str]:
    """The last run was told exactly the matching changes from where it started to the end of the truth.

    A category matches a change that has it before or after: creates and deletes in it, and updates into, within and
    out of it. So a subscriber must have been read to the end of the log before it is judged.
    """
    run = history.last_run()
    start = _start(run, truth)
    if start is None:
        return ["nobody can say where this subscriber started"]
    findings = []
    told: set[int] = set()
    for frame in _changes(_told(run, truth)):
        place = truth.place(frame)
        if place is None:
            findings.append(f"{brief(frame)} was told and is not in the log")
        else:
            told.add(place)
    expected = set(truth.matching(history.filters, start))
    findings += [f"{truth.events[place]} was never told" for place in sorted(expected - told)]
    findings += [
        f"{truth.events[place]} was told to whom it is no concern of" for place in sorted(told - expected)
    ]
    return findings


def atomic(history: History, truth: Truth) -> list[str]:
    """The changes of one write come in one piece, and no id can be resumed from that lies inside a write.

    Two changes of a write have nothing between them; an id is given only where every matching change of each write
    told so far was told, and names a place between two writes.
    """
    findings = []
    for run in history.runs():
        for attempt in run.attempts:
            for frame in attempt.frames:
                cut = None if frame.id is None else truth.cut(frame.id)
                if cut is not None and not truth.is_whole(cut):
                    findings.append(f"{brief(frame)} has an id inside a write")
            findings += _split_writes(attempt, history, truth)
    return findings


def _split_writes(attempt: Attempt, history: History, truth: Truth) -> Iterator[str]:
    """Findings about one connection.

    Changes from one id to the next are taken together: they are what a reader gets to hold at once.
    """
    held: set[int] = set()
    torn: set[int] = set()
    open_write: int | None = None
    for frame in attempt.frames:
        place = truth.place(frame) if frame.is_change else None
        if place is not None:
            write = truth.events[place].write
            if write in torn and write != open_write:
                yield f"{brief(frame)} came apart from the other changes of its write"
            open_write = write
            torn.add(write)
            held.add(place)
        elif not frame.is_change:
            open_write = None
        if frame.id is None or not held:
            continue
        if (truth.cut(frame.id) or 0) <= min(held):
            continue  # The id says again what came before all of this.
        due = {other for one in held for other in truth.write_of(one, history.filters)} - held
        for missing in sorted(due):
            yield f"{brief(frame)} gives an id while {truth.events[missing]}, of a write told in part, is due"
        held.clear()


def resumable(history: History, truth: Truth) -> list[str]:
    """What follows a start is exactly what follows that id in the log: no gap, no repeat, in order.

    Judged for every connection that started from an id, its own or `?after=`: it says `connected` from that very
    place, is not reset, and is then told the matching changes behind it, as far as it was read.
    """
    findings = []
    for number, attempt in enumerate(history.attempts):
        if attempt.began_with_snapshot or not attempt.frames:
            continue
        name = f"connection {number}"
        asked = attempt.after if attempt.last_event_id is None else attempt.last_event_id
        first = attempt.frames[0]
        began = None if first.id is None else truth.cut(first.id)
        if first.event != "connected" or began is None:
            findings.append(
                f"{name} began with {brief(first)}, not with a connected that has a place of the log"
            )
        if asked is not None:
            findings += [f"{name} was reset" for frame in attempt.frames if frame.event == "reset"]
            if truth.cut(asked) != began:
                findings.append(f"{name} asked for what follows {asked} and began at {first.id}")
            began = truth.cut(asked)
        if began is None:
            findings.append(f"{name} asked for what follows {asked}, which is no place of the log")
            continue
        findings += [f"{name}: {each}" for each in _continues(attempt.frames, began, history, truth)]
    return findings


def bookmarkable(history: History, truth: Truth) -> list[str]:
    """Every id is a place to resume from; a snapshot is the state at its bookmark, and what follows goes on there.

    - An id, of a change or alone, lies behind every change told so far on that connection, no matching change before
      it is still due, and ids never go back. An id that says again where a write began is as good as none.
    - With the last change of each write that concerns the subscriber comes an id, in its own frame or alone right
      after it, so that nothing whole is told again.
    - Where a snapshot was asked for, nothing before the bookmark has an id and no change is told; the snapshot frames
      are exactly the matching entries at the bookmark's place, each once and as they were there; there is one
      bookmark, and the changes after it are exactly those behind its place.
    - Elsewhere there is neither a snapshot nor a bookmark.
    """
    findings = []
    for number, attempt in enumerate(history.attempts):
        found = [*_snapshot_findings(attempt, history, truth), *_id_findings(attempt, history, truth)]
        findings += [f"connection {number}: {each}" for each in found]
    return findings


def _snapshot_findings(attempt: Attempt, history: History, truth: Truth) -> Iterator[str]:
    marks = [place for place, frame in enumerate(attempt.frames) if frame.event == "bookmark"]
    if not attempt.began_with_snapshot:
        for frame in attempt.frames:
            if frame.event in {"snapshot", "bookmark"}:
                yield f"{brief(frame)} came though no snapshot was due"
        return
    before = attempt.frames[: marks[0]] if marks else attempt.frames
    for frame in before:
        if frame.id is not None:
            yield f"{brief(frame)} has an id before the bookmark"
        if frame.is_change:
            yield f"{brief(frame)} was told before the bookmark"
    if not marks:
        return  # Cut off half way: the rest cannot be known, and the subscriber starts over.
    bookmark, after = attempt.frames[marks[0]], attempt.frames[marks[0] + 1 :]
    if len(marks) > 1 or any(frame.event == "snapshot" for frame in after):
        yield "a snapshot went on after its bookmark"
    cut = None if bookmark.id is None else truth.cut(bookmark.id)
    if cut is None:
        yield f"the bookmark's id {bookmark.id} is no place of the log"
        return
    if not truth.is_whole(cut):
        yield f"the bookmark's id {bookmark.id} lies inside a write"
    yield from _state_findings(before, cut, history, truth)
    yield from _continues(after, cut, history, truth)


def _state_findings(frames: Sequence[Received], cut: int, history: History, truth: Truth) -> Iterator[str]:
    due = truth.state(cut, history.filters)
    for frame in frames:
        if frame.event != "snapshot":
            continue
        held = due.pop(frame.entry, None)
        if held is None:
            yield f"{brief(frame)} does not exist at the bookmark, does not match, or came twice"
        elif (frame.data["version"], frame.data["category"]) != (held.version, held.category):
            yield f"{brief(frame)} is {held} at the bookmark"
    for entry in due:
        yield f"{entry} exists at the bookmark and is not in the snapshot"


def _id_findings(attempt: Attempt, history: History, truth: Truth) -> Iterator[str]:
    reached = _attempt_start(attempt, truth)
    told: set[int] = set()
    last = greatest = behind = -1
    # The place told last, the greatest place told, and the greatest told of any write before that of the last.
    for number, frame in enumerate(attempt.frames):
        place = truth.place(frame) if frame.is_change else None
        if place is not None:
            if last >= 0 and truth.events[last].write != truth.events[place].write:
                behind = greatest
            last, greatest = place, max(greatest, place)
            told.add(place)
            following = attempt.frames[number + 1] if number + 1 < len(attempt.frames) else None
            if truth.write_of(place, history.filters)[-1] == place and not _confirms(
                place, frame, following, truth
            ):
                yield f"no id that lies behind {brief(frame)} comes with the end of its write"
        if frame.id is None:
            continue
        cut = truth.cut(frame.id)
        if cut is None:
            yield f"{brief(frame)} has the id {frame.id}, which is no place of the log"
            continue
        if frame.event == "reset":
            reached = cut
        if cut <= behind:
            yield f"{brief(frame)} has an id that lies before what was told already"
        if reached is not None:
            if cut < reached:
                yield f"{brief(frame)} has an id that goes back"
            due = set(truth.matching(history.filters, reached, cut)) - told
            if due:
                yield f"{brief(frame)} has an id that passes over {truth.events[min(due)]}"
            reached = max(reached, cut)


def _confirms(place: int, frame: Received, following: Received | None, truth: Truth) -> bool:
    """Whether an id behind the end of a write comes with its last change, or may have been cut off."""
    if frame.id is not None and (truth.cut(frame.id) or 0) > place:
        return True
    return following is None or (
        not following.event and following.id is not None and (truth.cut(following.id) or 0) > place
    )


def _continues(frames: Sequence[Received], cut: int, history: History, truth: Truth) -> Iterator[str]:
    """Whether the changes among `frames` are the first of those that follow `cut`, all up to the last id."""
    told = [(truth.place(frame), frame) for frame in _changes(frames)]
    expected = truth.matching(history.filters, cut)
    for (place, frame), due in zip(told, expected, strict=False):
        if place != due:
            yield f"{brief(frame)} was told where {truth.events[due]} was due"
            return
    if len(told) > len(expected):
        yield f"{brief(told[len(expected)][1])} was told where nothing was due"
    elif len(told) < len(expected):
        reached = max((truth.cut(frame.id) or 0 for frame in frames if frame.id is not None), default=0)
        if expected[len(told)] < reached:
            yield f"{truth.events[expected[len(told)]]} was due and left out"


VALIDATORS: dict[str, Validator] = {
    "Ordered": ordered,
    "Unique": unique,
    "Reliable": reliable,
    "Atomic": atomic,
    "Resumable": resumable,
    "Bookmarkable": bookmarkable,
}


def findings(history: History, truth: Truth) -> list[str]:
    """What all six have to say, each finding with the name of its guarantee."""
    return [f"{name}: {each}" for name, validate in VALIDATORS.items() for each in validate(history, truth)]


def brief(frame: Received) -> str:
    """A frame in few words."""
    if not frame.event:
        return f"an id alone ({frame.id})"
    if "key" not in frame.data:
        return frame.event
    data = frame.data
    return f"{frame.event} {data['environment']}/{data['key']} v{data['version']} [{data['category']}]"


def _changes(frames: Sequence[Received]) -> list[Received]:
    return [frame for frame in frames if frame.is_change]


def _told(run: Run, truth: Truth) -> list[Received]:
    """What stands of a run's frames.

    A reader holds a change only once an id confirms it. What was cut off before that, a part of a write, is told
    again from the id that the next attempt resumes from, so its first telling does not count.
    """
    told = []
    for attempt, following in pairwise((*run.attempts, None)):
        assert attempt is not None
        resumed = None if following is None else truth.cut(following.last_event_id or "")
        for frame in attempt.frames:
            place = truth.place(frame) if frame.is_change else None
            if place is None or resumed is None or place < resumed:
                told.append(frame)
    return told


def _start(run: Run, truth: Truth) -> int | None:
    """Where a run started: at the first connection of it that came to say so."""
    for attempt in run.attempts:
        if (start := _attempt_start(attempt, truth)) is not None:
            return start
    return None


def _attempt_start(attempt: Attempt, truth: Truth) -> int | None:
    """The place a connection started from: asked for, or else the first id it got."""
    asked = attempt.after if attempt.last_event_id is None else attempt.last_event_id
    if asked is not None:
        return truth.cut(asked)
    for frame in attempt.frames:
        if frame.id is not None:
            return truth.cut(frame.id)
    return None
