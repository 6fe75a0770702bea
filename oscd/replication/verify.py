"""Owns what a shipped event must be before it may reach the disk. Pure: no I/O, no clock.

`sound` needs the event alone, `require_next` also what this log holds. What shows that the *peer* is at fault
condemns its stream (`PeerRefused`); what an *origin* may have written itself holds that origin only (`OriginHeld`),
so that a fault of one node does not cut off the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.event import EVENT_ID_BYTES, MAX_VERSION, Event, EventType, Origin, is_node_id
from oscd.events.foreign import Foreign, OriginTip
from oscd.events.origins import MAX_ORIGINS, MAX_ORIGINS_WITH_MEMBERS
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.wire import EventFrame
from oscd.times import LAST_MICROSECOND

MAX_AHEAD: Final = 24 * 3600 * 1_000_000
"""µs that an event's stamp may be ahead of this node's clock: as wrong as clocks are by accident, and no more."""

MAX_WRITE_EVENTS: Final = 250_000
"""Events of one write; the largest import makes so many (`oscd.backup.plan.MAX_ENTRIES`)."""

_KEY_ID_BYTES: Final = 16
_INCARNATION: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TYPE: Final = re.compile(r"[a-z_]{1,32}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Candidate(Foreign):
    """An event that is sound in itself, body included; whether it may follow what is here is not known yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What this node takes now.

    Attributes:
        now: µs since 1970.
        members: Node ids of the cluster, as far as they are known.
    """

    now: int
    members: frozenset[str] = frozenset()


def sound(frame: EventFrame) -> Candidate:
    """The event in a frame.

    Raises:
        PeerRefused: Frame, header and body are not of one event, so they were changed on the way.
        OriginHeld: They are, but no oscd that this one knows writes such an event.
    """
    try:
        event = codec.decode_header(frame.header)
    except LogCorrupt as error:
        raise PeerRefused("it sends an event whose header cannot be read.") from error
    if event.origin.incarnation != frame.incarnation or event.seq != frame.seq:
        raise PeerRefused("it sends an event under another number than its own.")
    if frame.body is None or codec.body_digest(frame.body) != event.body_digest:
        raise PeerRefused("it sends an event whose body is missing or was changed.")
    if not (_has_sound_numbers(event) and _has_sound_names(event)):
        raise OriginHeld("an event of it is unlike any that this version knows.")
    _require_sound_body(event, frame.body)
    return Candidate(event, frame.header, frame.body, frame.digest)


def origin_of(frame: EventFrame) -> Origin:
    """The origin of an event that is not sound, as it may be shown to a person.

    Raises:
        LogCorrupt: Its header cannot be read.
    """
    node_id = codec.decode_header(frame.header).origin.node_id
    return Origin(node_id if is_node_id(node_id) else "unreadable", frame.incarnation)


def _has_sound_numbers(event: Event) -> bool:
    # What is taken in is shown to people for ever, so it is bounded by what can be shown.
    times = (event.stamp, event.created_at, event.updated_at)
    return (
        1 <= event.seq <= event.last_seq < event.seq + MAX_WRITE_EVENTS
        and event.stamp >= 1
        and 0 <= event.version <= MAX_VERSION
        and min(times) >= 0
        and max(times) <= LAST_MICROSECOND
        and (event.replaces is None or event.replaces.seq >= 1)
    )


def _has_sound_names(event: Event) -> bool:
    origin, replaces = event.origin, event.replaces
    if not _is_sound_origin(origin):
        return False
    if replaces is not None and replaces.origin != origin and not _is_sound_origin(replaces.origin):
        return False
    if len(event.event_id) != EVENT_ID_BYTES or len(event.key_id or bytes(_KEY_ID_BYTES)) != _KEY_ID_BYTES:
        return False
    if not event.is_of_entry:
        return (event.environment, event.key, event.category) == ("", "", None) and bool(
            _TYPE.fullmatch(event.type)
        )
    category = "none" if event.category is None else event.category
    return (
        1 <= len(event.key) <= 255
        and 1 <= len(event.environment) <= 100
        and 1 <= len(category) <= 100
        and not _CONTROL.search(event.key + event.environment + category)
    )


def _is_sound_origin(origin: Origin) -> bool:
    return _INCARNATION.fullmatch(origin.incarnation) is not None and is_node_id(origin.node_id)


def _require_sound_body(event: Event, body: bytes) -> None:
    try:
        decoded = codec.decode_body(body)
    except LogCorrupt as error:
        raise OriginHeld("the body of an event of it cannot be read.") from error
    has_value = event.is_of_entry and event.type != EventType.DELETED
    if (decoded.ciphertext is not None) != has_value or not (
        _is_text(decoded.actor) and _is_text(decoded.address)
    ):
        raise OriginHeld("the body of an event of it is not what its type has.")


def _is_text(said: object) -> bool:
    return said is None or isinstance(said, str)


def require_next(tip: OriginTip | None, candidate: Candidate, terms: Terms, origins: int) -> OriginTip:
    """The end of an origin's chain here after an event that may be taken as its next one.

    Args:
        tip: Where the origin's chain ends here; None where this log has never heard of it.
        origins: How many origins this log knows.

    Raises:
        PeerRefused: There is a gap before it: something was lost on the way.
        OriginHeld: It must not be taken, whoever sends it: a fork (invariant 8), a stamp too far ahead, an origin
            too many.
    """
    event = candidate.event
    if tip is None:
        _require_room(event, terms, origins)
        tip = OriginTip(event.origin, 0, codec.genesis_digest(event.origin), 0)
    if tip.origin != event.origin:
        raise OriginHeld("its incarnation is known here as that of another node.")
    if event.seq > tip.seq + 1:
        raise PeerRefused(f"it sends event {event.seq} of an origin of which this node has {tip.seq}.")
    if codec.chain_digest(tip.digest, candidate.header) != candidate.digest:
        raise OriginHeld(fork(event.seq))
    if event.stamp <= tip.stamp:
        raise OriginHeld("its stamps do not rise.")
    if event.stamp > terms.now + MAX_AHEAD:
        raise OriginHeld("it is stamped more than 24 h ahead of this node's clock.", passes=True)
    return OriginTip(event.origin, event.seq, candidate.digest, event.stamp)


def fork(seq: int) -> str:
    """What is said of an origin whose events are not the same everywhere."""
    return f"fork: its event {seq} is not the same there as here."


def _require_room(event: Event, terms: Terms, origins: int) -> None:
    most = MAX_ORIGINS_WITH_MEMBERS if event.origin.node_id in terms.members else MAX_ORIGINS
    if origins >= most:
        # Its node may yet become known as a member, for whom there are more places.
        raise OriginHeld("this node knows as many origins as a position can name.", passes=True)
