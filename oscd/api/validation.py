"""Input as received → a model, or a refusal that says which field is wrong and never what it held.

Owns: strict percent-decoding of query and path, how large a value may be, and the translation of pydantic's
findings into `FieldError`s. Must not: read a socket, know a route, or let anything through that a model did not
accept.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import cache
from typing import Any, Final, Literal, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from pydantic import BaseModel, ValidationError

from oscd.api.models import KeyPath
from oscd.errors import FieldError, Invalid

Where = Literal["body", "query", "path"]
Model = TypeVar("Model", bound=BaseModel)

MAX_PARAMETERS: Final = 100
"""Query parameters a request may have, unknown ones included."""

MAX_FIELD_ERRORS: Final = 20
"""Wrong fields one refusal lists."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# By pydantic's error type, with its context: https://docs.pydantic.dev/latest/errors/validation_errors/
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must have no control characters",
    "string_unicode": "must have no half of a surrogate pair",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
}


def validate(model_type: type[Model], data: object, where: Where) -> Model:
    """Make a model of what was received; unknown fields are ignored.

    Args:
        model_type: What it must be.
        data: The decoded body, or the parameters by name.
        where: First element of each `loc`.

    Raises:
        Invalid: a field breaks a rule, or the data is no object at all.
    """
    if not isinstance(data, dict):
        raise Invalid.field((where,), "must be a JSON object")
    # Raised after the handler: a ValidationError holds the input, and would be the refusal's context.
    try:
        return model_type.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    errors = [
        FieldError((where, *finding["loc"]), _say(finding["type"], finding.get("ctx", {})))
        for finding in found[:MAX_FIELD_ERRORS]
    ]
    raise Invalid("; ".join(f"{error.loc[-1]}: {error.msg}" for error in errors), errors)


def value_json(value: object, most_bytes: int) -> bytes:
    """A value as it is stored: what is created fits so, and therefore comes back from a backup.

    Args:
        most_bytes: What a body may have. One number may be written four times as long as it came: 1e15.

    Raises:
        Invalid: It is larger.
    """
    written = orjson.dumps(value)
    if len(written) > most_bytes:
        raise Invalid.field(("body", "value"), "is larger than one may be (OSC_MAX_BODY_BYTES)")
    return written


def _say(kind: str, context: Mapping[str, Any]) -> str:
    return _WORDS.get(kind, "is not acceptable").format_map(context)


def read_query(model_type: type[Model], query_string: bytes) -> Model:
    """Make a model of a query string.

    Raises:
        Invalid: as `parse_query` and `validate`.
    """
    return validate(model_type, parse_query(query_string, _parameters(model_type)), "query")


@cache
def _parameters(model_type: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model_type.model_fields.items())


def parse_query(query_string: bytes, known: Container[str]) -> dict[str, str]:
    """Decode the parameters that are known and not empty; `+` is a space.

    Args:
        query_string: What follows the `?`, as received.
        known: Names that count. Others are ignored, however often they come, but must be encoded well too.

    Raises:
        Invalid: not percent-encoded UTF-8, a known parameter given twice, or too many parameters.
    """
    if not query_string:
        return {}
    if query_string.count(b"&") >= MAX_PARAMETERS:
        raise Invalid.field(("query",), f"must have at most {MAX_PARAMETERS} parameters")
    parameters: dict[str, str] = {}
    for pair in _decode(query_string, "query").replace("+", " ").split("&"):
        name, _, text = pair.partition("=")
        if "%" in pair:
            name, text = _unescape(name.encode(), "query"), _unescape(text.encode(), "query")
        if name in parameters:
            raise Invalid.field(("query", name), "must be given once")
        if name in known:
            parameters[name] = text
    return {name: text for name, text in parameters.items() if text}


def decode_path_key(raw: bytes) -> str:
    """Decode the rest of a path as the key it names: `/` and `%2F` are the same, nothing is normalised.

    Raises:
        Invalid: not percent-encoded UTF-8, or no acceptable key.
    """
    key = _unescape(raw, "path") if b"%" in raw else _decode(raw, "path")
    return validate(KeyPath, {"key": key}, "path").key


def _unescape(raw: bytes, where: Where) -> str:
    if _BAD_ESCAPE.search(raw):
        raise Invalid.field((where,), "must have two hexadecimal digits after each %")
    return _decode(unquote_to_bytes(raw), where)


def _decode(raw: bytes, where: Where) -> str:
    # As above: a UnicodeDecodeError holds the input.
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    raise Invalid.field((where,), "must be percent-encoded UTF-8")
