"""Owns the bytes of an event and the hash chain over them. Must not know a database or a cipher.

Header and body are JSON documents. The stored bytes themselves are what is hashed, so nothing depends on two
programs serialising alike. The digest of an event is

    SHA-256("oscd event 1\\n" + digest of the origin's previous event + header)

and the header holds the SHA-256 of the body, so the body can be removed while the chain still holds
(invariant 8). An origin's chain starts at a digest of its name, so events cannot be moved to another origin.
"""

from __future__ import annotations

from hashlib import sha256
from operator import itemgetter
from typing import Any

import orjson

from oscd.errors import LogCorrupt
from oscd.events.event import Body, Draft, Event, EventRef, Origin

FORMAT = 1
DIGEST_BYTES = 32
MAX_NUMBER = 2**63 - 1
"""What SQLite holds; JSON has more."""

# What every header says, numbers first, and the types of that.
_NUMBERS = 6
_ALWAYS = itemgetter(
    *("seq", "last_seq", "stamp", "version", "created_at", "updated_at"),
    *("node_id", "incarnation", "type", "environment", "key", "event_id", "body_digest"),
    "imported",
)
_TYPES = (*(int,) * _NUMBERS, *(str,) * 7, bool)


def genesis_digest(origin: Origin) -> bytes:
    """Where an origin's chain starts."""
    return sha256(f"oscd origin 1\n{origin.node_id}\n{origin.incarnation}".encode()).digest()


def chain_digest(previous: bytes, header: bytes) -> bytes:
    """Digest of the event with this header, following the event with digest `previous`."""
    return sha256(b"oscd event 1\n" + previous + header).digest()


def body_digest(body: bytes) -> bytes:
    """What the header says of the body."""
    return sha256(body).digest()


def encode_body(body: Body) -> bytes:
    """Bytes of a body."""
    ciphertext = None if body.ciphertext is None else body.ciphertext.decode("ascii")
    return orjson.dumps({"ciphertext": ciphertext, "actor": body.actor, "address": body.address})


def decode_body(data: bytes) -> Body:
    """Read a body back.

    Raises:
        LogCorrupt: The bytes are no body.
    """
    try:
        document = orjson.loads(data)
        ciphertext = document["ciphertext"]
        return Body(
            ciphertext=None if ciphertext is None else ciphertext.encode("ascii"),
            actor=document["actor"],
            address=document["address"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogCorrupt("an event body cannot be read") from error


def encode_header(event: Event) -> bytes:
    """Bytes of a header."""
    replaces = event.replaces
    return orjson.dumps(
        {
            "format": FORMAT,
            "node_id": event.origin.node_id,
            "incarnation": event.origin.incarnation,
            "seq": event.seq,
            "last_seq": event.last_seq,
            "stamp": event.stamp,
            "type": event.type,
            "environment": event.environment,
            "key": event.key,
            "category": event.category,
            "version": event.version,
            "created_at": event.created_at,
            "updated_at": event.updated_at,
            "event_id": event.event_id.hex(),
            "key_id": event.key_id.hex() if event.key_id is not None else None,
            "imported": event.imported,
            "replaces": None
            if replaces is None
            else [replaces.origin.node_id, replaces.origin.incarnation, replaces.seq],
            "body_digest": event.body_digest.hex(),
        }
    )


def decode_header(data: bytes) -> Event:
    """Read a header back.

    Raises:
        LogCorrupt: The bytes are no header of a format this version knows.
    """
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] != FORMAT:
            raise LogCorrupt(f"an event has format {document['format']!r}, this version reads {FORMAT}")
        always = _ALWAYS(document)
        numbers = always[:_NUMBERS]
        category, key_id = document["category"], document["key_id"]
        # Whoever gets an event compares and binds its fields without another look.
        if (
            tuple(map(type, always)) != _TYPES
            or max(numbers) > MAX_NUMBER
            or not (category is None or type(category) is str)
        ):
            raise LogCorrupt("an event header cannot be read")
        seq, last_seq, stamp, version, created_at, updated_at = numbers
        node_id, incarnation, kind, environment, key, event_id, digest, imported = always[_NUMBERS:]
        # By place, not by name: it is done for each event that is read, and names cost half as much again.
        return Event(
            Origin(node_id, incarnation),
            seq,
            last_seq,
            stamp,
            kind,
            environment,
            key,
            category,
            version,
            created_at,
            updated_at,
            bytes.fromhex(event_id),
            None if key_id is None else bytes.fromhex(key_id),
            imported,
            _replaced(document["replaces"]),
            bytes.fromhex(digest),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LogCorrupt("an event header cannot be read") from error


def _replaced(reference: list[Any] | None) -> EventRef | None:
    if reference is None:
        return None
    node_id, incarnation, seq = reference
    if (type(node_id), type(incarnation), type(seq)) != (str, str, int) or seq > MAX_NUMBER:
        raise ValueError("no reference to an event")
    return EventRef(Origin(node_id, incarnation), seq)


def event_from_draft(
    draft: Draft, *, origin: Origin, seq: int, last_seq: int, stamp: int, body: bytes
) -> Event:
    """The event a draft becomes once the log has given it its numbers."""
    return Event(
        origin=origin,
        seq=seq,
        last_seq=last_seq,
        stamp=stamp,
        type=draft.type,
        environment=draft.environment,
        key=draft.key,
        category=draft.category,
        version=draft.version,
        created_at=stamp if draft.created_at is None else draft.created_at,
        updated_at=stamp if draft.updated_at is None else draft.updated_at,
        event_id=draft.event_id,
        key_id=draft.key_id,
        imported=draft.imported,
        replaces=draft.replaces,
        body_digest=body_digest(body),
    )
