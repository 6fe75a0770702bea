"""Owns entries as documents, JSON and YAML: a list of entries, shaped as `GET /configs` answers them.

A mapping instead of the list is what people write by hand: its names are the parts of keys. A document is read
whole, or refused with a sentence that says where it is wrong and repeats no value. The rules of the API itself decide
what may be stored. Must not touch a file or a node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from oscd.api.models import EntryCreate
from oscd.api.strict_json import parse
from oscd.client.errors import UsageRefused
from oscd.client.json_text import TOO_DEEP, json_text, read_strictly
from oscd.client.yaml_text import dump_yaml, load_yaml
from oscd.errors import RequestRefused

MAX_BYTES: Final = 64 * 1024 * 1024
"""A file larger than this is not read; a node takes no larger import either (`OSC_MAX_IMPORT_BYTES`)."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a file says of an entry.

    Attributes:
        category: Empty for none; None where the file does not say.
    """

    key: str
    environment: str
    category: str | None
    value: Any = field(repr=False)


def json_document(entries: Iterable[Mapping[str, Any]]) -> str:
    """Entries as a JSON document, one a line so that two exports can be compared line by line."""
    lines = ",\n".join(json_text(entry) for entry in entries)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def yaml_document(entries: Iterable[Mapping[str, Any]]) -> str:
    """Entries as a YAML document.

    Raises:
        UsageRefused: One holds half a surrogate pair, which YAML cannot say.
    """
    text = dump_yaml([dict(entry) for entry in entries])
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageRefused("a value holds half a surrogate pair, which YAML cannot say; JSON can") from None
    return text


def items_of_json(text: str, environment: str | None) -> list[Item]:
    """Read a JSON document.

    Args:
        environment: Where all entries go, whatever the document says; None: each names its own.

    Raises:
        UsageRefused: It is no such document, holds what cannot be stored, or one entry twice.
    """
    return items_of(read_strictly(text), environment)


def items_of_yaml(text: str, environment: str | None) -> list[Item]:
    """Read a YAML document; arguments and errors as `items_of_json`."""
    return items_of(load_yaml(text), environment)


def items_of(document: object, environment: str | None) -> list[Item]:
    """The entries of a document; arguments and errors as `items_of_json`."""
    match document:
        case list():
            items = [_listed(entry, f"entry {n}", environment) for n, entry in enumerate(document, 1)]
        case dict():
            try:
                items = list(_nested(document, "", environment))
            except RecursionError:
                raise UsageRefused(TOO_DEEP) from None
        case _:
            raise UsageRefused("accepted is a list of entries, or a mapping of the parts of keys to values")
    return unique(items)


def item(key: object, environment: object, category: object, value: object, where: str) -> Item:
    """An entry that may be stored as it is.

    Raises:
        UsageRefused: The API would not take it.
    """
    told = {"key": key, "environment": environment, "category": category}
    try:
        # Written as JSON and read by the rules for bodies, a value is refused here for what a node refuses it for.
        parse(json.dumps({"value": value}).encode())
        EntryCreate.model_validate({**told, "value": None})
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]
        raise UsageRefused(f"{where}: {wrong['loc'][0]}: {wrong['msg']}") from None
    except RequestRefused as error:
        raise UsageRefused(f"{where}: {error.detail.replace('The body', 'the value')}") from None
    except (RecursionError, TypeError):
        raise UsageRefused(f"{where}: the value cannot be said in JSON, or {TOO_DEEP}") from None
    assert isinstance(key, str)
    assert isinstance(environment, str)
    return Item(key, environment, category if isinstance(category, str) else None, value)


def unique(items: list[Item]) -> list[Item]:
    """The same items, none of which is of the same entry as another.

    Raises:
        UsageRefused: Two are.
    """
    seen: set[tuple[str, str]] = set()
    for each in items:
        if (each.environment, each.key) in seen:
            raise UsageRefused(f"{each.key!r} in {each.environment!r} comes twice")
        seen.add((each.environment, each.key))
    return items


def _listed(entry: object, where: str, environment: str | None) -> Item:
    if not isinstance(entry, dict) or not {"key", "value"} <= entry.keys():
        raise UsageRefused(f"{where}: accepted is a mapping with key, value, environment, category")
    category = entry.get("category")
    if "category" in entry and category is None:
        category = ""
    found = environment or entry.get("environment")
    if found is None:
        raise UsageRefused(f"{where}: names no environment; say --environment")
    return item(entry["key"], found, category, entry["value"], where)


def _nested(mapping: dict[object, object], above: str, environment: str | None) -> Iterable[Item]:
    if environment is None:
        raise UsageRefused("a mapping names no environment; say --environment")
    for part, value in mapping.items():
        if not isinstance(part, str) or not part:
            raise UsageRefused(f"below {above or 'the top'!r}: accepted as a part of a key is text")
        key = f"{above}/{part}" if above else part
        if isinstance(value, dict) and value:
            yield from _nested(value, key, environment)
        else:
            yield item(key, environment, None, value, repr(key))
