"""Owns the lies about one's own events that a receiver can see through, each with the reason it must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from oscd.events import codec
from oscd.events.event import Origin
from oscd.replication.wire import EventFrame, event_frame
from tests.simulator.liar import alone, event_of, forged
from tests.simulator.world import SECOND

Told = list[EventFrame | bytes]

YEAR_9999: Final = 253_370_764_800 * SECOND


def lone(frames: Sequence[EventFrame]) -> list[EventFrame]:
    """The same events as writes of one event each, chained anew."""
    before, chained = codec.genesis_digest(event_of(frames[0]).origin), []
    for seq, frame in enumerate(frames, start=1):
        event = event_of(frame)._replace(seq=seq, last_seq=seq)
        chained.append(forged(event, before, frame.body))
        before = chained[-1].digest
    return chained


def stranger(frame: EventFrame, incarnation: str) -> EventFrame:
    """The event as if an unknown origin had written it."""
    return alone(event_of(frame)._replace(origin=Origin("stranger", incarnation)), frame.body)


def _gap(frames: list[EventFrame]) -> Told:
    return [frames[0], *frames[2:]]


def _changed_body(frames: list[EventFrame]) -> Told:
    return [frames[0]._replace(body=(frames[0].body or b"") + b" ")]


def _changed_header(frames: list[EventFrame]) -> Told:
    return [frames[0]._replace(header=codec.encode_header(event_of(frames[0])._replace(version=7)))]


def _again(frames: list[EventFrame]) -> Told:
    return [event_frame(frames[0]) * 2]


def _under_another_number(frames: list[EventFrame]) -> Told:
    return [frames[0]._replace(seq=2)]


def _year_9999(frames: list[EventFrame]) -> Told:
    event = event_of(frames[0])._replace(stamp=YEAR_9999, origin=Origin("stranger", "cd" * 8))
    return [alone(event, frames[0].body)]


def _falling_stamps(frames: list[EventFrame]) -> Told:
    return [frames[0], forged(event_of(frames[1])._replace(stamp=1), frames[0].digest, frames[1].body)]


def _half_a_write(frames: list[EventFrame]) -> Told:
    event = event_of(frames[0])._replace(last_seq=2)
    half = forged(event, codec.genesis_digest(event.origin), frames[0].body)
    return [half, stranger(frames[1], "ef" * 8)]


def _giant_header(frames: list[EventFrame]) -> Told:
    return [b"E" + (2**31).to_bytes(4) + bytes(4 + 8 + 8 + 32)]


def _giant_body(frames: list[EventFrame]) -> Told:
    return [b"E" + (100).to_bytes(4) + (2**31).to_bytes(4) + bytes(8 + 8 + 32)]


def _giant_status(frames: list[EventFrame]) -> Told:
    return [b"S" + (2**31).to_bytes(4)]


def _no_frames(frames: list[EventFrame]) -> Told:
    return [b"HTTP/1.1 200 OK\r\n"]


def _control_characters(frames: list[EventFrame]) -> Told:
    event = event_of(frames[0])._replace(key="a\x1b[2J", origin=Origin("stranger", "0a" * 8))
    return [alone(event, frames[0].body)]


LIES: Final[dict[str, tuple[Callable[[list[EventFrame]], Told], str]]] = {
    "gap": (_gap, "refused: it sends event 3 of an origin of which this node has 1."),
    "changed body": (_changed_body, "refused: it sends an event whose body is missing or was changed."),
    "changed header": (_changed_header, "held: fork: its event 1 is not the same there as here."),
    "again": (_again, "refused: it sends an event again."),
    "other number": (_under_another_number, "refused: it sends an event under another number than its own."),
    "year 9999": (_year_9999, "held: it is stamped more than 24 h ahead of this node's clock."),
    "falling stamps": (_falling_stamps, "held: its stamps do not rise."),
    "half a write": (_half_a_write, "refused: it begins a write before another has ended."),
    "giant header": (_giant_header, "refused: it sends an event that is larger than any may be."),
    "giant body": (_giant_body, "refused: it sends an event that is larger than any may be."),
    "giant status": (_giant_status, "refused: it sends a status that is larger than any may be."),
    "no frames": (_no_frames, "refused: it sends what is no frame of events."),
    "control characters": (
        _control_characters,
        "held: an event of it is unlike any that this version knows.",
    ),
}
"""By name: what it makes of a list of true events, and what is said of it."""
