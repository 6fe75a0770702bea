"""The document of a backup: every entry found, each once, whatever is written around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.backup import document
from oscd.backup.document import UNKNOWN, BackedUp, DocumentReader, Failure
from oscd.errors import BadRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
writers: list[Callable[[Any], str]] = [
    lambda value: json.dumps(value, ensure_ascii=True),
    lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    lambda value: json.dumps(value, separators=(",", ":")),
]


def as_it_stands(entry_json: bytes) -> Failure:
    """Judges nothing: hands on what it was given."""
    return Failure(None, None, entry_json.decode("utf-8", "surrogatepass"))


def entries(data: bytes) -> list[Any]:
    return [
        json.loads(one.reason)
        for one in DocumentReader(data).entries(as_it_stands)
        if isinstance(one, Failure)
    ]


@given(
    st.lists(json_values, max_size=6),
    st.dictionaries(st.text(), json_values, max_size=4),
    st.sampled_from(writers),
)
def test_every_entry_is_found_in_any_json(
    configurations: list[Any], more: dict[str, Any], write: Callable[[Any], str]
) -> None:
    """Whatever the entries hold, and whatever members stand before and after them."""
    before = {f"{name}.": value for name, value in more.items()}
    after = {f"{name},": value for name, value in more.items()}
    text = write({**before, "configurations": configurations, **after})
    assert entries(text.encode("utf-8", "surrogatepass")) == configurations


@given(st.lists(json_values, max_size=5), st.data())
def test_no_beginning_of_a_document_is_taken_for_one(configurations: list[Any], data: st.DataObject) -> None:
    """A document that was cut off is refused, wherever that is."""
    whole = json.dumps({"backup_id": "b", "configurations": configurations, "total_keys": 3}).encode()
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadRequest):
        entries(whole[:end])


def test_a_written_document_is_read_back() -> None:
    """Its head tells what it is called, and its end how many entries it has."""
    parts = [
        document.beginning("backup-1", "2026-01-31T12:00:00.000000Z"),
        b'{"key":1},{"key":2}',
        document.end(2),
    ]
    reader = DocumentReader(b"".join(parts))
    assert len(list(reader.entries(as_it_stands))) == 2
    assert (reader.backup_id, reader.backup_timestamp) == ("backup-1", "2026-01-31T12:00:00.000000Z")
    assert json.loads(b"".join(parts))["total_keys"] == 2


@pytest.mark.parametrize("said", ["1", "null", '"' + "x" * 256 + '"', "[]", "oops"])
def test_a_name_that_is_none_is_unknown(said: str) -> None:
    """A document may call itself nothing that a report could not repeat."""
    reader = DocumentReader(b'{"backup_id":%b,"configurations":[]}' % said.encode())
    assert list(reader.entries(as_it_stands)) == []
    assert (reader.backup_id, reader.backup_timestamp) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"configurations"}',
        b'{"configurations":{}}',
        b'{"configurations":[1,]}',
        b'{"configurations":[,1]}',
        b'{"configurations":[1 2]}',
        b'{"configurations":[]',
        b'{"configurations":[]}x',
        b'{"configurations":[]}{}',
        b'{"configurations":[],}',
        b'{"configurations":[],"configurations":[1}',
        b'{"configs":[]}',
        b"{configurations:[]}",
        b'{"a":"configurations":[]}',
        b'{"configurations":["unfinished]}',
        b'{"configurations":["unfinished\\',
        b'{"configurations":[{"a":"unfinished\\"]}]}',
        b'\xff\xfe{"configurations":[]}',
        b"\x00" * 100,
    ],
)
def test_what_is_no_backup_is_refused(data: bytes) -> None:
    """JSON or not: what has no list of configurations is no backup."""
    with pytest.raises(BadRequest, match="not a backup"):
        entries(data)


def test_a_value_is_in_no_repr() -> None:
    """Invariant 7: an entry can be shown without its value."""
    assert "s3cr3t" not in repr(BackedUp(("e", "k"), None, b'"s3cr3t"', None, None))


def test_a_deep_document_costs_no_recursion() -> None:
    """Brackets are counted, so that no depth of nesting ends the reader."""
    deep = b"[" * 200_000 + b"]" * 200_000
    reader = DocumentReader(b'{"deep":%b,"configurations":[%b]}' % (deep, deep))
    assert [one.reason for one in reader.entries(as_it_stands) if isinstance(one, Failure)] == [deep.decode()]


@pytest.mark.parametrize("before", ["[", "[{", "{", ""])
def test_a_string_without_an_end_is_looked_at_once(before: str) -> None:
    """Invariant 10: a reader that tried again at each of these quotes would take days, and here it is refused."""
    unfinished = before.encode() + b'"' + b'\\"' * 10_000_000
    with pytest.raises(BadRequest, match="not a backup"):
        entries(b'{"configurations":' + unfinished)
