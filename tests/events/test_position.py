"""Positions: opaque, small, and refused when they are not one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.events.position import (
    MAX_ENCODED,
    Mark,
    Position,
    PositionUnreadable,
    decode_position,
)

marks = st.builds(Mark, st.integers(1, 2**63 - 1), st.binary(min_size=4, max_size=4))
incarnations = st.binary(min_size=8, max_size=8).map(bytes.hex)
positions = st.builds(Position, st.dictionaries(incarnations, marks, max_size=12))


@given(positions)
def test_a_position_reads_back(position: Position) -> None:
    """What a node issues, any node reads as the same position."""
    assert decode_position(position.encode()) == position


@given(positions)
def test_a_position_goes_into_a_header(position: Position) -> None:
    """A position is text that fits a header and an SSE id without escaping."""
    assert position.encode().replace("-", "").replace("_", "").isalnum()


def test_a_hundred_origins_fit() -> None:
    """The vector of 100 origins with huge seqs stays within what the contract promises."""
    position = Position({f"{n:016x}": Mark(2**62, b"abcd") for n in range(100)})
    assert len(position.encode()) <= MAX_ENCODED


@given(st.text() | st.text("ABCxyz019-_", max_size=60))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    """Nothing a client can send does more than be refused; what is accepted is written the one way it is read."""
    with contextlib.suppress(PositionUnreadable):
        assert decode_position(text).encode() == text


@given(positions, st.data())
def test_a_cut_position_is_refused_or_shorter(position: Position, data: st.DataObject) -> None:
    """A position cut anywhere never reads as the whole one."""
    text = position.encode()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with contextlib.suppress(PositionUnreadable):
        assert decode_position(cut) != position


@pytest.mark.parametrize("text", ["", "A", "AQ==", "AgAA", "AQ AA", "é", "A" * (MAX_ENCODED + 1)])
def test_what_no_node_issued_is_unreadable(text: str) -> None:
    """Empty, padded, of another version, with blanks, not ASCII or too long: unreadable."""
    with pytest.raises(PositionUnreadable):
        decode_position(text)
