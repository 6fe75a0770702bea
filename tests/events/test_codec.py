"""The bytes of events: what is written can be read, and no change goes unnoticed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.errors import LogCorrupt
from oscd.events.codec import (
    body_digest,
    chain_digest,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
    genesis_digest,
)
from oscd.events.event import Body, Event, EventRef, EventType, Origin

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
incarnations = st.binary(min_size=8, max_size=8).map(bytes.hex)
origins = st.builds(Origin, names, incarnations)
numbers = st.integers(1, 2**63 - 1)
refs = st.builds(EventRef, origins, numbers)
ids = st.binary(min_size=16, max_size=16)
events = st.builds(
    Event,
    origin=origins,
    seq=numbers,
    last_seq=numbers,
    stamp=numbers,
    type=st.sampled_from([*EventType, "of_a_newer_oscd"]),
    environment=names,
    key=names,
    category=st.none() | names,
    version=numbers,
    created_at=numbers,
    updated_at=numbers,
    event_id=ids,
    key_id=st.none() | ids,
    imported=st.booleans(),
    replaces=st.none() | refs,
    body_digest=st.binary(min_size=32, max_size=32),
)
bodies = st.builds(
    Body, st.none() | st.binary().map(lambda b: b.hex().encode()), st.none() | names, st.none() | names
)


@given(events)
def test_a_header_reads_back(event: Event) -> None:
    """Whatever an event holds, its header's bytes give the same event."""
    assert decode_header(encode_header(event)) == event


@given(bodies)
def test_a_body_reads_back(body: Body) -> None:
    """Whatever a body holds, its bytes give the same body."""
    assert decode_body(encode_body(body)) == body


@given(events, st.data())
def test_any_changed_byte_of_a_header_changes_the_chain(event: Event, data: st.DataObject) -> None:
    """Invariant 8: the digest covers every byte of the header, and the digest before it."""
    header = bytearray(encode_header(event))
    previous = genesis_digest(event.origin)
    digest = chain_digest(previous, bytes(header))
    assert chain_digest(body_digest(b"other"), bytes(header)) != digest
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    assert chain_digest(previous, bytes(header)) != digest


def test_chains_of_different_origins_differ_from_the_start() -> None:
    """Invariant 8: an origin's name begins its chain, so its events cannot be another's."""
    a, b = Origin("n", "00" * 8), Origin("n", "11" * 8)
    assert genesis_digest(a) != genesis_digest(b)


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"7", b'{"format":1}', b'{"format":2}', b"\xff", b'{"format":1,"event_id":"zz"}'],
)
def test_a_damaged_header_is_corruption(header: bytes) -> None:
    """Bytes that are no header are named as corruption, whatever is wrong with them."""
    with pytest.raises(LogCorrupt):
        decode_header(header)


@given(events, st.sampled_from(["seq", "stamp", "type", "event_id", "replaces", "key_id", "origin"]))
def test_a_header_without_a_field_is_corruption(event: Event, name: str) -> None:
    """A header that lacks a field is corruption, not a crash."""
    document = orjson.loads(encode_header(event))
    document.pop("node_id" if name == "origin" else name)
    with pytest.raises(LogCorrupt):
        decode_header(orjson.dumps(document))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ciphertext":7,"actor":null,"address":null}', b"{}"])
def test_a_damaged_body_is_corruption(body: bytes) -> None:
    """Bytes that are no body are named as corruption."""
    with pytest.raises(LogCorrupt):
        decode_body(body)
