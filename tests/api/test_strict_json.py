"""What `strict_json.parse` accepts can be stored and comes back; what it refuses, it does not repeat."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import orjson
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from oscd.api.strict_json import (
    BODY_NESTING,
    GREATEST_INTEGER,
    LEAST_INTEGER,
    MAX_NESTING,
    parse,
)
from oscd.errors import BadRequest, Invalid, RequestRefused

SECRET = "correct-horse-battery"


def nested(levels: int, wrap: Callable[[object], object], core: object = 0) -> object:
    value = core
    for _ in range(levels):
        value = wrap(value)
    return value


def wrap_list(value: object) -> list[object]:
    return [value]


def wrap_object(value: object) -> dict[str, object]:
    return {"a": value}


def acceptable(value: object, levels: int = BODY_NESTING) -> bool:
    """Say by the contract's own words whether a value that the standard library read may be stored."""
    if isinstance(value, str):
        return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -(2**63) <= value <= 2**64 - 1
    if isinstance(value, float):
        return math.isfinite(value)
    assert isinstance(value, list | dict)
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return levels > 0 and all(acceptable(item, levels - 1) for item in inside)


def same(left: object, right: object) -> bool:
    """Compare with types and signs: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    return repr(left) == repr(right)


class NotJsonError(ValueError):
    pass


def refuse(constant: str) -> None:
    raise NotJsonError(constant)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b' {"a": [1, 2.5, "x", true]}\n', {"a": [1, 2.5, "x", True]}),
        (b"9223372036854775808", 2**63),
        (str(GREATEST_INTEGER).encode(), GREATEST_INTEGER),
        (str(LEAST_INTEGER).encode(), LEAST_INTEGER),
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"1e-400", 0.0),
        (b"1" * 300 + b".0", float("1" * 300)),
        (b"0.1234567890123456789012345", 0.1234567890123456789012345),
        (b'"18446744073709551616"', "18446744073709551616"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\u0000"', "\x00"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1, "a": 18446744073709551615}', {"a": GREATEST_INTEGER}),
    ],
)
def test_accepts(body: bytes, value: object) -> None:
    """What JSON, 64 bits and a double can say is read exactly, and the last of equal names wins."""
    assert same(parse(body), value)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"[1,]", b"{'a': 1}", b'"a\tb"', b"01", b"1 2", b"nul", b"[" * 60),
        *(b"NaN", b"[Infinity]", b'{"a": -Infinity}'),
        *(b'"\xff"', b'"\xed\xa0\x80"', b"\xff\xfe1\x00", b"\xef\xbb\xbf1"),
    ],
)
def test_malformed_is_a_bad_request(body: bytes) -> None:
    """What is no JSON, or no UTF-8, is 400."""
    with pytest.raises(BadRequest):
        parse(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"18446744073709551616", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"[1, 99999999999999999999]", "64 bits"),
        (b"1" * 100_000, "64 bits"),
        (b"1e400", "double"),
        (b"[-1e400]", "double"),
        (b"1" * 400 + b".5", "double"),
        (rb'"\ud800"', "surrogate"),
        (rb'"\udc00\ud800"', "surrogate"),
        (rb'{"\udfff": 1}', "surrogate"),
    ],
)
def test_what_cannot_be_stored_is_invalid(body: bytes, words: str) -> None:
    """Well-formed JSON that would not come back as it was sent is 422, and the detail says why."""
    with pytest.raises(Invalid, match=words):
        parse(body)


@pytest.mark.parametrize("wrap", [wrap_list, wrap_object])
def test_a_value_may_have_exactly_64_levels(wrap: Callable[[object], object]) -> None:
    """The limit counts the levels of the value; the object around it is not one of them."""
    deepest = {"value": nested(MAX_NESTING, wrap)}
    assert MAX_NESTING == 64
    assert parse(json.dumps(deepest).encode()) == deepest
    with pytest.raises(Invalid, match="64 levels"):
        parse(json.dumps({"value": nested(MAX_NESTING + 1, wrap)}).encode())


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 70 + b"]" * 70])
def test_nesting_no_reader_survives_is_refused_before_one_sees_it(body: bytes) -> None:
    """A body of any depth is refused, not recursed into, closed or not."""
    with pytest.raises(Invalid, match="nested"):
        parse(body)


@pytest.mark.parametrize(
    "value",
    [
        [[]] * 1000,
        ["[{" * 100],
        {"[" * 70: '"' + "[" * 70},
        ["\\", "[" * 70, '\\"', "{" * 70, '""'],
        [{"a": [index]} for index in range(100)],
    ],
)
def test_brackets_alone_are_no_nesting(value: object) -> None:
    """Neighbours, and brackets inside strings and names, do not count as levels."""
    assert parse(json.dumps(value).encode()) == value


def test_a_malformed_body_is_located() -> None:
    """Whoever wrote the body by hand is told the line and the column."""
    with pytest.raises(BadRequest, match="line 3, column 8"):
        parse(b'{\n "a": 1,\n "b":  oops\n}')


@pytest.mark.parametrize(
    "body",
    [
        f'{{"value": "{SECRET}", }}'.encode(),
        f'{{"value": "{SECRET}'.encode() + b'\xff"}',
        f'{{"value": "{SECRET}\\ud800"}}'.encode(),
        f'{{"value": "{SECRET}", "n": 99999999999999999999}}'.encode(),
        f'{{"value": "{SECRET}", "n": 1e999}}'.encode(),
        f'{{"value": "{SECRET}", "n": NaN}}'.encode(),
        f'["{SECRET}",'.encode() * 70,
    ],
)
def test_a_refusal_holds_nothing_of_the_body(body: bytes) -> None:
    """Invariant 7: neither the refusal nor an exception behind it knows the content that was refused."""
    with pytest.raises(RequestRefused) as caught:
        parse(body)
    assert SECRET not in caught.value.detail
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


texts = st.text() | st.text(alphabet='[]{}"\\,:19a\ud800\udc00', max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | texts
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.integers(min_value=-(2**65), max_value=2**65)
    | st.sampled_from([LEAST_INTEGER - 1, LEAST_INTEGER, GREATEST_INTEGER, GREATEST_INTEGER + 1])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """JSON as some writer may send it: escaped or not, indented or not, up to 80 levels."""
    value = nested(
        draw(st.just(0) | st.integers(0, 80)), draw(st.sampled_from([wrap_list, wrap_object])), draw(values)
    )
    indent = draw(st.sampled_from([None, None, 1]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent)
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=300, print_blob=True)
@given(documents())
@example(b"[-9223372036854775809]")
@example(rb'["\ud83d", "\ude00"]')
def test_it_agrees_with_the_contract_on_any_json(body: bytes) -> None:
    """It reads what the standard library reads, but for what the contract refuses, and writes it back."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        event("not UTF-8")  # and perhaps too deep as well, so either refusal is right
        with pytest.raises(RequestRefused):
            parse(body)
        return
    expected = json.loads(text)
    if acceptable(expected):
        event("accepted")
        value = parse(body)
        assert same(value, expected)
        assert same(orjson.loads(orjson.dumps(value)), value)
    else:
        event("refused")
        with pytest.raises(Invalid):
            parse(body)


@settings(max_examples=300, print_blob=True)
@given(documents(), st.data())
def test_it_accepts_no_damaged_json(body: bytes, data: st.DataObject) -> None:
    """Cut, overwritten or invented bytes are refused wherever the standard library refuses them."""
    at = data.draw(st.integers(0, len(body)))
    damaged = body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 4)) :]
    try:
        expected = json.loads(damaged.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        event("malformed")
        with pytest.raises(RequestRefused):
            parse(damaged)
    else:
        event("still JSON")
        try:
            value = parse(damaged)
        except Invalid:
            assert not acceptable(expected)
        else:
            assert same(value, expected)
