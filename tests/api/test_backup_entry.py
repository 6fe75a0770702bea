"""One entry of a backup: what could be created comes in, and nothing that is larger."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.api import strict_json
from oscd.api.backup_entry import judge
from oscd.api.models import EntryCreate
from oscd.api.validation import validate, value_json
from oscd.backup.document import BackedUp, Failure
from oscd.errors import Invalid

MOST_BYTES = 60_000
LARGER = "The entry is larger than one may be (OSC_MAX_BODY_BYTES)."
TIMES = {"created_at": "2024-01-15T10:30:45.123456Z", "updated_at": "2024-01-15T10:30:45.123456Z"}

characters = st.sampled_from(
    ["a", '"', "\\", "\\u", "\\é", "\x00", "\x7f", "é", "\u20ac", "\U0001f512", "0", ", "]
)
texts = st.builds(lambda text, times: text * times, characters, st.integers(0, 20_000))
numbers = st.sampled_from(["1e15", "12e99", "-1e15", "0", "1.0", "12345678901234568e1", "1E-5"])
bodies = st.builds(
    lambda number, times: f"[{','.join([number] * times)}]", numbers, st.integers(1, 15_000)
) | st.builds(lambda text, is_ascii: json.dumps(text, ensure_ascii=is_ascii), texts, st.booleans())
writers: list[Callable[[Any], bytes]] = [
    orjson.dumps,
    lambda entry: json.dumps(entry).encode(),
    lambda entry: json.dumps(entry, ensure_ascii=False).encode(),
]


@given(bodies, st.sampled_from(writers))
def test_what_was_created_comes_back(value: str, write: Callable[[Any], bytes]) -> None:
    """Whatever its numbers and escapes become where it is stored, and in a backup of either writer."""
    body = f'{{"key":"k","environment":"e","value":{value}}}'.encode()
    try:
        created = value_json(validate(EntryCreate, strict_json.parse(body), "body").value, MOST_BYTES)
    except Invalid:
        return
    entry = {"id": 1, "key": "k\U0001f512" * 100, "value": orjson.loads(created), "environment": "e" * 100}
    found = judge(write(entry | TIMES), MOST_BYTES)
    assert isinstance(found, BackedUp), found
    assert found.value_json == created


@pytest.mark.parametrize("more", [b"[],", b'"' + rb"\\u" * 2000 + b'",', b"1, "])
def test_only_escapes_make_an_entry_longer(monkeypatch: pytest.MonkeyPatch, more: bytes) -> None:
    """Invariant 10: structure is parsed only as far as a create may have it, neither for the value nor the place."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(strict_json, "parse", never)
    monkeypatch.setattr(json, "loads", never)
    value = b"[" + more * (2 * MOST_BYTES // len(more)) + b"[]]"
    found = judge(b'{"key":"k","environment":"e","value":%b}' % value, MOST_BYTES)
    assert found == Failure(None, None, LARGER)


@pytest.mark.parametrize("name", sorted(TIMES))
@pytest.mark.parametrize(
    "time", ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z"]
)
def test_a_time_that_could_not_be_told_again_is_refused(name: str, time: str) -> None:
    """Peers would hold the event, and lists fail on it."""
    found = judge(
        orjson.dumps({"key": "k", "environment": "e", "value": 1} | TIMES | {name: time}), MOST_BYTES
    )
    assert isinstance(found, Failure)
    assert name in found.reason
