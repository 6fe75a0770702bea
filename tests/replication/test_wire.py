"""The frames of a stream between nodes."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.events.foreign import Raw
from oscd.events.position import Mark, Position
from oscd.replication.errors import PeerRefused
from oscd.replication.wire import (
    MAX_DOCUMENT_BYTES,
    MAX_HEADER_BYTES,
    EventFrame,
    Frame,
    Frames,
    Goodbye,
    PeerStatus,
    event_frame,
    goodbye_frame,
    status_frame,
)

STATUS = PeerStatus(
    node_id="node-1:9000",
    run="0123456789abcdef",
    salt="5a" * 32,
    now=1_700_000_000_000_000,
    position=Position({"00112233445566aa": Mark(7, b"abcd")}),
    state="00" * 32,
    entries=3,
    head=12,
    is_at_head=True,
)
EVENT = EventFrame("00112233445566aa", 7, b"d" * 32, b'{"seq":7}', b"body")
MAX_BODY = 64


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[a:b] for a, b in pairwise(places)]


events = st.builds(
    EventFrame,
    st.binary(min_size=8, max_size=8).map(bytes.hex),
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=200),
    st.none() | st.binary(max_size=MAX_BODY),
)
frames = events | st.just(STATUS) | st.builds(Goodbye, st.sampled_from(["bye", ""]))


def encoded(frame: Frame) -> bytes:
    if isinstance(frame, EventFrame):
        return event_frame(frame)
    return status_frame(frame) if isinstance(frame, PeerStatus) else goodbye_frame(frame.reason)


@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_come_back_however_the_stream_is_cut(sent: list[Frame], at: list[int]) -> None:
    """What was sent is read again, whichever pieces the network makes of it."""
    reader = Frames(MAX_BODY)
    data = b"".join(map(encoded, sent))
    assert [frame for piece in cut(data, at) for frame in reader.feed(piece)] == sent


def test_a_stored_event_is_sent_as_it_is() -> None:
    """Header and body are the very bytes that are stored; a removed body is told from an empty one."""
    for body in (b"", b"x", None):
        raw = Raw(12, EVENT.incarnation, EVENT.seq, EVENT.digest, EVENT.header, body)
        (frame,) = Frames(MAX_BODY).feed(event_frame(raw))
        assert frame == EVENT._replace(body=body)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">cII8sQ32s", b"E", MAX_HEADER_BYTES + 1, 0, bytes(8), 1, bytes(32)),
        struct.pack(">cII8sQ32s", b"E", 10, MAX_BODY + 1, bytes(8), 1, bytes(32)),
        struct.pack(">cI", b"S", MAX_DOCUMENT_BYTES + 1),
        struct.pack(">cI", b"G", 2**32 - 1),
    ],
)
def test_a_giant_frame_is_refused_before_it_is_read(data: bytes) -> None:
    """Invariant 10: what a peer says of lengths costs no memory."""
    with pytest.raises(PeerRefused, match="larger"):
        list(Frames(MAX_BODY).feed(data))


@pytest.mark.parametrize("seq", [0, 2**63, 2**64 - 1])
def test_a_number_that_no_event_has_is_refused(seq: int) -> None:
    """What is told of an event that is held names its number, from 1 on, and the log has no greater ones."""
    with pytest.raises(PeerRefused, match="number"):
        list(Frames(MAX_BODY).feed(struct.pack(">cII8sQ32s", b"E", 0, 0, bytes(8), seq, bytes(32))))


@pytest.mark.parametrize("data", [b"\0", b"HTTP/1.1 200 OK", b"e", b"{}"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    """A stream of something else ends with its first byte."""
    with pytest.raises(PeerRefused, match="no frame"):
        list(Frames(MAX_BODY).feed(data))


DOCUMENT = orjson.loads(status_frame(STATUS)[5:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, None) for name in DOCUMENT if name != "is_at_head"),
        ("node_id", "a\x1b[2J"),
        ("node_id", "n" * 65),
        ("node_id", ""),
        ("node_id", "node b"),
        ("run", "r\u0085"),
        ("now", -1),
        ("now", 1.5),
        ("now", True),
        ("head", 2**63),
        ("entries", "3"),
        ("position", "A"),
        ("position", "no position"),
        ("state", ["00"]),
        ("run", "<b>run</b>"),
    ],
)
def test_a_status_that_is_none_is_refused(name: str, value: object) -> None:
    """Every field has its type and bounds, and no text can do anything to a terminal or a log."""
    data = orjson.dumps({**DOCUMENT, name: value})
    with pytest.raises(PeerRefused, match="cannot be read"):
        list(Frames(MAX_BODY).feed(struct.pack(">cI", b"S", len(data)) + data))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"x"', b"{", b"{}"])
@pytest.mark.parametrize("kind", [b"S", b"G"])
def test_a_document_of_another_shape_is_refused(kind: bytes, data: bytes) -> None:
    """Whatever JSON it is, or is not."""
    with pytest.raises(PeerRefused):
        list(Frames(MAX_BODY).feed(struct.pack(">cI", kind, len(data)) + data))


def test_whatever_comes_ends_in_frames_or_in_a_refusal() -> None:
    """Bytes changed at random never end in another error."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    data = event_frame(EVENT) + status_frame(STATUS) + event_frame(EVENT) + goodbye_frame("bye")
    refused = 0
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        reader = Frames(MAX_BODY)
        try:
            for piece in cut(bytes(changed), [chance.randrange(1000) for _ in range(3)]):
                list(reader.feed(piece))
        except PeerRefused:
            refused += 1
    assert refused > 100
