"""From the bytes of a stream to whole writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from oscd.events.event import EventType, Origin
from oscd.replication.errors import PeerRefused
from oscd.replication.reception import (
    BATCH_EVENTS,
    LARGE_EVENTS,
    MAX_HELD_ORIGINS,
    Received,
    Recent,
    Reception,
)
from oscd.replication.ship import status_of
from oscd.replication.take import Held
from oscd.replication.wire import EventFrame, Frames, Goodbye, event_frame, goodbye_frame, status_frame
from oscd.replication.writes import Bounds, LargeWrite, Writes
from tests.replication.shipping import BOUNDS, Log, draft, frame_of, invented, log_of


@pytest.fixture
def source() -> Log:
    return log_of("node-b")


@pytest.fixture
def reception(tmp_path: Path) -> Reception:
    return Reception(BOUNDS, tmp_path, Recent())


def keys(received: Received | None) -> list[str]:
    assert isinstance(received, Writes | LargeWrite)
    return [candidate.event.key for candidate in received.candidates()]


def frames_of(data: bytes) -> list[bytes]:
    return [event_frame(frame) for frame in Frames(2**20).feed(data) if isinstance(frame, EventFrame)]


def test_writes_come_whole_and_in_order(source: Log, reception: Reception) -> None:
    """Invariant 2: of a write that has not ended nothing is given out."""
    source.write("a")
    source.write("b", "c", "d")
    *first, last = frames_of(source.shipped())
    assert list(reception.feed(b"".join(first))) == []
    assert keys(reception.pending()) == ["a"]
    assert list(reception.feed(last)) == []
    assert keys(reception.pending()) == ["b", "c", "d"]
    assert reception.pending() is None


def test_what_came_before_a_status_is_given_out_before_it(source: Log, reception: Reception) -> None:
    """Whoever reads the status has been given all that the source had sent by then."""
    source.write("a")
    status = status_of(source.reading, source.identity, source.now, is_at_head=True)
    data = source.shipped() + status_frame(status) + goodbye_frame("over")
    writes, *rest = reception.feed(data)
    assert keys(writes) == ["a"]
    assert rest == [status, Goodbye("over")]


def test_a_batch_is_bounded(source: Log, reception: Reception) -> None:
    """Invariant 10: many small writes make several batches."""
    for number in range(BATCH_EVENTS + 3):
        source.write(f"k{number}")
    (full,) = reception.feed(source.shipped())
    rest = reception.pending()
    assert (len(keys(full)), len(keys(rest))) == (BATCH_EVENTS, 3)


@pytest.mark.parametrize(("count", "size"), [(LARGE_EVENTS + 5, 10), (3, 3 * 2**20)])
def test_a_large_write_waits_in_a_file_without_a_name(
    source: Log, tmp_path: Path, count: int, size: int
) -> None:
    """Invariant 10: it takes no memory, and nothing is left of it when the process dies."""
    bounds = Bounds(max_body_bytes=2**23, max_write_bytes=2**26)
    reception = Reception(bounds, tmp_path, Recent())
    source.write("before")
    source.write(*(f"k{number}" for number in range(count)), size=size)
    source.write("after")
    before, large = reception.feed(source.shipped())
    assert list(tmp_path.iterdir()) == []
    assert isinstance(large, LargeWrite)
    assert large.is_large
    assert keys(before) == ["before"]
    assert keys(large) == keys(large) == [f"k{number}" for number in range(count)]
    assert keys(reception.pending()) == ["after"]
    large.close()


def test_a_write_larger_than_any_may_be_is_refused(source: Log, tmp_path: Path) -> None:
    """Invariant 10: a peer does not fill the disk of another."""
    reception = Reception(Bounds(max_body_bytes=2**23, max_write_bytes=2**22), tmp_path, Recent())
    source.write("a", "b", size=2**22)
    with pytest.raises(PeerRefused, match="write that is larger"):
        list(reception.feed(source.shipped()))
    reception.close()


def test_an_event_again_or_out_of_turn_is_refused(source: Log, reception: Reception, tmp_path: Path) -> None:
    """A stream goes forward: what the network doubled or moved ends it."""
    source.write("a")
    source.write("b")
    first, second = frames_of(source.shipped())
    with pytest.raises(PeerRefused, match="again"):
        list(reception.feed(first + first))
    with pytest.raises(PeerRefused, match="again"):
        list(Reception(BOUNDS, tmp_path, Recent()).feed(second + first))


def test_a_write_within_another_is_refused(source: Log, tmp_path: Path) -> None:
    """Writes are contiguous in every log."""
    other = log_of("node-c")
    source.write("a", "b", "c")
    other.write("x")
    first, second, third = frames_of(source.shipped())
    status = status_frame(status_of(source.reading, source.identity, 0, is_at_head=False))
    for wrong in (first + other.shipped(), first + third, first + status):
        with pytest.raises(PeerRefused):
            list(Reception(BOUNDS, tmp_path, Recent()).feed(wrong + second))


def test_what_came_in_lately_is_passed_over(source: Log, tmp_path: Path) -> None:
    """Each event comes from every peer; one that is here already costs no look at it."""
    recent = Recent()
    reception = Reception(BOUNDS, tmp_path, recent)
    source.write("a")
    source.write("b", "c")
    list(reception.feed(source.shipped()))
    writes = reception.pending()
    assert writes is not None
    recent.note(candidate.digest for candidate in writes.candidates())
    source.write("d")
    again = Reception(BOUNDS, tmp_path, recent)
    list(again.feed(source.shipped()))
    assert keys(again.pending()) == ["d"]


def test_what_is_remembered_as_recent_is_bounded() -> None:
    """Invariant 10: the oldest is forgotten first."""
    recent = Recent(most=2)
    recent.note([b"1", b"2", b"2", b"3"])
    assert [digest in recent for digest in (b"1", b"2", b"3")] == [False, True, True]


def test_of_a_held_origin_nothing_more_is_given_out(source: Log, reception: Reception) -> None:
    """Others go on."""
    other = log_of("node-c")
    source.write("a")
    other.write("x")
    reception.hold(Held(source.reading.own().origin, 1, "fork"))
    list(reception.feed(source.shipped() + other.shipped()))
    assert keys(reception.pending()) == ["x"]


@pytest.mark.parametrize("count", [2, LARGE_EVENTS + 2])
def test_a_write_whose_origin_is_held_meanwhile_is_dropped(
    source: Log, reception: Reception, count: int
) -> None:
    """A batch is judged while the next is cut: what has come of a write then keeps the stream from nothing."""
    other = log_of("node-c")
    source.write(*(f"k{number}" for number in range(count)))
    other.write("x")
    *most, last = frames_of(source.shipped())
    assert list(reception.feed(b"".join(most))) == []
    reception.hold(Held(source.reading.own().origin, 1, "fork"))
    status = status_of(source.reading, source.identity, source.now, is_at_head=False)
    assert list(reception.feed(last + status_frame(status))) == [status]
    list(reception.feed(other.shipped()))
    assert keys(reception.pending()) == ["x"]


def test_an_unsound_event_holds_its_origin_with_its_write(source: Log, reception: Reception) -> None:
    """What came of that write before is dropped; the stream goes on behind it."""
    origin = Origin("node-c", "00112233445566cc")
    first, second = invented(origin, ["a", "b"])
    frames = [
        event_frame(frame_of(first.event, first.body)),
        event_frame(frame_of(second.event, b"{}", first.digest)),
    ]
    source.write("x")
    list(reception.feed(b"".join(frames) + source.shipped()))
    assert keys(reception.pending()) == ["x"]
    assert reception.held[origin.incarnation].origin == origin
    assert reception.held[origin.incarnation].seq == 2


def test_a_stream_with_too_many_held_origins_is_condemned(reception: Reception) -> None:
    """Invariant 10: a million invented origins are not a million notes."""
    for number in range(MAX_HELD_ORIGINS):
        reception.hold(Held(Origin("x", f"{number:016x}"), 1, "held"))
    with pytest.raises(PeerRefused, match="more origins"):
        reception.hold(Held(Origin("x", "f" * 16), 1, "held"))


@pytest.mark.parametrize("count", [2, LARGE_EVENTS + 2])
def test_a_goodbye_within_a_write_is_heard(source: Log, reception: Reception, count: int) -> None:
    """A log may fail anywhere; the reason is not hidden by the write it cuts short, of which nothing is kept."""
    source.write("before")
    source.write(*(f"k{number}" for number in range(count)))
    *most, _ = frames_of(source.shipped())
    before, goodbye = reception.feed(b"".join(most) + goodbye_frame("its log is damaged"))
    assert keys(before) == ["before"]
    assert goodbye == Goodbye("its log is damaged")
    assert reception.pending() is None


def test_a_stream_that_ends_within_a_write_leaves_nothing(source: Log, tmp_path: Path) -> None:
    """Invariant 2: a large write that never ended lets go of its file."""
    with source.writing() as writing:
        writing.append([draft(f"k{n}", type=EventType.CREATED) for n in range(LARGE_EVENTS + 2)])
    data = source.shipped()
    reception = Reception(BOUNDS, tmp_path, Recent())
    assert list(reception.feed(data[:-1])) == []
    assert reception.pending() is None
    reception.close()
