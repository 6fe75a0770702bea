"""What is known of a peer by its statuses: lag, forks, equality, its clock."""

from __future__ import annotations

import pytest

from oscd.events.event import Origin
from oscd.events.position import Mark, Position
from oscd.events.standing import Standing
from oscd.replication.meeting import refuse_stranger
from oscd.replication.ship import Identity, status_of
from oscd.replication.sight import PeerClock, Sight, is_fork_of, look
from oscd.replication.trouble import PeerTrouble
from oscd.replication.wire import PeerStatus
from tests.replication.shipping import NOW, Log, log_of

SECOND = 1_000_000


def status_of_log(log: Log, **changes: object) -> PeerStatus:
    status = status_of(log.reading, log.identity, NOW, is_at_head=True)
    return _changed(status, **changes)


def _changed(status: PeerStatus, **changes: object) -> PeerStatus:
    fields = {name: getattr(status, name) for name in PeerStatus.__slots__}
    return PeerStatus(**{**fields, **changes})


def test_equal_logs_are_seen_to_be_equal() -> None:
    """Two that hold the same are synced; with one event more there, one is missing here, and neither diverges."""
    a, b = log_of("node-a"), log_of("node-b")
    seen = look(a.reading, status_of_log(b))
    assert (seen.lag_events, seen.is_synced, seen.has_diverged, seen.forks) == (0, True, False, ())
    b.write("one", "two")
    seen = look(a.reading, status_of_log(b))
    assert (seen.lag_events, seen.is_synced, seen.has_diverged, seen.forks) == (2, False, False, ())


def test_a_lag_can_be_written_down_whatever_a_peer_claims() -> None:
    """Of many origins the greatest number each, which is more than JSON or a metric could hold."""
    a = log_of("node-a")
    claim = Position({f"{number:016x}": Mark(2**63 - 1, b"abcd") for number in range(100)})
    assert look(a.reading, status_of_log(a, position=claim)).lag_events == 2**63 - 1


def test_equal_positions_with_unequal_states_are_a_divergence() -> None:
    """The same events and another digest: a fault that must be seen."""
    a = log_of("node-a")
    a.write("one")
    seen = look(a.reading, status_of_log(a, state="00" * 32))
    assert (seen.is_synced, seen.has_diverged) == (False, True)


def test_another_event_under_one_number_is_a_fork() -> None:
    """It is named with its origin, also where that is this node itself, which then was put back."""
    a = log_of("node-a")
    (event,) = a.write("one")
    position = Position({event.origin.incarnation: Mark(1, b"else")})
    seen = look(a.reading, status_of_log(a, position=position))
    (fork,) = seen.forks
    assert (fork.origin, fork.seq) == (event.origin, 1)
    assert is_fork_of(event.origin, seen.forks)
    assert not is_fork_of(Origin("node-b", "00" * 8), seen.forks)


@pytest.mark.parametrize("standing", [Standing.CONTINUES, Standing.ASKING])
def test_events_of_this_node_that_it_never_wrote_are_a_lie_once_it_has_settled(standing: Standing) -> None:
    """While it still asks, a peer may well know more of it than it does itself."""
    a = log_of("node-a")
    (event,) = a.write("one")
    with a.writing() as writing:
        writing.settle(standing)
    claim = Position({event.origin.incarnation: Mark(9, b"abcd")})
    forks = look(a.reading, status_of_log(a, position=claim)).forks
    claimed = [(held.origin, held.seq) for held in forks]
    assert claimed == ([(event.origin, 2)] if standing is Standing.CONTINUES else [])
    assert not is_fork_of(event.origin, look(a.reading, status_of_log(a, position=claim)).forks)


def test_a_status_that_was_delayed_does_not_set_a_clock_back() -> None:
    """Delays only ever make a clock seem slow, so of the last statuses the fastest counts; a step is seen soon."""
    clock = PeerClock()
    assert clock.skew_seconds() is None
    for late in (0, 3 * SECOND, SECOND):
        clock.heard(NOW + 5 * SECOND - late, NOW, delay=SECOND // 2)
    assert clock.skew_seconds() == 5.5
    for _ in range(10):
        clock.heard(NOW - SECOND, NOW, delay=0)
    assert clock.skew_seconds() == -1.0


def test_lag_is_counted_from_when_it_began_and_unknown_without_a_stream() -> None:
    """`lag_seconds` rises while something is missing, is 0 where nothing is, and None where nobody knows."""
    a, b = log_of("node-a"), log_of("node-b")
    sight = Sight()
    sight.heard(status_of_log(b), NOW, 0)
    sight.compared(look(a.reading, status_of_log(b)), NOW)
    assert sight.lag_seconds(NOW + 9 * SECOND) == 0.0
    b.write("one")
    for later in (1, 2):
        sight.compared(look(a.reading, status_of_log(b)), NOW + later * SECOND)
    assert sight.lag_seconds(NOW + 3 * SECOND) == 2.0
    sight.lost()
    assert (sight.lag_seconds(NOW), sight.skew_seconds(), sight.node_id) == (None, None, "node-b")


@pytest.mark.parametrize(
    ("we_are_empty", "head", "advice"),
    [(True, 5, "this log is empty"), (False, 0, "its log is empty"), (False, 5, "both have entries")],
)
def test_another_salt_is_refused_with_what_to_do(we_are_empty: bool, head: int, advice: str) -> None:
    """Which of the two must give way depends on who has something to lose."""
    ours, theirs = Identity("node-a", "1", "aa" * 32), log_of("node-b")
    with pytest.raises(PeerTrouble, match=advice) as trouble:
        refuse_stranger(ours, status_of_log(theirs, head=head), we_are_empty=we_are_empty)
    assert trouble.value.lasts


def test_a_peer_without_a_salt_is_no_stranger() -> None:
    """A new node that waits for its salt contradicts nobody."""
    theirs = log_of("node-b")
    ours = Identity("node-a", "1", "aa" * 32)
    refuse_stranger(ours, status_of_log(theirs, salt=""), we_are_empty=False)
