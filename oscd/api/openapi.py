"""`/openapi.json`: the routes and models, said in OpenAPI 3.1.

Owns: the shape of the document. Must not: know a route or a field; routes are given as `Operation`s, fields
come from the models. 3.1 because its schemas are JSON Schema 2020-12, which is what pydantic writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from oscd.api.models import KeyPath, Problem
from oscd.api.problems import MEDIA_TYPE
from oscd.errors import RequestRefused

_Json = dict[str, Any]
_Refs = dict[type[BaseModel], _Json]


@dataclass(frozen=True, slots=True)
class Answer:
    """One way an operation may answer: the model of its body, if it has one, and the headers it carries."""

    description: str
    model: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    many: bool = False
    """The body is a list of the model."""
    media_type: str | None = None
    """Of a body that is text, for programs that know its form; it has no model then."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    Attributes:
        path: Template such as `/configs/{key}`.
        answers: By status; those that are no refusal.
        refusals: The errors a caller should expect; any other is documented as "default".
        headers: Names of the request headers it honours, keys aside.
        api_key: Whether it is guarded where the node requires an API key.
        user_key: Whether it reads or writes values.
        is_body_optional: Whether no body stands for an empty object.
        takes_import: Whether its body may have `OSC_MAX_IMPORT_BYTES`.
        takes_bytes: Whether its body is bytes that stand for themselves, and no JSON.
        cluster_key: Whether the cluster key is what opens it.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    refusals: tuple[type[RequestRefused], ...] = ()
    api_key: bool = False
    user_key: bool = False
    is_body_optional: bool = False
    takes_import: bool = False
    takes_bytes: bool = False
    cluster_key: bool = False


@dataclass(frozen=True, slots=True)
class _Header:
    description: str
    schema: _Json = field(default_factory=lambda: {"type": "string"})
    required: bool = False


_REQUEST_HEADERS: Final[Mapping[str, _Header]] = {
    "If-Match": _Header("Do it only if the entry's ETag is one of these; `*` is any entry"),
    "If-None-Match": _Header("On a read: 304 if the ETag is one of these. On a PUT: `*` creates only"),
    "X-OSC-After": _Header("A position, from `X-OSC-Position`; the answer waits until the node has it"),
    "X-Actor": _Header("Who the caller says to be; kept in the history"),
    "Last-Event-ID": _Header(
        "The position to go on from: the last `id` received; browsers send it themselves"
    ),
    "X-User-Key": _Header("Opens the values, where `values=true` asks for them"),
    "X-Backup-Password": _Header(
        "What the backup is sealed with; at least 8 characters for a new one",
        {"type": "string", "minLength": 1},
        required=True,
    ),
    "X-Request-ID": _Header(
        "Comes back in the answer, and is in the log", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
    ),
}

_RESPONSE_HEADERS: Final[Mapping[str, _Header]] = {
    "ETag": _Header("Strong; the identity of the entry's winning event, equal on all nodes"),
    "Location": _Header("Where the new entry is", {"type": "string", "format": "uri-reference"}),
    "Link": _Header('`rel="next"`: the page after this one'),
    "Retry-After": _Header("Seconds after which a retry may succeed", {"type": "integer"}),
    "WWW-Authenticate": _Header("The header that would hold the right key"),
    "X-OSC-Position": _Header(
        "Where the log stands after this write (see `X-OSC-After`), or what an answer `at=` a moment is of"
    ),
    "X-Request-ID": _Header("Names this request in the log"),
}

_REFUSAL_HEADERS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}

_BYTES: Final = "application/octet-stream"

_SCHEMAS: Final = "#/components/schemas/"

_SECURITY_SCHEMES: Final[_Json] = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Needed where the node requires one",
    },
    "ClusterKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "What the nodes of a cluster show each other",
    },
    "UserKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Key",
        "description": "Encrypts and opens values; never stored",
    },
}


def document(operations: Iterable[Operation], version: str) -> _Json:
    """Write the document.

    Args:
        operations: All that shall be documented, in the order they shall be shown.
        version: Of oscd.

    Raises:
        KeyError: an operation names a header that is not described here.
    """
    table = tuple(operations)
    refs, schemas = _schemas(table)
    paths: dict[str, _Json] = {}
    for operation in table:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenSecureConf API",
            "version": version,
            "description": "oscd: an encrypted, event-sourced configuration service.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY_SCHEMES},
    }


def _schemas(operations: Sequence[Operation]) -> tuple[_Refs, _Json]:
    bodies = [operation.body for operation in operations]
    answers = [answer.model for operation in operations for answer in operation.answers.values()]
    models = list(dict.fromkeys(model for model in (*bodies, *answers, Problem) if model is not None))
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}"
    )
    return {model: {"$ref": _SCHEMAS + model.__name__} for model in models}, definitions["$defs"]


def _operation(operation: Operation, refs: _Refs) -> _Json:
    written: _Json = {
        "operationId": "_".join(re.findall(r"\w+", f"{operation.method.lower()} {operation.path}")),
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation),
            *_header_parameters(operation),
        ],
        "responses": {
            **{str(status): _answer(answer, refs) for status, answer in sorted(operation.answers.items())},
            **_refusals(operation, refs),
        },
    }
    if operation.description:
        written["description"] = operation.description
    if operation.body is not None:
        written["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": {"application/json": {"schema": refs[operation.body]}},
        }
    elif operation.takes_bytes:
        written["requestBody"] = {"required": True, "content": {_BYTES: {}}}
    if operation.api_key or operation.user_key or operation.cluster_key:
        written["security"] = _security(operation)
    return written


def _security(operation: Operation) -> list[_Json]:
    """List the alternatives: where the node requires no API key, everything goes without one."""
    if operation.cluster_key:
        return [{"ClusterKey": []}]
    user_key: _Json = {"UserKey": []} if operation.user_key else {}
    return [{"ApiKey": [], **user_key}, user_key] if operation.api_key else [user_key]


def _path_parameters(operation: Operation) -> list[_Json]:
    properties = KeyPath.model_json_schema()["properties"]
    return [
        _parameter("path", name, properties[name], required=True)
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]


def _query_parameters(operation: Operation) -> list[_Json]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema()
    required = schema.get("required", ())
    return [
        _parameter("query", name, _without_null(declared), required=name in required)
        for name, declared in schema["properties"].items()
    ]


def _header_parameters(operation: Operation) -> list[_Json]:
    return [
        _parameter(
            "header", name, {**header.schema, "description": header.description}, required=header.required
        )
        for name in (*operation.headers, "X-Request-ID")
        for header in [_REQUEST_HEADERS[name]]
    ]


def _parameter(place: str, name: str, declared: Mapping[str, Any], *, required: bool) -> _Json:
    schema = {word: said for word, said in declared.items() if word not in {"title", "description"}}
    parameter: _Json = {"name": name, "in": place, "required": required, "schema": schema}
    if "description" in declared:
        parameter["description"] = declared["description"]
    return parameter


def _without_null(declared: Mapping[str, Any]) -> _Json:
    """Say "optional" of a query parameter as OpenAPI does: by its absence, as a query cannot hold null."""
    if "anyOf" not in declared:
        return dict(declared)
    schema = {word: said for word, said in declared.items() if word not in {"anyOf", "default"}}
    for choice in declared["anyOf"]:
        if choice != {"type": "null"}:
            schema |= choice
    return schema


def _answer(answer: Answer, refs: _Refs) -> _Json:
    written: _Json = {"description": answer.description, "headers": _headers(answer.headers)}
    if answer.model is not None:
        media_type = MEDIA_TYPE if issubclass(answer.model, Problem) else "application/json"
        schema = refs[answer.model]
        if answer.many:
            schema = {"type": "array", "items": schema}
        written["content"] = {media_type: {"schema": schema}}
    elif answer.media_type is not None:
        # A stream is no one string, and OpenAPI 3.1 has no words for what it is.
        is_text = answer.media_type.startswith("text/plain")
        written["content"] = {answer.media_type: {"schema": {"type": "string"}} if is_text else {}}
    return written


def _refusals(operation: Operation, refs: _Refs) -> _Json:
    by_status = groupby(sorted(operation.refusals, key=_status), key=_status)
    written = {
        str(status): _answer(
            Answer(" or ".join(kind.title for kind in kinds), Problem, _REFUSAL_HEADERS.get(status, ())), refs
        )
        for status, kinds in by_status
    }
    return {**written, "default": _answer(Answer("Any other refusal", Problem), refs)}


def _status(kind: type[RequestRefused]) -> int:
    return kind.status


def _headers(names: Sequence[str]) -> _Json:
    return {
        name: {"description": header.description, "schema": header.schema}
        for name in (*names, "X-Request-ID")
        for header in [_RESPONSE_HEADERS[name]]
    }
