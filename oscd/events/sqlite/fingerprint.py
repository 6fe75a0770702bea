"""Owns fingerprints: a few characters that stand for everything a log held up to an offset.

An auditor writes one down; the log's chains cannot be changed, cut or rewritten before that offset later without
giving another one, and the log may grow meanwhile. It says nothing of a log whose chains do not hold: `verify` first.

    <offset>:XXXXX-XXXXX-XXXXX-XXXXX

The offset, and 100 bits of a SHA-256 over it and over name, last seq and chain digest of each origin as of then, in
Douglas Crockford's base 32 (https://www.crockford.com/base32.html), which has no U and takes O for 0, I and L for 1.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from oscd.errors import OscdError
from oscd.events.event import Origin
from oscd.events.sqlite.reading import SqliteReading

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SAME: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None})
_DOMAIN: Final = b"oscd fingerprint 1\n"
_CHARACTERS: Final = 20
_GROUP: Final = 5
_MAX_OFFSET: Final = 2**63 - 1
_TEXT: Final = re.compile(r"([0-9]{1,19}):([0-9A-Za-z-]+)")


class FingerprintUnreadable(OscdError):
    """The text is no fingerprint."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a log held up to an offset.

    Attributes:
        code: The 20 characters, without hyphens.
    """

    offset: int
    code: str

    def __str__(self) -> str:
        """As it is printed and written down."""
        groups = [self.code[at : at + _GROUP] for at in range(0, _CHARACTERS, _GROUP)]
        return f"{self.offset}:{'-'.join(groups)}"


@dataclass(frozen=True, slots=True)
class OriginEnd:
    """The last event of an origin in some part of a log."""

    origin: Origin
    seq: int
    digest: bytes


def parse_fingerprint(text: str) -> Fingerprint:
    """Read what an auditor wrote down, in any case, with what is easily taken for another character.

    Raises:
        FingerprintUnreadable: It is no fingerprint.
    """
    match = _TEXT.fullmatch(text.strip())
    code = "" if match is None else match[2].upper().translate(_SAME)
    if match is None or len(code) != _CHARACTERS or not set(code) <= set(_ALPHABET):
        raise FingerprintUnreadable(
            "a fingerprint is an offset, a colon and 20 letters and digits: 1234:XXXXX-XXXXX-XXXXX-XXXXX"
        )
    if int(match[1]) > _MAX_OFFSET:
        raise FingerprintUnreadable("no log has that many events")
    return Fingerprint(int(match[1]), code)


def fingerprint_at(connection: sqlite3.Connection, offset: int) -> Fingerprint | None:
    """The fingerprint of a log up to an offset; None where the log ends before."""
    if offset > SqliteReading(connection).head():
        return None
    return fingerprint_of(offset, ends_at(connection, offset))


def ends_at(connection: sqlite3.Connection, offset: int) -> list[OriginEnd]:
    """The last event of each origin that has one up to an offset, in order of the origins."""
    ends = []
    for row_id, node_id, incarnation in connection.execute(
        "SELECT id, node_id, incarnation FROM origins ORDER BY node_id, incarnation"
    ).fetchall():
        # Walks the index back from the origin's end, without a look at the events.
        row = connection.execute(
            'SELECT seq, digest FROM events INDEXED BY events_by_origin WHERE origin = ? AND "offset" <= ?'
            " ORDER BY seq DESC LIMIT 1",
            (row_id, offset),
        ).fetchone()
        if row is not None:
            ends.append(OriginEnd(Origin(node_id, incarnation), *row))
    return ends


def fingerprint_of(offset: int, ends: list[OriginEnd]) -> Fingerprint:
    """The fingerprint of these ends, which are in order of their origins."""
    digest = sha256(_DOMAIN + offset.to_bytes(8))
    for end in ends:
        for name in (end.origin.node_id.encode(), end.origin.incarnation.encode()):
            digest.update(len(name).to_bytes(4) + name)
        digest.update(end.seq.to_bytes(8) + end.digest)
    number = int.from_bytes(digest.digest()) >> (256 - 5 * _CHARACTERS)
    code = "".join(_ALPHABET[number >> 5 * at & 31] for at in reversed(range(_CHARACTERS)))
    return Fingerprint(offset, code)
