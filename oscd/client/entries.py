"""What a node tells of entries, as facts: JSON in, a trusted object or a refusal out.

Owns: which members of an answer are relied on. Must not do I/O, or let a value into a `repr` or an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from oscd.client.errors import NO_NODE, AnswerUnreadable

Json = Any
"""Any JSON value."""

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it stood when the node answered.

    Attributes:
        tag: The `ETag`, for compare-and-swap; None where the entry came in a list.
        position: What a write answered, or the cut a read in the past was made at; None otherwise.
    """

    key: str
    environment: str
    category: str | None
    value: Json = field(repr=False)
    version: int
    created_at: str
    updated_at: str
    tag: str | None = None
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One event of an entry's history.

    Attributes:
        type: `created`, `updated` or `deleted`.
        superseded: Whether it lost a merge.
        opened: Whether `value` is what the user key opened; a delete has none, and another key's stays closed.
    """

    version: int
    type: str
    timestamp: str
    created_at: str
    updated_at: str
    category: str | None
    node_id: str
    position: str
    actor: str | None
    superseded: bool
    opened: bool
    value: Json = field(default=None, repr=False)


def read_json(content: bytes) -> Json:
    """Read the JSON of an answer. Not by orjson, which turns integers beyond 64 bits into floats: an entry taken over
    from OpenSecureConf may hold some.

    Raises:
        AnswerUnreadable: It is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        pass
    # After the handler: the library's exception holds the content.
    raise AnswerUnreadable(f"the answer is not JSON; {NO_NODE}")


def entry_of(document: Json, *, tag: str | None = None, position: str | None = None) -> Entry:
    """An entry in its full form.

    Raises:
        AnswerUnreadable: A member is missing or of another type.
    """
    return Entry(
        key=member(document, "key", str),
        environment=member(document, "environment", str),
        category=optional(document, "category", str),
        value=member(document, "value", object),
        version=member(document, "version", int),
        created_at=member(document, "created_at", str),
        updated_at=member(document, "updated_at", str),
        tag=tag,
        position=position,
    )


def version_of(document: Json) -> Version:
    """One member of `versions` in a history.

    Raises:
        AnswerUnreadable: A member is missing or of another type.
    """
    opened = "value" in as_object(document)
    return Version(
        version=member(document, "version", int),
        type=member(document, "type", str),
        timestamp=member(document, "timestamp", str),
        created_at=member(document, "created_at", str),
        updated_at=member(document, "updated_at", str),
        category=optional(document, "category", str),
        node_id=member(document, "node_id", str),
        position=member(document, "position", str),
        actor=optional(document, "actor", str),
        superseded=member(document, "superseded", bool),
        opened=opened,
        value=document["value"] if opened else None,
    )


def as_object(document: Json) -> Mapping[str, Json]:
    """A JSON object.

    Raises:
        AnswerUnreadable: It is something else.
    """
    if not isinstance(document, dict):
        raise AnswerUnreadable("the answer is not of the shape a node of oscd gives")
    return document


def as_list(document: Json) -> list[Json]:
    """A JSON array.

    Raises:
        AnswerUnreadable: It is something else.
    """
    if not isinstance(document, list):
        raise AnswerUnreadable("the answer is not of the shape a node of oscd gives")
    return document


def as_text(document: Json) -> str:
    """A JSON string.

    Raises:
        AnswerUnreadable: It is something else.
    """
    if not isinstance(document, str):
        raise AnswerUnreadable("the answer is not of the shape a node of oscd gives")
    return document


def member(document: Json, name: str, kind: type[Kind]) -> Kind:
    """A member that must be there.

    Raises:
        AnswerUnreadable: It is missing or of another type.
    """
    found = as_object(document)
    if name not in found or not isinstance(found[name], kind):
        raise AnswerUnreadable(f"the answer has no usable {name!r}; {NO_NODE}")
    return found[name]  # type: ignore[no-any-return]  # mypy does not narrow an item


def optional(document: Json, name: str, kind: type[Kind]) -> Kind | None:
    """A member that may be missing or null.

    Raises:
        AnswerUnreadable: It is of another type.
    """
    return None if as_object(document).get(name) is None else member(document, name, kind)
