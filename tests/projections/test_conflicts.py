"""Which events count as a conflict, in logs that hold the same events in other orders."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.event import Event, EventRef, EventType, Origin
from oscd.events.foreign import Foreign
from oscd.events.log import scan
from oscd.events.sqlite.prepare import reproject
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.history.lineage import Lineage
from oscd.projections import conflict_table
from oscd.projections import sqlite as projections
from oscd.projections.conflict_table import conflicts
from oscd.projections.conflicts import Conflict, conflict
from oscd.projections.entry import entry_after
from oscd.projections.sqlite import SqliteProjections
from oscd.projections.verify import verify_projections
from tests.feed.merging import MergingLog, Step, cluster, event_of, meet, run, steps
from tests.projections.history import Step as HistoryStep
from tests.projections.history import collide, log_with, recorded_events, run_more

HERE, THERE = Origin("here", "00112233445566aa"), Origin("there", "00112233445566bb")
Knowledge = dict[EventRef, frozenset[EventRef]]


def event(
    origin: Origin, seq: int, stamp: int, replaces: EventRef | None, key_id: bytes | None = b"k" * 16
) -> Event:
    return event_of(
        EventType.UPDATED, "k", origin=origin, seq=seq, stamp=stamp, replaces=replaces, key_id=key_id
    )


def met(first: Event, second: Event) -> Conflict | None:
    """What the second one meets in a log that holds the first."""
    before, recorded = recorded_events([first, second])
    return conflict(entry_after(before), recorded)


def test_the_first_event_of_an_entry_meets_nothing() -> None:
    """A log that never held the entry has nothing that could be lost."""
    (recorded,) = recorded_events([event(HERE, 1, 10, None)])
    assert conflict(None, recorded) is None


def test_what_was_decided_against_the_winner_is_no_conflict() -> None:
    """An update, whoever wrote it, that names what it replaces."""
    first = event(HERE, 1, 10, None)
    assert met(first, event(THERE, 1, 20, first.ref, b"other key id here")) is None


def test_of_two_that_did_not_know_each_other_the_later_stamp_wins_whichever_came_first() -> None:
    """Either order of arrival is a conflict; winner and loser are the same two events."""
    first, second = event(HERE, 1, 10, None), event(THERE, 1, 20, None)
    assert met(first, second) == Conflict(winner=2, loser=1, foreign_key=False)
    assert met(second, first) == Conflict(winner=1, loser=2, foreign_key=False)


@pytest.mark.parametrize(
    ("one", "other", "is_foreign"),
    [
        (b"a" * 16, b"b" * 16, True),
        (b"a" * 16, b"a" * 16, False),
        (None, b"a" * 16, False),
        (None, None, False),
    ],
)
def test_two_user_keys_that_met_are_named(one: bytes | None, other: bytes | None, is_foreign: bool) -> None:
    """An event without a key id, as imports from the original and releases have none, says nothing of keys."""
    pair = event(HERE, 1, 10, None, one), event(THERE, 1, 20, None, other)
    for first, second in (pair, pair[::-1]):
        found = met(first, second)
        assert found is not None
        assert found.foreign_key is is_foreign


def test_the_newest_are_listed_first_with_their_events(tmp_path: Path) -> None:
    """What is told of a conflict: its entry, and both events, from which everything else follows."""
    with log_with(tmp_path / "log.db", [("create", "prod", "a", ""), ("create", "dev", "b", "")]) as log:
        collide(log, "prod", "a")
        collide(log, "dev", "b", stamp=1)
        newest, oldest = conflicts(log, 10)
        assert (newest.environment, newest.key, oldest.environment, oldest.key) == ("dev", "b", "prod", "a")
        assert (newest.winner.origin.node_id, newest.loser.origin.node_id) == ("node-a", "node-c")
        assert (oldest.winner.origin.node_id, oldest.loser.origin.node_id) == ("node-c", "node-a")
        assert not oldest.foreign_key
        assert conflicts(log, 1) == [newest]
        assert projections.totals(log).conflicts == 2
        log.execute("UPDATE conflicts SET loser = 99")
        with pytest.raises(LogCorrupt):
            conflicts(log, 1)


def test_a_node_that_writes_alone_has_none(tmp_path: Path) -> None:
    """Commands are decided against what is there, whatever they do."""
    history: list[HistoryStep] = [
        ("create", "prod", "a", ""),
        ("delete", "prod", "a", ""),
        ("create", "prod", "a", "x"),
    ]
    with log_with(tmp_path / "log.db", history) as log:
        run_more(log, [("update", "prod", "a", "y")], node_id="node-b")
        assert (projections.totals(log).conflicts, conflicts(log, 10)) == (0, [])


def known_to_writers(logs: Sequence[MergingLog], history: Sequence[Step]) -> Knowledge:
    """Have the nodes do it, then meet; tells what the log of each event's writer held when it wrote it."""
    known: Knowledge = {}
    for step in history:
        log = logs[step.node]
        held = frozenset(r.event.ref for r in log.recorded)
        run(logs, [step])
        if step.kind == "write":
            known |= {r.event.ref: held for r in log.recorded if r.event.ref not in held}
    meet(logs)
    return known


def projected(log: MergingLog) -> sqlite3.Connection:
    store = sqlite3.connect(":memory:", isolation_level=None)
    SqliteProjections().create(store)
    SqliteProjections().apply_all(store, list(scan(log.reading())))
    return store


def rows(store: sqlite3.Connection) -> list[tuple[int, ...]]:
    return store.execute(
        "SELECT number, winner, loser, foreign_key FROM conflicts ORDER BY number"
    ).fetchall()


@given(steps(3))
def test_a_conflict_is_what_its_writer_did_not_know(history: list[Step]) -> None:
    """In any order of arrival: an event that meets one which its writer's log had not, and no other."""
    logs = cluster(3)
    known = known_to_writers(logs, history)
    for log in logs:
        expected: list[tuple[int, int, int, bool]] = []
        for recorded in log.recorded:
            met = None if recorded.previous is None else log.recorded[recorded.previous - 1]
            if (
                recorded.event.is_of_entry
                and met is not None
                and met.event.ref not in known[recorded.event.ref]
            ):
                loser, winner = sorted((recorded, met), key=lambda one: one.event.precedence)
                is_foreign = winner.event.key_id != loser.event.key_id
                expected.append((len(expected) + 1, winner.offset, loser.offset, is_foreign))
        with closing(projected(log)) as store:
            assert rows(store) == expected
            assert projections.totals(store).conflicts == len(expected)


@settings(max_examples=25)
@given(steps(3, most=15), st.integers(0, 2))
def test_a_log_that_takes_in_what_others_wrote_lists_the_same(history: list[Step], node: int) -> None:
    """Invariant 3: as whole writes are ingested, and again when the log is replayed; `verify` agrees."""
    logs = cluster(3)
    known_to_writers(logs, history)
    with (
        tempfile.TemporaryDirectory() as directory,
        log_with(Path(directory) / "log.db", []) as log,
        closing(projected(logs[node])) as expected,
    ):
        log.execute("BEGIN IMMEDIATE")
        SqliteWriting(log, projections=SqliteProjections(), clock=lambda: 0).ingest(
            Foreign(r.event, codec.encode_header(r.event), None, r.digest) for r in logs[node].recorded
        )
        log.execute("COMMIT")
        assert rows(log) == rows(expected)
        assert [str(finding) for finding in verify_projections(log, lambda _: None)] == []
        log.execute("BEGIN IMMEDIATE")
        reproject(log, SqliteProjections())
        log.execute("COMMIT")
        assert rows(log) == rows(expected)


@given(steps(3))
def test_the_loser_of_a_conflict_is_superseded_when_they_have_met(history: list[Step]) -> None:
    """History marks it: at once, and for each entry's newest conflict for good."""
    logs = cluster(3)
    known_to_writers(logs, history)
    for log in logs:
        last: dict[str, tuple[int, int]] = {}
        with closing(projected(log)) as store:
            for _, winner, loser, _ in rows(store):
                assert superseded(log, loser, upto=max(winner, loser))
                last[log.recorded[loser - 1].event.key] = winner, loser
        for winner, loser in last.values():
            assert superseded(log, loser, upto=len(log.recorded))
            assert not superseded(log, winner, upto=len(log.recorded))


def superseded(log: MergingLog, offset: int, *, upto: int) -> bool:
    """Whether a walk down the entry's events marks this one as lost, in the log as it was at an offset."""
    lineage = Lineage()
    key = log.recorded[offset - 1].event.key
    of_entry = [r for r in log.recorded[:upto] if r.event.key == key]
    for one in sorted(of_entry, key=lambda one: one.event.precedence, reverse=True):
        if one.offset == offset:
            return not lineage.holds(one.event)
        lineage = lineage.past(one.event)
    raise AssertionError("the event is in the log")


@given(steps(2), st.lists(st.integers(1, 5)))
def test_the_newest_conflicts_are_kept_however_events_were_paged(
    history: list[Step], pages: list[int]
) -> None:
    """Invariant 3: what is kept of many is a function of the log; all are counted."""
    logs = cluster(2)
    known_to_writers(logs, history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conflict_table, "KEPT", 2)
        with closing(projected(logs[0])) as whole, closing(projected(MergingLog("none"))) as paged:
            left = list(scan(logs[0].reading()))
            for size in [*pages, len(left)]:
                SqliteProjections().apply_all(paged, left[:size])
                left = left[size:]
            count = projections.totals(whole).conflicts
            assert [row[0] for row in rows(whole)] == list(range(max(0, count - 2) + 1, count + 1))
            assert rows(paged) == rows(whole)
            assert projections.totals(paged) == projections.totals(whole)
