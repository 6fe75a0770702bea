"""The parser of server-sent events reads what the standard says, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sse import Comment, Frame, Item, Retry, SseParser


def parse(data: bytes) -> list[Item]:
    return SseParser().feed(data)


def test_fields_make_a_frame() -> None:
    """`id`, `event` and `data` up to an empty line are one frame."""
    assert parse(b'id: AQ\nevent: updated\ndata: {"a":1}\n\n') == [Frame("updated", "AQ", '{"a":1}')]


def test_the_examples_of_the_standard_are_read_as_it_says() -> None:
    """Two data lines are joined by a line feed; one blank after the colon goes; a type defaults to `message`."""
    assert parse(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [Frame("message", None, "YHOO\n+2\n10")]
    assert parse(b"data:test\n\ndata: test\n\n") == [Frame("message", None, "test")] * 2
    assert parse(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n"
    ) == [
        Comment("test stream"),
        Frame("message", "1", "first event"),
        Frame("message", "", "second event"),
        Frame("message", None, " third"),
    ]
    assert parse(b"data\n\ndata\ndata\n\ndata:") == [Frame("message", None, ""), Frame("message", None, "\n")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_counts(end: bytes) -> None:
    """LF, CR and CRLF end a line, and a block with an empty one."""
    lines = [b"id: 1", b"event: e", b"data: d", b"", b": c", b"data: x", b"", b""]
    expected = [Frame("e", "1", "d"), Comment("c"), Frame("message", None, "x")]
    assert parse(end.join(lines)) == expected


def test_a_cr_ends_its_line_at_once() -> None:
    """A frame does not wait for the byte after its last CR, and an LF that then comes is no empty line."""
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == [Frame("message", None, "a")]
    assert parser.feed(b"\ndata: b\r\n") == []
    assert parser.feed(b"\r\n") == [Frame("message", None, "b")]


def test_a_frame_that_is_cut_off_is_never_given() -> None:
    """Cut anywhere before the end of its empty line a frame says nothing, its id included."""
    whole = b"id: 7\nevent: deleted\ndata: {}\n\n"
    for length in range(len(whole)):
        assert parse(whole[:length]) == []
    assert parse(whole) == [Frame("deleted", "7", "{}")]


def test_an_id_alone_moves_the_last_event_id() -> None:
    """A block with an id and no data is given, as a place to resume from, and dispatches nothing."""
    assert parse(b"id: 9\n\n") == [Frame("", "9", None)]
    assert parse(b"event: ignored\nid: 9\n\n") == [Frame("", "9", None)]


def test_what_says_nothing_gives_nothing() -> None:
    """Empty blocks, unknown fields, an id with a NUL and a retry that is no number are passed over."""
    assert parse(b"\n\n\nevent: alone\n\nnonsense\n: \nid: a\0b\nretry: 1.5\nretry: -1\nretry:\n\n") == [
        Comment("")
    ]


def test_a_retry_counts_from_its_line() -> None:
    """The hint needs no empty line after it."""
    assert parse(b"retry: 1500\n") == [Retry(1500)]


def test_a_byte_order_mark_is_left_out_once() -> None:
    """One at the very start goes, another one is a part of the field's name."""
    assert parse(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n") == [Frame("message", None, "a")]


def test_what_is_no_utf_8_is_replaced() -> None:
    """A byte that no UTF-8 has becomes U+FFFD, and the stream goes on."""
    assert parse(b"data: a\xffb\n\n") == [Frame("message", None, "a\ufffdb")]


def test_only_the_standards_line_ends_end_lines() -> None:
    """Characters that Python takes for line ends are parts of the data."""
    text = "a\u2028b\x85c\x0bd"
    assert parse(f"data: {text}\n\n".encode()) == [Frame("message", None, text)]


pieces = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"id: 1",
        b"id",
        b"event: e",
        b": c",
        b"retry: 5",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b" ",
        "é€😀".encode(),
        b"\xf0\x9f",
        b"\xef\xbb\xbf",
        b"\0",
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.data())
def test_any_chunking_gives_the_same(stream: bytes, data: st.DataObject) -> None:
    """However the bytes are cut into pieces, what they say is the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=len(stream))))
    parser = SseParser()
    items: list[Item] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        items += parser.feed(stream[start:stop])
    assert items == parse(stream)
