"""Bytes of a stream become frames, however they were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.client.errors import AnswerUnreadable
from oscd.client.frames import MAX_FRAME_BYTES, Frame, FrameReader

STREAM = (
    b": oscd\nretry: 1500\n\n"
    b'id: A1\nevent: connected\ndata: {"subscription_id":"s"}\n\n'
    b": keep-alive\nid: A2\n\n"
    b'event: created\r\ndata: {"key":"\xe2\x82\xac:"}\r\n\r\n'
    b"event: nothing\n\n"
    b"id: A3\nevent: upd"
)
FRAMES = [
    Frame("connected", "A1", {"subscription_id": "s"}),
    Frame("", "A2", {}),
    Frame("created", None, {"key": "€:"}),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_frames_do_not_depend_on_how_bytes_arrive(cuts: list[int]) -> None:
    """Wherever the bytes are cut, the same frames come, and what is not whole never does."""
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = FrameReader()
    found = [frame for a, b in itertools.pairwise(edges) for frame in reader.feed(STREAM[a:b])]
    assert found == FRAMES
    assert reader.retry_seconds == 1.5


@pytest.mark.parametrize("data", [b"1", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_data_that_is_no_object_is_refused(data: bytes) -> None:
    """A node sends JSON objects; anything else is not one, and is not repeated."""
    with pytest.raises(AnswerUnreadable) as refused:
        FrameReader().feed(b"event: created\ndata: " + data + b"\n\n")
    assert refused.value.__context__ is None


def test_a_line_without_end_is_refused() -> None:
    """Whoever sends one line for ever does not fill the memory."""
    reader = FrameReader()
    for _ in range(MAX_FRAME_BYTES >> 20):
        reader.feed(bytes(1 << 20))
    with pytest.raises(AnswerUnreadable, match="larger than 64 MiB"):
        reader.feed(b"x")


def test_a_frame_shows_no_value() -> None:
    """The repr of a frame, which may hold a value, leaves its data out."""
    (frame,) = FrameReader().feed(b'event: created\ndata: {"data":{"value":"s3cret"}}\n\n')
    assert "s3cret" not in repr(frame)
