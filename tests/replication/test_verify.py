"""What a shipped event must be before it may reach the disk; named after what a peer may try."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oscd.events import codec
from oscd.events.event import MAX_VERSION, Event, EventRef, EventType, Origin
from oscd.events.foreign import OriginTip
from oscd.events.origins import MAX_ORIGINS, MAX_ORIGINS_WITH_MEMBERS
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.verify import (
    MAX_AHEAD,
    MAX_WRITE_EVENTS,
    Candidate,
    Terms,
    origin_of,
    require_next,
    sound,
)
from oscd.times import LAST_MICROSECOND, rfc3339
from tests.replication.shipping import NOW, frame_of, invented

ORIGIN = Origin("node-b", "00112233445566bb")
(FIRST,) = invented(ORIGIN)
TERMS = Terms(NOW)


def changed(**fields: object) -> Event:
    return FIRST.event._replace(**fields)  # type: ignore[arg-type]


def test_an_event_as_a_node_writes_it_is_sound() -> None:
    """Header, body and digest come through as they are."""
    frame = frame_of(FIRST.event, FIRST.body)
    assert sound(frame) == Candidate(FIRST.event, frame.header, FIRST.body, frame.digest)


@pytest.mark.parametrize(
    "frame",
    [
        frame_of(FIRST.event, FIRST.body)._replace(header=b"{}"),
        frame_of(FIRST.event, FIRST.body)._replace(header=b"\xff"),
        frame_of(FIRST.event, FIRST.body)._replace(seq=2),
        frame_of(FIRST.event, FIRST.body)._replace(incarnation="00" * 8),
        frame_of(FIRST.event, FIRST.body)._replace(body=b"{}"),
        frame_of(FIRST.event, FIRST.body)._replace(body=None),
    ],
)
def test_what_was_changed_on_the_way_condemns_the_stream(frame: object) -> None:
    """Invariant 8: a body that is not the one of its header, or a frame that says another number."""
    with pytest.raises(PeerRefused):
        sound(frame)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        changed(origin=Origin("node b", ORIGIN.incarnation)),
        changed(origin=Origin("n" * 65, ORIGIN.incarnation)),
        changed(origin=Origin("node-b", "xyz")),
        changed(seq=0, last_seq=0),
        changed(seq=2, last_seq=1),
        changed(last_seq=MAX_WRITE_EVENTS + 1),
        changed(stamp=-1),
        changed(stamp=0),
        changed(version=-1),
        changed(version=MAX_VERSION + 1),
        changed(created_at=-1),
        changed(created_at=LAST_MICROSECOND + 1),
        changed(updated_at=-1),
        changed(updated_at=LAST_MICROSECOND + 1),
        changed(stamp=LAST_MICROSECOND + 1),
        changed(key=""),
        changed(key="k" * 256),
        changed(key="k\n"),
        changed(environment=""),
        changed(environment="e" * 101),
        changed(category=""),
        changed(category="c\x7f"),
        changed(event_id=b"short"),
        changed(key_id=b"short"),
        changed(replaces=EventRef(ORIGIN, 0)),
        changed(replaces=EventRef(Origin("node-b", "xyz"), 1)),
        changed(replaces=EventRef(Origin("\x1b[2J", ORIGIN.incarnation), 1)),
        changed(type=EventType.DELETED),
        changed(type="Strange"),
        changed(type="strange"),
        changed(type="strange", environment="", key=""),
    ],
)
def test_what_no_oscd_writes_holds_its_origin(event: Event) -> None:
    """Whoever relays it is not to blame, so the peer's other origins go on."""
    frame = frame_of(event, FIRST.body)
    frame = frame._replace(incarnation=event.origin.incarnation)
    with pytest.raises(OriginHeld):
        sound(frame)


def test_the_greatest_numbers_that_are_taken_can_be_shown() -> None:
    """What is here once is listed for ever, so one event must not make a list fail."""
    last = LAST_MICROSECOND
    event = changed(stamp=last, created_at=last, updated_at=last, version=MAX_VERSION)
    taken = sound(frame_of(event, FIRST.body)).event
    assert {rfc3339(time) for time in (taken.stamp, taken.created_at, taken.updated_at)} == {
        "9999-12-31T23:59:59.999999Z"
    }


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"ciphertext":null,"actor":null,"address":null}',
        b'{"ciphertext":1,"actor":null,"address":null}',
        b'{"ciphertext":"eA==","actor":1,"address":null}',
        b'{"ciphertext":"eA==","actor":null,"address":{}}',
    ],
)
def test_a_body_that_its_header_names_but_no_oscd_writes_holds_its_origin(body: bytes) -> None:
    """A value where the type has one, and texts where texts belong."""
    with pytest.raises(OriginHeld):
        sound(frame_of(FIRST.event, body))


def test_an_event_of_a_newer_oscd_is_taken() -> None:
    """Kept, chained and shipped like any other, though nothing here knows what it means."""
    body = b'{"ciphertext":null,"actor":null,"address":null}'
    event = changed(type="key_rotated", environment="", key="", category=None)
    assert sound(frame_of(event, body)).event.type == "key_rotated"


def test_a_name_that_could_do_something_to_a_terminal_is_not_shown() -> None:
    """What is held is named in statuses and log lines."""
    strange = changed(origin=Origin("\x1b[2J", ORIGIN.incarnation))
    assert origin_of(frame_of(strange, FIRST.body)) == Origin("unreadable", ORIGIN.incarnation)
    assert origin_of(frame_of(FIRST.event, FIRST.body)) == ORIGIN


def test_the_next_event_of_an_origin_is_taken() -> None:
    """First, second, and so on, each chained to the one before."""
    first, second = invented(ORIGIN, ["a", "b"])
    tip = require_next(None, first, TERMS, 1)
    assert tip == OriginTip(ORIGIN, 1, first.digest, NOW)
    assert require_next(tip, second, TERMS, 1) == OriginTip(ORIGIN, 2, second.digest, NOW + 1)


def test_a_gap_condemns_the_stream() -> None:
    """Invariant 2: what was lost on the way must come first."""
    first, _, third = invented(ORIGIN, ["a", "b", "c"])
    with pytest.raises(PeerRefused, match="event 3 of an origin of which this node has 1"):
        require_next(require_next(None, first, TERMS, 1), third, TERMS, 1)
    with pytest.raises(PeerRefused, match="event 3 of an origin of which this node has 0"):
        require_next(None, third, TERMS, 1)


def forged(make: Callable[[Candidate, Candidate], Candidate]) -> Candidate:
    return make(*invented(ORIGIN, ["a", "b"]))


@pytest.mark.parametrize(
    "make",
    [
        lambda _, second: second._replace(digest=bytes(32)),
        lambda _, second: second._replace(header=second.header.replace(b'"b"', b'"c"')),
        lambda first, _: invented(ORIGIN, ["b"], seq=2, before=bytes(32), stamp=first.event.stamp + 1)[0],
    ],
    ids=["digest", "header", "past"],
)
def test_another_history_of_an_origin_is_a_fork(make: Callable[[Candidate, Candidate], Candidate]) -> None:
    """Invariant 8: whose chain digest is not the one that follows here has another past, or was changed."""
    first, _ = invented(ORIGIN, ["a", "b"])
    tip = OriginTip(ORIGIN, 1, first.digest, NOW)
    with pytest.raises(OriginHeld, match="fork: its event 2") as held:
        require_next(tip, forged(make), TERMS, 1)
    assert not held.value.passes


def test_stamps_that_do_not_rise_hold_an_origin() -> None:
    """Invariant 2."""
    (second,) = invented(ORIGIN, ["b"], seq=2, before=FIRST.digest, stamp=NOW)
    with pytest.raises(OriginHeld, match="rise"):
        require_next(OriginTip(ORIGIN, 1, FIRST.digest, NOW), second, TERMS, 1)


def test_the_year_9999_is_held_and_an_hour_ahead_is_not() -> None:
    """No stamp may take the clocks of a cluster more than a day ahead."""
    for ahead, is_taken in ((3_600_000_000, True), (MAX_AHEAD, True), (MAX_AHEAD + 1, False)):
        (candidate,) = invented(ORIGIN, stamp=NOW + ahead)
        if is_taken:
            require_next(None, candidate, TERMS, 1)
        else:
            with pytest.raises(OriginHeld, match="24 h"):
                require_next(None, candidate, TERMS, 1)
    (year_9999,) = invented(ORIGIN, stamp=253_370_764_800_000_000)
    with pytest.raises(OriginHeld, match="24 h") as held:
        require_next(None, year_9999, TERMS, 1)
    assert held.value.passes


def test_a_million_invented_origins_leave_room_for_members() -> None:
    """Invariant 10: a position names only so many, and what somebody invents keeps no member out."""
    require_next(None, FIRST, TERMS, MAX_ORIGINS - 1)
    with pytest.raises(OriginHeld, match="as many origins"):
        require_next(None, FIRST, TERMS, MAX_ORIGINS)
    members = Terms(NOW, frozenset({"node-b"}))
    require_next(None, FIRST, members, MAX_ORIGINS_WITH_MEMBERS - 1)
    with pytest.raises(OriginHeld, match="as many origins") as held:
        require_next(None, FIRST, members, MAX_ORIGINS_WITH_MEMBERS)
    assert held.value.passes


def test_an_incarnation_under_two_names_is_held() -> None:
    """The chain begins at the name, so it is another origin."""
    stranger = Origin("node-x", ORIGIN.incarnation)
    tip = OriginTip(stranger, 0, codec.genesis_digest(stranger), 0)
    with pytest.raises(OriginHeld, match="another node"):
        require_next(tip, FIRST, TERMS, 1)
