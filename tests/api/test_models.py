"""The rules of each request model, and that a broken one is named without its value."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from oscd.api.models import (
    EntryCreate,
    EntryFull,
    EntryQuery,
    EntryShort,
    EntryUpdate,
    EnvironmentQuery,
    ListQuery,
)
from oscd.api.validation import Where, validate
from oscd.errors import Invalid

SECRET = "correct-horse-battery"
CREATE: dict[str, Any] = {"key": "database/host", "value": 1, "environment": "production"}


def refusal(model: type[BaseModel], data: object, where: Where = "body") -> Invalid:
    with pytest.raises(Invalid) as caught:
        validate(model, data, where)
    return caught.value


@pytest.mark.parametrize("value", [None, False, 0, 2**64 - 1, 1.5, "", "x", [], {"a": [None]}])
def test_a_create_takes_any_json_value(value: object) -> None:
    """Null is a value like any other; only its absence is refused."""
    assert validate(EntryCreate, CREATE | {"value": value}, "body").value == value


@pytest.mark.parametrize("field", ["key", "value", "environment"])
def test_a_create_needs_its_fields(field: str) -> None:
    """A missing field is named by its place."""
    found = refusal(EntryCreate, {name: content for name, content in CREATE.items() if name != field})
    assert [(error.loc, error.msg) for error in found.errors] == [(("body", field), "is required")]
    assert found.detail == f"{field}: is required"


@pytest.mark.parametrize("category", [{}, {"category": None}, {"category": ""}])
def test_a_create_without_category(category: dict[str, str | None]) -> None:
    """Absent, null and empty all mean that the entry has no category."""
    assert validate(EntryCreate, CREATE | category, "body").category is None


@pytest.mark.parametrize(
    ("body", "category"),
    [({}, None), ({"category": None}, None), ({"category": ""}, ""), ({"category": "cache"}, "cache")],
)
def test_an_update_tells_keep_from_remove(body: dict[str, str | None], category: str | None) -> None:
    """Absent and null keep the category (None here), the empty one removes it."""
    assert validate(EntryUpdate, {"value": 1} | body, "body").category == category


def test_an_update_needs_a_value() -> None:
    """Null is a new value; none at all is refused."""
    assert validate(EntryUpdate, {"value": None}, "body").value is None
    assert refusal(EntryUpdate, {"category": "x"}).detail == "value: is required"


def test_unknown_fields_are_ignored() -> None:
    """A newer client's field does not break an older server."""
    assert validate(EntryCreate, CREATE | {"ttl": 5}, "body") == validate(EntryCreate, CREATE, "body")


@pytest.mark.parametrize("body", [None, [], [CREATE], "text", 1, True])
def test_a_body_must_be_an_object(body: object) -> None:
    """Any other JSON value is refused as a whole."""
    assert refusal(EntryCreate, body).detail == "body: must be a JSON object"


@pytest.mark.parametrize(("field", "most"), [("key", 255), ("environment", 100), ("category", 100)])
def test_lengths_count_code_points(field: str, most: int) -> None:
    """The longest text passes, in four bytes a character as well; one more does not."""
    longest = "\U0001f600" * most
    assert getattr(validate(EntryCreate, CREATE | {field: longest}, "body"), field) == longest
    assert refusal(EntryCreate, CREATE | {field: longest + "a"}).errors[0].msg == (
        f"must have at most {most} characters"
    )


@pytest.mark.parametrize("field", ["key", "environment"])
def test_key_and_environment_are_not_empty(field: str) -> None:
    """An entry without a name could not be addressed."""
    assert refusal(EntryCreate, CREATE | {field: ""}).errors[0].msg == "must have at least 1 character(s)"


@pytest.mark.parametrize("field", ["key", "environment", "category"])
@pytest.mark.parametrize("wrong", [1, True, 1.5, [], {}, ["a"]])
def test_text_is_not_coerced(field: str, wrong: object) -> None:
    """A number is no key, even if it could be written as one."""
    assert refusal(EntryCreate, CREATE | {field: wrong}).errors[0].msg == "must be a string"


@settings(max_examples=300, print_blob=True)
@given(
    st.sampled_from(["key", "environment", "category"]),
    st.text(min_size=1, max_size=99)
    | st.text(alphabet="a\n\x00\x1f\x7f\x80\x9f\xa0\u2028\ud800/", min_size=1, max_size=9),
)
def test_control_characters_and_surrogates_are_refused_wherever_they_stand(field: str, text: str) -> None:
    """Text passes exactly if Unicode puts none of its characters into Cc or Cs, and then unchanged."""
    if {"Cc", "Cs"} & {unicodedata.category(character) for character in text}:
        event("refused")
        assert [error.loc for error in refusal(EntryCreate, CREATE | {field: text}).errors] == [
            ("body", field)
        ]
    else:
        event("accepted")
        assert getattr(validate(EntryCreate, CREATE | {field: text}, "body"), field) == text


def test_all_wrong_fields_are_listed_at_once() -> None:
    """A person mends a request in one go."""
    found = refusal(EntryCreate, {"key": "", "environment": 5, "category": "\n"})
    assert [error.loc[-1] for error in found.errors] == ["key", "value", "environment", "category"]
    assert found.detail.count(";") == 3


@pytest.mark.parametrize(
    "data",
    [
        CREATE | {"key": SECRET + "\n"},
        CREATE | {"key": [SECRET]},
        CREATE | {"category": SECRET * 10},
        {"value": SECRET, SECRET: 1},
    ],
)
def test_a_refusal_does_not_repeat_what_was_sent(data: dict[str, object]) -> None:
    """Invariant 7: neither the words nor an exception behind them hold the input."""
    found = refusal(EntryCreate, data)
    assert SECRET not in found.detail + repr(found.errors)
    assert found.__cause__ is None
    assert found.__context__ is None


@pytest.mark.parametrize(
    "model",
    [
        EntryCreate(key="k", value=SECRET, environment="e"),
        EntryUpdate(value=SECRET),
        EntryShort(id=1, key="k", category=None, environment="e", value=SECRET),
        EntryFull(
            id=1,
            key="k",
            category=None,
            environment="e",
            value=SECRET,
            created_at="",
            updated_at="",
            version=1,
        ),
    ],
)
def test_a_value_is_in_no_repr(model: BaseModel) -> None:
    """Invariant 7: a model that slips into a log line takes no value with it."""
    assert SECRET not in repr(model)
    assert SECRET not in str(model)


@pytest.mark.parametrize("model", [EnvironmentQuery, EntryQuery])
def test_a_call_on_one_entry_needs_its_environment(model: type[BaseModel]) -> None:
    """Key and environment together name an entry."""
    assert refusal(model, {}, "query").errors[0].loc == ("query", "environment")


def test_modes() -> None:
    """Short is the default; a third mode is refused by naming the two."""
    assert validate(EntryQuery, {"environment": "e"}, "query").mode == "short"
    assert validate(EntryQuery, {"environment": "e", "mode": "full"}, "query").mode == "full"
    assert refusal(EntryQuery, {"environment": "e", "mode": "Full"}, "query").detail == (
        "mode: must be 'short' or 'full'"
    )


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("1000", 1000), ("007", 7)])
def test_a_limit_is_decimal(text: str, limit: int) -> None:
    """The digits of a query parameter become a number."""
    assert validate(ListQuery, {"limit": text}, "query").limit == limit


@pytest.mark.parametrize(
    ("text", "words"),
    [("0", "at least 1"), ("1001", "at most 1000"), ("99999999999", "whole"), ("1e2", "whole")]
    + [(text, "whole") for text in ("-1", "+1", " 1", "1_0", "1.0", "ten", "٣", "²", "9" * 5000)],
)
def test_an_impossible_limit_is_refused(text: str, words: str) -> None:
    """What is no whole number from 1 to 1000 is refused, and never guessed at."""
    assert words in refusal(ListQuery, {"limit": text}, "query").detail


def test_a_list_without_filters_matches_everything() -> None:
    """All parameters of a list are optional."""
    assert validate(ListQuery, {}, "query").model_dump() == {
        "category": None,
        "environment": None,
        "prefix": None,
        "mode": "short",
        "at": None,
        "limit": None,
        "cursor": None,
    }


def test_a_request_cannot_be_changed_after_validation() -> None:
    """What was validated is what is used."""
    create = validate(EntryCreate, CREATE, "body")
    with pytest.raises(ValueError, match="frozen"):
        create.key = "\n"
