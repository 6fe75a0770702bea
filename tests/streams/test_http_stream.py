"""What takes streamed answers apart gives every byte of their bodies, however they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.http_stream import StreamedAnswer

HEAD = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX-Some: thing\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_chunks_are_taken_apart(chunks: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere, also within a chunk's size, the body is that of the chunks, and its end is noticed."""
    answer = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=20)))
    reading, body = StreamedAnswer(), b""
    for start, stop in zip([0, *cuts], [*cuts, len(answer)], strict=True):
        assert not reading.complete or start == len(answer)
        body += reading.feed(answer[start:stop])
    assert (reading.status, reading.headers["x-some"]) == (200, "thing")
    assert body == b"".join(chunks)
    assert reading.complete


def test_what_arrived_of_a_chunk_is_given_at_once() -> None:
    """A chunk need not be whole for its bytes to count, and is not taken for the last one where it is cut."""
    reading = StreamedAnswer()
    assert reading.feed(HEAD + b"5\r\nabc") == b"abc"
    assert reading.feed(b"de") == b"de"
    assert not reading.complete
    assert reading.feed(b"\r\n2\r\nfg\r") == b"fg"


def test_a_length_ends_a_body() -> None:
    """An answer with a length is whole with its last byte."""
    reading = StreamedAnswer()
    assert reading.feed(b"HTTP/1.1 503 \r\ncontent-length: 4\r\n\r\nab") == b"ab"
    assert not reading.complete
    assert reading.feed(b"cd") == b"cd"
    assert (reading.status, reading.complete) == (503, True)


def test_a_chunk_that_lies_about_its_length_is_refused() -> None:
    """A chunk that goes on past its length is no HTTP."""
    with pytest.raises(ValueError, match="chunk"):
        StreamedAnswer().feed(HEAD + b"2\r\nabcd")
