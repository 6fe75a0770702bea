"""JSON as people have it: what is written acts on no terminal, and what is read says one thing."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.client.errors import UsageRefused
from oscd.client.json_text import json_text, read_strictly

ANY_TEXT = st.text(st.sampled_from('\x00\x1b\x7f\x85\x9b\x9f\u2028\u2029\ud800\u00e9"\\ a'))


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_what_is_written_is_safe_and_read_back(document: dict[str, str]) -> None:
    """No control character, no second line end and no half character is in it, and it says the same."""
    text = json_text(document)
    assert not set(text) & {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"}
    assert text.encode()
    assert json.loads(text) == document
    assert read_strictly(text) == document


def test_letters_stay_letters() -> None:
    """What prints is not spelled out."""
    assert json_text({"é": ["€", 1.5, None]}) == '{"é": ["€", 1.5, null]}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"s3cret": 1, "s3cret": 2}', "a name comes twice"),
        ('["s3cret", {"a": {"b": 1, "b": 1}}]', "a name comes twice"),
        ('{"a": "s3cret",}', "line 1, column"),
        ("NaN", "NaN"),
        ("-Infinity", "Infinity"),
        ("9" * 100_000, "64 bits"),
        ("[" * 100_000, "nested too deeply"),
        ("", "line 1, column 1"),
    ],
    ids=range(8),
)
def test_what_is_in_doubt_is_refused(text: str, told: str) -> None:
    """The sentence says where, repeats nothing, and no exception that holds the text rides along."""
    with pytest.raises(UsageRefused, match=told) as refused:
        read_strictly(text)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__context__ is None


def test_a_name_that_comes_twice_among_many_is_found_quickly() -> None:
    """A large object is not searched once for each of its names."""
    names = ", ".join(f'"{number}": 0' for number in range(200_000))
    began = time.monotonic()
    with pytest.raises(UsageRefused, match="twice"):
        read_strictly(f'{{{names}, "199999": 0}}')
    assert time.monotonic() - began < 10
