"""Documents: writing and reading give the same entries, and whatever is wrong is refused whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscd.client.documents import Item, items_of_json, items_of_yaml, json_document, yaml_document
from oscd.client.errors import UsageRefused

Write = Callable[[Iterable[Mapping[str, Any]]], str]
Read = Callable[[str, str | None], list[Item]]

BOTH = [(json_document, items_of_json), (yaml_document, items_of_yaml)]
NAMES = ["json", "yaml"]

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
# What a reader of one version of YAML or another takes for something else than text.
_WORDS = (
    "no yes on Off y 1e3 1e+3 0x10 0o7 010 1_000 2020-01-01 12:30:00 ~ null Null .inf .nan +1 -0 = << "
    "*a &a !x # - ? : | --- %x"
)
_PHRASES = ["- a", "a: b", " x", "x ", "a\r\nb", "\n", "a\n\n", "\x07", "\x85", "\u2028", "\u2029", "\ufeff"]
_TREACHEROUS = st.sampled_from([*_WORDS.split(), *_PHRASES])
_STRING = _TEXT | _TREACHEROUS
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _STRING,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRING, inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"key": _NAME, "environment": _NAME, "category": st.none() | _NAME, "value": VALUES}
    ),
    max_size=4,
    unique_by=lambda entry: (entry["environment"], entry["key"]),
)


def exact(value: object) -> str:
    """A value such that 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(("write", "read"), BOTH, ids=NAMES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ENTRIES)
def test_what_is_written_is_read_back(write: Write, read: Read, entries: list[dict[str, Any]]) -> None:
    """Key, environment, category and value of every entry come back, of the same kind; no category is empty."""
    found = [
        (item.key, item.environment, item.category, exact(item.value)) for item in read(write(entries), None)
    ]
    assert found == [
        (entry["key"], entry["environment"], entry["category"] or "", exact(entry["value"]))
        for entry in entries
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ENTRIES)
def test_other_readers_of_yaml_read_the_same(entries: list[dict[str, Any]]) -> None:
    """PyYAML's own reader, of YAML 1.1, finds in a document what was written."""
    assert exact(yaml.safe_load(yaml_document(entries))) == exact(entries)


@pytest.mark.parametrize(("write", "read"), BOTH, ids=NAMES)
def test_times_and_versions_are_passed_over(write: Write, read: Read) -> None:
    """An export with metadata can be imported; what a node decides itself is not taken from a file."""
    entry = {"key": "a", "environment": "e", "category": "c", "value": 1, "version": 3, "created_at": "x"}
    assert read(write([entry]), None) == [Item("a", "e", "c", 1)]


@pytest.mark.parametrize(("write", "read"), BOTH, ids=NAMES)
def test_an_absent_category_is_not_an_empty_one(write: Write, read: Read) -> None:
    """A file that does not say a category leaves it as it is; one that says none takes it away."""
    said = {"key": "a", "environment": "e", "category": None, "value": 1}
    assert [item.category for item in read(write([said]), None)] == [""]
    del said["category"]
    assert [item.category for item in read(write([said]), None)] == [None]


@pytest.mark.parametrize(("write", "read"), BOTH, ids=NAMES)
def test_a_given_environment_is_where_all_go(write: Write, read: Read) -> None:
    """It beats what the document says, so an export of one environment can fill another."""
    entries = [
        {"key": key, "environment": environment, "value": 1} for key, environment in (("a", "x"), ("b", "y"))
    ]
    assert [item.environment for item in read(write(entries), "z")] == ["z", "z"]


def test_a_mapping_is_parts_of_keys() -> None:
    """Its names are joined by slashes; lists, scalars and empty mappings are values, the environment is given."""
    text = "database:\n  host: localhost\n  ports: [1, 2]\n  options: {}\nflag: no\nday: 2020-01-01\n"
    assert items_of_yaml(text, "prod") == [
        Item("database/host", "prod", None, "localhost"),
        Item("database/ports", "prod", None, [1, 2]),
        Item("database/options", "prod", None, {}),
        Item("flag", "prod", None, "no"),
        Item("day", "prod", None, "2020-01-01"),
    ]
    with pytest.raises(UsageRefused, match="--environment"):
        items_of_yaml(text, None)


BAD: list[tuple[Read, str, str]] = [
    (items_of_json, "", "line 1"),
    (items_of_json, '[{"key": "a"}]', "entry 1: accepted is a mapping with key"),
    (items_of_json, '[{"key": "a", "value": 1}]', "--environment"),
    (items_of_json, '{"a": {"b": 1}, "a/b": 2}', "comes twice"),
    (items_of_json, '{"a": 1, "a": 2}', "a name comes twice"),
    (items_of_json, '{"a": NaN}', "NaN"),
    (items_of_json, '{"a": 1e999}', "number|Infinity"),
    (items_of_json, '{"a": 18446744073709551616}', "64 bits"),
    (items_of_json, '{"a": ' + "9" * 5000 + "}", "64 bits"),
    (items_of_json, '{"a": "\\ud800"}', "surrogate"),
    (items_of_json, '{"": 1}', "part of a key"),
    (items_of_json, '{"a\\n": 1}', "key: "),
    (items_of_json, '{"a": ' + "[" * 65 + "]" * 65 + "}", "nested too deeply"),
    (items_of_json, "[" * 100_000, "nested too deeply"),
    (items_of_json, '{"a":' * 5000 + "1" + "}" * 5000, "key: |nested too deeply"),
    (items_of_json, "1", "accepted is a list"),
    (items_of_yaml, "", "accepted is a list"),
    (items_of_yaml, "a: 1\na: 2\n", "line 2: the name comes twice"),
    (items_of_yaml, "a: &x [1]\nb: *x\n", "line 2: an alias"),
    (items_of_yaml, "a: {c: {b: 1}}\nb: !!python/name:os.system\n", "a tag"),
    (items_of_yaml, "a:\n  <<: {b: 1}\n", "line 2: a merge key"),
    (items_of_yaml, "a: 0x1F\n", "line 1: "),
    (items_of_yaml, "a: 1\nb: 0o17\n", "line 2: "),
    (items_of_yaml, "a: -.Inf\n", "line 1: "),
    (items_of_yaml, "a: .nan\n", "line 1: "),
    (items_of_yaml, "a: !!binary aGk=\n", "a tag"),
    (items_of_yaml, "1: x\n", "quote it"),
    (items_of_yaml, "a: 99999999999999999999\n", "64 bits"),
    (items_of_yaml, "a: 1e999\n", "Infinity"),
    (items_of_yaml, "a: [1\n", "line 2"),
    (items_of_yaml, "a: 'x\x00'\n", "character"),
    (items_of_yaml, "a: 1\n---\nb: 2\n", "line 2"),
    (items_of_yaml, "a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    (items_of_yaml, "a: " + "x" * 9_000_000, "larger than"),
]


@pytest.mark.parametrize(("read", "text", "told"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_refused(read: Read, text: str, told: str) -> None:
    """The refusal says where and what would be right."""
    environment = None if "[{" in text else "prod"
    with pytest.raises(UsageRefused, match=told):
        read(text, environment)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (items_of_json, '{"a": "s3cret", }'),
        (items_of_json, '{"a": "s3cret\n"}'),
        (items_of_yaml, "a: 's3cret\nb: ]\n"),
        (items_of_yaml, "a: s3cret: b"),
        (items_of_yaml, "a: !s3cret b"),
    ],
    ids=range(5),
)
def test_a_refusal_repeats_nothing(read: Read, text: str) -> None:
    """What is in the file stays out of errors."""
    with pytest.raises(UsageRefused) as caught:
        read(text, "prod")
    assert "s3cret" not in str(caught.value)


def test_an_item_does_not_show_its_value() -> None:
    """Its repr, which a traceback would print, holds no value."""
    assert "s3cret" not in repr(Item("a", "e", None, "s3cret"))
