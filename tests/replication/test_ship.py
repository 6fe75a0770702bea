"""What a peer that stands at a position is sent."""

from __future__ import annotations

from pathlib import Path

from oscd.events.position import Position
from oscd.projections.sqlite import totals
from oscd.replication.compare import contradictions, lag
from oscd.replication.ship import PAGE_EVENTS, Pull, Shipping, begin, page, status_of
from oscd.replication.wire import EventFrame, Frames
from tests.replication.shipping import Log, log_of


def keys(data: bytes) -> list[str]:
    return [
        frame.header.decode().split('"key":"')[1].split('"')[0]
        for frame in Frames(2**20).feed(data)
        if isinstance(frame, EventFrame)
    ]


def test_events_beyond_a_position_come_in_log_order(tmp_path: Path) -> None:
    """Whoever wrote them first; what the position covers does not come."""
    source, other, puller = log_of("b"), log_of("c"), log_of("a")
    source.write("1")
    other.write("2")
    source.pull(other, tmp_path)
    source.write("3")
    assert keys(source.shipped()) == ["1", "2", "3"]
    puller.pull(other, tmp_path)
    assert keys(source.shipped(puller.reading.position())) == ["1", "3"]
    puller.pull(source, tmp_path)
    assert source.shipped(puller.reading.position()) == b""


def test_a_puller_ahead_of_its_peer_is_sent_what_it_lacks(tmp_path: Path) -> None:
    """Its position covers events that the peer has not got; that is no contradiction."""
    source, other, puller = log_of("b"), log_of("c"), log_of("a")
    other.write("1")
    puller.pull(other, tmp_path)
    source.pull(other, tmp_path)
    other.write("2")
    puller.pull(other, tmp_path)
    source.write("3")
    assert keys(source.shipped(puller.reading.position())) == ["3"]


def test_nobody_is_sent_its_own_events(tmp_path: Path) -> None:
    """A node that is sure of its own origin asks to skip it; what others wrote comes all the same."""
    source, puller = log_of("b"), log_of("a")
    puller.write("own")
    source.pull(puller, tmp_path)
    source.write("other")
    own = puller.reading.own().origin.incarnation
    assert keys(source.shipped()) == ["own", "other"]
    assert keys(source.shipped(skip=own)) == ["other"]


def test_who_has_all_there_is_costs_no_reading(tmp_path: Path) -> None:
    """Its own events, and those it was sent, are passed over at once, however many; then news come as ever."""
    source, puller = log_of("b"), log_of("a")
    for number in range(PAGE_EVENTS + 1):
        puller.write(f"k{number}")
    source.pull(puller, tmp_path)
    own = puller.reading.own().origin.incarnation
    over = page(source.reading, Shipping(0, {}), own)
    assert (over.data, over.shipping.offset, over.is_at_head) == (b"", PAGE_EVENTS + 1, True)
    source.write("news")
    news = page(source.reading, over.shipping, own)
    assert keys(news.data) == ["news"]
    again = page(source.reading, Shipping(0, news.shipping.known), own)
    assert (again.data, again.shipping.offset) == (b"", PAGE_EVENTS + 2)


def test_pages_are_bounded_and_lead_to_the_head() -> None:
    """Invariant 10: one view reads no more than a page, by number and by bytes."""
    source = log_of("b")
    for number in range(PAGE_EVENTS + 1):
        source.write(f"k{number}")
    shipping = begin(source.reading, Pull(Position({}), "a", "run", ""))
    first = page(source.reading, shipping, None)
    second = page(source.reading, first.shipping, None)
    assert (len(keys(first.data)), first.is_at_head) == (PAGE_EVENTS, False)
    assert (len(keys(second.data)), second.is_at_head) == (1, True)
    assert page(source.reading, second.shipping, None).data == b""
    source.write("large-1", size=3 * 2**20)
    source.write("large-2", size=3 * 2**20)
    source.write("large-3", size=3 * 2**20)
    third = page(source.reading, second.shipping, None)
    assert third.data.count(b'"key":"large') == 2


def test_a_page_says_whether_a_write_ends_with_it() -> None:
    """Invariant 2: a write may take many pages; one that the puller does not get is none that it waits for."""
    source = log_of("b")
    source.write(*(f"k{number}" for number in range(2 * PAGE_EVENTS)))
    source.write("after")
    shipping = begin(source.reading, Pull(Position({}), "a", "run", ""))
    ends = []
    for _ in range(3):
        found = page(source.reading, shipping, None)
        shipping = found.shipping
        ends.append(found.ends_write)
    assert ends == [False, True, True]
    assert page(source.reading, shipping, None).ends_write
    own = source.reading.own().origin.incarnation
    assert page(source.reading, Shipping(0, {}), own).ends_write
    assert page(source.reading, Shipping(0, {own: 2 * PAGE_EVENTS}), None).ends_write


def test_a_status_is_of_one_moment() -> None:
    """Position, state and head belong together."""
    source = log_of("b")
    source.write("a")
    status = status_of(source.reading, source.identity, 5, is_at_head=False)
    assert (status.node_id, status.run, status.now, status.head, status.entries) == ("b", "run-1", 5, 1, 1)
    assert status.position == source.reading.position()
    assert status.state == totals(source.connection).state.hex()


def test_a_lag_counts_what_is_missing_here(tmp_path: Path) -> None:
    """Not what is missing there."""
    source, puller = log_of("b"), log_of("a")
    source.write("1")
    source.write("2", "3")
    puller.write("own")
    assert lag(puller.reading.position(), source.reading.position()) == 3
    puller.pull(source, tmp_path)
    assert lag(puller.reading.position(), source.reading.position()) == 0
    assert lag(source.reading.position(), puller.reading.position()) == 1


def fork_of(log: Log) -> Log:
    """Another node that goes on from a copy of a log, as nobody should."""
    copy = log_of("copy")
    copy.connection.deserialize(log.connection.serialize())
    return copy


def test_a_number_issued_twice_is_a_contradiction(tmp_path: Path) -> None:
    """Invariant 9: digests in positions show it, also when more was written since."""
    log = log_of("b")
    log.write("1")
    copy = fork_of(log)
    log.write("2")
    copy.write("x")
    log.write("3")
    (fork,) = contradictions(log.reading, copy.reading.position())
    assert (fork.origin, fork.seq) == (log.reading.own().origin, 2)
    assert contradictions(copy.reading, log.reading.position()) == []
    copy.write("y")
    assert len(contradictions(copy.reading, log.reading.position())) == 1
    other = log_of("a")
    other.pull(log, tmp_path)
    assert contradictions(log.reading, other.reading.position()) == []
