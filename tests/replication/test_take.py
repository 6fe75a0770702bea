"""Shipped writes into a log, in one transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from oscd.events.event import EventType, Origin
from oscd.events.origins import MAX_ORIGINS
from oscd.events.sqlite.verify import verify_chain
from oscd.events.standing import Standing
from oscd.projections.sqlite import entry, totals
from oscd.projections.verify import verify_projections
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.reception import LARGE_EVENTS, Recent, Reception
from oscd.replication.take import Held, Sender, Taken, held_in, meet, take
from oscd.replication.verify import Terms
from oscd.replication.wire import EventFrame, Frames
from oscd.replication.writes import LargeWrite
from tests.replication.shipping import BOUNDS, NOW, Log, batch, draft, invented, log_of

B, C = Origin("node-b", "00112233445566bb"), Origin("node-c", "00112233445566cc")
PEER = Sender("node-b", "run-1")


@pytest.fixture
def log() -> Log:
    return log_of("node-a")


def pull_all(logs: list[Log], directory: Path) -> None:
    for _ in logs:
        for log in logs:
            for other in logs:
                if log is not other:
                    log.pull(other, directory)


def require_sound(log: Log) -> None:
    assert list(verify_chain(log.connection, lambda _: None)) == []
    assert list(verify_projections(log.connection, lambda _: None)) == []


def test_logs_that_pull_from_each_other_become_equal(tmp_path: Path) -> None:
    """Invariants 2, 5 and 8: equal positions, equal state, and every log is sound; a chain of links is enough."""
    logs = [log_of(f"node-{name}") for name in "abc"]
    for number, log in enumerate(logs):
        log.now += number
        log.write("shared", f"own-{number}")
        log.write("shared", type=EventType.DELETED if number == 1 else EventType.UPDATED)
    chain = [(1, 0), (2, 1), (1, 2), (0, 1)]
    for puller, source in chain:
        assert logs[puller].pull(logs[source], tmp_path) > 0
    assert len({log.reading.position().encode() for log in logs}) == 1
    assert len({totals(log.connection).state for log in logs}) == 1
    for log in logs:
        require_sound(log)
    assert logs[0].pull(logs[2], tmp_path) == 0


def test_what_is_here_already_is_passed_over(log: Log) -> None:
    """Invariants 2 and 5: links race, and ingest is idempotent."""
    first, second = invented(B, ["a"]), invented(C, ["b", "c"])
    assert log.take(batch(first, second), PEER) == Taken(3)
    third = invented(B, ["d"], seq=2, before=first[-1].digest, stamp=NOW + 9)
    assert log.take(batch(first, second, third), PEER) == Taken(1)
    assert log.reading.head() == 4


def test_a_held_origin_does_not_hold_the_others(log: Log) -> None:
    """A fork is named with its seq, nothing of its write is stored, and the writes around it are."""
    log.take(batch(invented(B, ["a"])), PEER)
    forged = invented(B, ["x"], stamp=NOW + 5)
    more = invented(B, ["y"], seq=2, before=forged[-1].digest, stamp=NOW + 6)
    assert log.take(batch(forged, invented(C, ["c"]), more), PEER) == Taken(
        1, (Held(B, 1, "fork: its event 1 is not the same there as here."),)
    )
    assert [r.event.key for r in log.reading.events(0, 9)] == ["a", "c"]
    require_sound(log)


def test_a_write_that_is_held_at_its_end_is_not_begun(log: Log) -> None:
    """A write is taken whole or not at all."""
    first, second = invented(B, ["a", "b"])
    late = second._replace(event=second.event._replace(stamp=NOW + 2**50))
    taken = log.take(batch([first, late]), PEER)
    assert (taken.events, [held.seq for held in taken.held]) == (0, [1])
    assert log.reading.tip_of(B.incarnation) is None


def test_a_first_event_stamped_at_the_beginning_of_time_is_held(log: Log) -> None:
    """Invariant 2: stamps rise from 1 on; what the log would not take must not reach it."""
    taken = log.take(batch(invented(B, ["a"], stamp=0), invented(C, ["c"], stamp=1)), PEER)
    assert (taken.events, [held.reason for held in taken.held]) == (1, ["its stamps do not rise."])


def test_a_write_with_two_events_of_one_entry_is_held(log: Log) -> None:
    """No command makes such a write, and what a position covers could not name one of them."""
    taken = log.take(batch(invented(B, ["a", "a"])), PEER)
    assert (taken.events, [held.reason for held in taken.held]) == (
        0,
        ["a write of it has two events of one entry."],
    )


def test_a_gap_undoes_the_batch(log: Log) -> None:
    """The stream is condemned, and its next one begins where this log stands."""
    second, third = (invented(B, ["k"], seq=n, before=bytes(32)) for n in (2, 3))
    log.take(batch(invented(C, ["c"])), PEER)
    with pytest.raises(PeerRefused, match="event 2"):
        log.take(batch(second, third), PEER)
    assert log.reading.head() == 1


def test_nobody_writes_under_the_origin_of_a_running_node(log: Log) -> None:
    """Invariant 9: what a peer claims this node to have written is not taken; its tail from before a start is."""
    (event,) = log.write("a")
    tip = log.reading.tip_of(event.origin.incarnation)
    assert tip is not None
    forged = invented(event.origin, ["b"], seq=2, before=tip.digest, stamp=NOW + 9)
    taken = log.take(batch(forged), PEER)
    assert (taken.events, [held.reason for held in taken.held]) == (0, ["this node never wrote that."])
    for standing in (Standing.ASKING, Standing.BEGINS):
        with log.writing() as writing:
            writing.settle(standing)
        seq = tip.seq + 1
        more = invented(event.origin, ["c"], seq=seq, before=tip.digest, stamp=NOW + 9 + seq)
        assert log.take(batch(more), PEER) == Taken(1)
        tip = log.reading.tip_of(event.origin.incarnation)
        assert tip is not None
    require_sound(log)


def test_clocks_are_unharmed_by_what_is_held(log: Log) -> None:
    """A stamp in the year 9999 is neither stored nor does it move the clock of this log."""
    taken = log.take(batch(invented(B, stamp=253_370_764_800_000_000)), PEER)
    assert len(taken.held) == 1
    (event,) = log.write("a")
    assert event.stamp == NOW


def test_invented_origins_are_held_once_there_are_enough(log: Log) -> None:
    """Invariant 10: within one batch as well; a member still comes in."""
    writes = [invented(Origin(f"x{n}", f"{n:016x}"), [f"k{n}"]) for n in range(MAX_ORIGINS + 5)]
    taken = log.take(batch(*writes), PEER)
    assert (taken.events, len(taken.held)) == (MAX_ORIGINS - 1, 6)
    assert log.take(batch(invented(C)), PEER).events == 0
    assert log.take(batch(invented(C)), PEER, members=frozenset({"node-c"})).events == 1


def large_write(source: Log, directory: Path) -> LargeWrite:
    source.write(*(f"k{n}" for n in range(LARGE_EVENTS + 2)))
    (large,) = Reception(BOUNDS, directory, Recent()).feed(source.shipped())
    assert isinstance(large, LargeWrite)
    return large


def test_a_large_write_is_taken_whole(log: Log, tmp_path: Path) -> None:
    """In one transaction, without being in memory; and passed over when it comes again."""
    source = log_of("node-b")
    large = large_write(source, tmp_path)
    for expected in (LARGE_EVENTS + 2, 0):
        assert log.take(large, PEER) == Taken(expected)  # type: ignore[arg-type]
    large.close()
    assert totals(log.connection).state == totals(source.connection).state


def test_a_large_write_that_is_held_leaves_nothing(log: Log, tmp_path: Path) -> None:
    """Whatever of it had been put into the transaction is rolled back with it."""
    source = log_of("node-b")
    source.now += 2**50
    large = large_write(source, tmp_path)
    with pytest.raises(OriginHeld, match="24 h") as held:
        log.take(large, PEER)  # type: ignore[arg-type]
    assert held_in(large, held.value).seq == 1
    assert log.reading.head() == 0
    large.close()


def test_what_an_older_run_had_on_its_way_is_refused(log: Log) -> None:
    """Invariant 9: once a node was told what this log holds of it, nothing of before may change that."""
    write = invented(B)
    with log.writing() as writing:
        assert meet(writing, PEER, None)
    with log.writing() as writing:
        writing.fence("node-b", "run-2")
    with log.writing() as writing, pytest.raises(PeerRefused, match="anew"):
        take(writing, batch(write), Terms(NOW), PEER)
    assert log.take(batch(write), Sender("node-b", "run-2")) == Taken(1)


def test_peers_are_met_however_many_were_invented(log: Log) -> None:
    """Invariant 10: 300 names that nobody has, each noted, keep no peer out, new or known."""
    assert log.take(batch(invented(B)), PEER) == Taken(1)
    with log.writing() as writing:
        for number in range(300):
            assert meet(writing, Sender(f"invented-{number}", "run"), None, {"node-c"})
    tip = log.reading.tip_of(B.incarnation)
    assert tip is not None
    second = invented(B, ["second"], seq=2, before=tip.digest, stamp=NOW + 1)
    with log.writing() as writing:
        assert take(writing, batch(second), Terms(NOW), PEER) == Taken(1)
    assert log.take(batch(invented(C)), Sender("node-c", "run-1")) == Taken(1)


def test_a_stream_is_met_unless_another_run_was_noted_meanwhile(log: Log) -> None:
    """Who was asked for a stream and started anew before it answered is not met under its old run."""
    with log.writing() as writing:
        assert meet(writing, PEER, None)
        assert meet(writing, PEER, None)
        assert not meet(writing, Sender("node-b", "run-0"), None)
        assert meet(writing, Sender("node-b", "run-2"), "run-1")
        assert not meet(writing, PEER, "run-1")
    assert log.reading.runs() == {"node-b": "run-2"}


def test_a_loser_changes_nothing_but_the_log(log: Log) -> None:
    """Invariant 5: an event stamped before the entry's winner loses, a tombstone included."""
    with log.writing() as writing:
        writing.append([draft("k")])
        writing.append([draft("k", type=EventType.DELETED)])
    before = totals(log.connection)
    assert log.take(batch(invented(B, ["k"], stamp=1)), PEER) == Taken(1)
    found = entry(log.connection, "prod", "k")
    assert found is not None
    assert found.deleted
    assert totals(log.connection).state == before.state
    require_sound(log)


def test_frames_of_one_log_are_the_bytes_of_the_other(tmp_path: Path) -> None:
    """Invariant 8: header, body and digest are stored as they came, and shipped on as they are stored."""
    source, log = log_of("node-b"), log_of("node-a")
    source.write("a", "b")
    log.pull(source, tmp_path)
    sent = [frame for frame in Frames(2**20).feed(source.shipped()) if isinstance(frame, EventFrame)]
    again = [frame for frame in Frames(2**20).feed(log.shipped()) if isinstance(frame, EventFrame)]
    assert sent == again
    assert len(sent) == 2
