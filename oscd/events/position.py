"""Owns positions: where a reader stands, as a vector origin → seq that is valid on every node.

Each element carries four bytes of that origin's chain digest, so that a number issued twice is noticed
(invariant 9). On the wire: base64url without padding of a version byte and, per origin in order, eight bytes
of incarnation, the seq as a LEB128 varint, and the digest bytes; 100 origins stay under 2.7 KiB.
Must not know how events are stored.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass

from oscd.errors import OscdError
from oscd.events.codec import MAX_NUMBER

VERSION = 1
INCARNATION_BYTES = 8
CHECK_BYTES = 4
MAX_ENCODED = 4096


class PositionUnreadable(OscdError):
    """The text is not a position."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one origin has been read: its `seq`, and the first bytes of that event's chain digest."""

    seq: int
    check: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A reader's place: incarnation (16 hexadecimal digits) → mark."""

    marks: Mapping[str, Mark]

    def encode(self) -> str:
        """The opaque text a client sees."""
        parts = [bytes([VERSION])]
        for incarnation, mark in sorted(self.marks.items()):
            parts += [bytes.fromhex(incarnation), _varint(mark.seq), mark.check]
        return urlsafe_b64encode(b"".join(parts)).rstrip(b"=").decode("ascii")


def mark(seq: int, digest: bytes) -> Mark:
    """The mark of the event with this seq and chain digest."""
    return Mark(seq, digest[:CHECK_BYTES])


def decode_position(text: str) -> Position:
    """Read a position a client sent.

    Raises:
        PositionUnreadable: It is too long, damaged or of another version.
    """
    if len(text) > MAX_ENCODED:
        raise PositionUnreadable(f"a position has at most {MAX_ENCODED} characters")
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        if urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii") or data[:1] != bytes([VERSION]):
            raise PositionUnreadable("this is not a position that a node has issued")
        return Position(dict(_marks(data)))
    except (Base64Error, UnicodeEncodeError, IndexError) as error:
        raise PositionUnreadable("this is not a position that a node has issued") from error


def _marks(data: bytes) -> list[tuple[str, Mark]]:
    marks: list[tuple[str, Mark]] = []
    at = 1
    while at < len(data):
        incarnation = data[at : at + INCARNATION_BYTES].hex()
        seq, at = _read_varint(data, at + INCARNATION_BYTES)
        check = data[at : at + CHECK_BYTES]
        at += CHECK_BYTES
        if at > len(data) or not 1 <= seq <= MAX_NUMBER:
            raise IndexError
        marks.append((incarnation, Mark(seq, check)))
    return marks


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError
