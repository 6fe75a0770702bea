"""Owns the frames of a stream of events between nodes (`DESIGN.md` beside this), and the bounds of what is read.

Must not know what a frame means, nor believe a length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from oscd.events.codec import MAX_NUMBER
from oscd.events.event import is_node_id
from oscd.events.foreign import Raw
from oscd.events.position import Position, PositionUnreadable, decode_position
from oscd.replication.errors import PeerRefused

CONTENT_TYPE: Final = "application/vnd.oscd.events"

MAX_HEADER_BYTES: Final = 16 * 1024
"""Names of at most 255, 100 and 100 characters, each at most 12 bytes in JSON, leave room for all the rest."""

MAX_DOCUMENT_BYTES: Final = 16 * 1024
"""A status holds a position of at most 4 KiB and little else."""

_EVENT: Final = struct.Struct(">cII8sQ32s")
_EVENT_SIZES: Final = struct.Struct(">xII")
_DOCUMENT: Final = struct.Struct(">cI")
_REMOVED: Final = 2**32 - 1
_IS_EVENT, _IS_STATUS, _IS_GOODBYE = b"ESG"


class EventFrame(NamedTuple):
    """One event on its way.

    Attributes:
        digest: Chain digest up to and including it, as its source holds it.
        body: None where the source has removed it.
    """

    incarnation: str
    seq: int
    digest: bytes
    header: bytes
    body: bytes | None


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How a node stands, as it tells those who pull from it.

    Attributes:
        run: A random word of its start.
        salt: SHA-256 of its salt, in hexadecimal.
        now: Its clock, µs since 1970.
        position: Everything it holds.
        state: Digest of its state at that position, in hexadecimal.
        entries: Live ones.
        head: Offset of its last event.
        is_at_head: Whether it has sent all that it holds beyond where the puller stood.
    """

    node_id: str
    run: str
    salt: str
    now: int
    position: Position
    state: str
    entries: int
    head: int
    is_at_head: bool


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The source ends the stream on purpose."""

    reason: str


Frame = EventFrame | PeerStatus | Goodbye


def event_frame(event: Raw | EventFrame) -> bytes:
    """An event as it goes out."""
    size = _REMOVED if event.body is None else len(event.body)
    prefix = _EVENT.pack(
        b"E", len(event.header), size, bytes.fromhex(event.incarnation), event.seq, event.digest
    )
    return b"".join((prefix, event.header, event.body or b""))


def status_frame(status: PeerStatus) -> bytes:
    """A status as it goes out."""
    document = {
        "node_id": status.node_id,
        "run": status.run,
        "salt": status.salt,
        "now": status.now,
        "position": status.position.encode(),
        "state": status.state,
        "entries": status.entries,
        "head": status.head,
        "is_at_head": status.is_at_head,
    }
    return _document(b"S", document)


def goodbye_frame(reason: str) -> bytes:
    """The last frame of a stream that is ended on purpose."""
    return _document(b"G", {"reason": reason})


def _document(kind: bytes, document: dict[str, Any]) -> bytes:
    data = orjson.dumps(document)
    return _DOCUMENT.pack(kind, len(data)) + data


class Frames:
    """Cuts a stream into frames; holds at most one that is not whole yet.

    Args:
        max_body_bytes: Of one event.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Must be taken to the end before more is fed.

        Raises:
            PeerRefused: This is no such stream, or a frame is larger than any peer sends.
        """
        self._held += data
        first = self._end(self._held, 0)
        if first is None or first > len(self._held):
            return  # So nothing is copied again and again of a large one that is still coming.
        whole, at = bytes(self._held), 0
        while (end := self._end(whole, at)) is not None and end <= len(whole):
            yield _decoded(whole, at, end)
            at = end
        # Once for all of them, as what is left has to move.
        del self._held[:at]

    def _end(self, held: bytes | bytearray, at: int) -> int | None:
        """Where the frame that begins here ends; None where that is not to be seen yet."""
        left = len(held) - at
        if not left:
            return None
        kind = held[at]
        if kind == _IS_EVENT:
            if left < _EVENT.size:
                return None
            header, body = _EVENT_SIZES.unpack_from(held, at)
            body = 0 if body == _REMOVED else body
            if header > MAX_HEADER_BYTES or body > self._max_body_bytes:
                raise PeerRefused("it sends an event that is larger than any may be.")
            return at + _EVENT.size + int(header) + int(body)
        if kind not in (_IS_STATUS, _IS_GOODBYE):
            raise PeerRefused("it sends what is no frame of events.")
        if left < _DOCUMENT.size:
            return None
        _, length = _DOCUMENT.unpack_from(held, at)
        if length > MAX_DOCUMENT_BYTES:
            raise PeerRefused("it sends a status that is larger than any may be.")
        return at + _DOCUMENT.size + int(length)


def _decoded(held: bytes, at: int, end: int) -> Frame:
    if held[at] == _IS_EVENT:
        _, header, body, incarnation, seq, digest = _EVENT.unpack_from(held, at)
        if not 1 <= seq <= MAX_NUMBER:
            raise PeerRefused("it sends an event under a number that no event has.")
        begin = at + _EVENT.size
        middle = begin + header
        sent = None if body == _REMOVED else held[middle:end]
        return EventFrame(incarnation.hex(), seq, digest, held[begin:middle], sent)
    try:
        document = orjson.loads(held[at + _DOCUMENT.size : end])
        return _status(document) if held[at] == _IS_STATUS else Goodbye(_text(document["reason"]))
    except (ValueError, KeyError, TypeError, PositionUnreadable) as error:
        raise PeerRefused("it sends a status that cannot be read.") from error


def _status(document: dict[str, Any]) -> PeerStatus:
    return PeerStatus(
        node_id=_word(document["node_id"]),
        run=_word(document["run"]),
        salt=_text(document["salt"]),
        now=_number(document["now"]),
        position=decode_position(_text(document["position"], longest=MAX_DOCUMENT_BYTES)),
        state=_text(document["state"]),
        entries=_number(document["entries"]),
        head=_number(document["head"]),
        is_at_head=document["is_at_head"] is True,
    )


def _text(value: object, longest: int = 300) -> str:
    """A short text that can be shown to a person and put into a log line."""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise TypeError
    return value


def _word(value: object) -> str:
    """A name as every node has one."""
    if not isinstance(value, str) or not is_node_id(value):
        raise TypeError
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise TypeError
    return value
