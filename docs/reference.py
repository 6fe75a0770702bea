"""Owns docs/api.md: the OpenAPI document of a node, as a page for people. `make docs` writes it.

What it says comes from the document alone, which a node makes of the very operations and models that it serves. Must
not know a call or a field.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_Json = Mapping[str, Any]

_EVERYWHERE: Final = frozenset({"X-Request-ID"})
"""Headers that every call takes and every answer has: said once, at the top."""

_INTRODUCTION: Final = """\
# The HTTP API

*Made of the OpenAPI document that a node serves, by `make docs`; a test compares them. A node shows the same at
`/docs`, with forms to try it, and gives the document itself at `/openapi.json`.*

- **Keys.** *User key*: `X-User-Key`, which seals and opens values. *API key*: `X-API-Key`, where the node requires
  one. *Cluster key*: the nodes' own, in `X-API-Key` too.
- **Refusals** are `application/problem+json` of the shape [Problem](#problem), with a `detail` that a person can act
  on; a call may be refused in ways that are not listed with it, and then has that shape as well. A 401 has
  `WWW-Authenticate`, a 429 and a 503 `Retry-After`: seconds after which another try may succeed.
- **`X-Request-ID`** may be sent with any call (1 to 64 of `A-Za-z0-9._-`); every answer has it, and so has the log.
- A key in a path may hold `/`, raw or as `%2F`; no path is redirected or normalised.
"""


def reference(document: _Json) -> str:
    """The page.

    Args:
        document: In OpenAPI 3.1, as `/openapi.json` gives it.
    """
    calls = [
        (f"{method.upper()} {path}", call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    schemas = document["components"]["schemas"]
    index = [("call", "does")] + [(f"[`{name}`](#{_slug(name)})", call["summary"]) for name, call in calls]
    parts = [
        _INTRODUCTION,
        "## Calls\n",
        _table(index),
        *(_call(name, call) for name, call in calls),
        "## Shapes\n",
        *(_shape(name, schemas[name]) for name in sorted(schemas)),
    ]
    return "\n".join(parts)


def _call(name: str, call: _Json) -> str:
    lines = [f"### {name}\n", f"{call['summary']}.\n"]
    if "description" in call:
        lines.append(f"{call['description']}\n")
    lines.append(f"Keys: {_keys(call.get('security', []))}.\n")
    parameters = [one for one in call["parameters"] if one["name"] not in _EVERYWHERE]
    if parameters:
        rows = [("parameter", "in", "is", "means"), *map(_parameter, parameters)]
        lines.append(_table(rows))
    if "requestBody" in call:
        lines.append(f"Body: {_body(call['requestBody'])}.\n")
    answers, refusals = [("answer", "means", "body", "headers")], []
    for status, answer in call["responses"].items():
        if _is_refusal(answer):
            refusals.append(f"{status} {answer['description'].lower()}")
        else:
            answers.append((status, answer["description"], _content(answer), _headers(answer)))
    lines.append(_table(answers))
    if len(refusals) > 1:
        lines.append(f"Refused with {', '.join(refusals[:-1])}.\n")
    return "\n".join(lines)


def _is_refusal(answer: _Json) -> bool:
    """Whether an answer is a plain problem, and needs no line of its own."""
    content = answer.get("content", {}).get("application/problem+json", {})
    return bool(content) and content["schema"]["$ref"].endswith("/Problem")


def _keys(alternatives: Sequence[_Json]) -> str:
    names = {"UserKey": "user key", "ApiKey": "API key", "ClusterKey": "cluster key"}
    if not alternatives:
        return "none"
    always = set(alternatives[0]).intersection(*alternatives[1:])
    return ", ".join(
        names[key] + ("" if key in always else " where the node requires one") for key in alternatives[0]
    )


def _parameter(parameter: _Json) -> tuple[str, ...]:
    required = " (required)" if parameter["required"] else ""
    name = f"`{parameter['name']}`{required}"
    return name, parameter["in"], _kind(parameter["schema"]), parameter.get("description", "")


def _body(body: _Json) -> str:
    ((media_type, content),) = body["content"].items()
    shape = _kind(content["schema"]) if "schema" in content else "bytes"
    return f"{shape}, `{media_type}`" + ("" if body["required"] else "; may be left out")


def _content(answer: _Json) -> str:
    for media_type, content in answer.get("content", {}).items():
        return _kind(content["schema"]) if media_type.endswith("json") else f"`{media_type}`"
    return ""


def _headers(answer: _Json) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(answer["headers"]) - _EVERYWHERE))


def _shape(name: str, schema: _Json) -> str:
    required = schema.get("required", ())
    rows = [("field", "is", "means")]
    for field, declared in schema["properties"].items():
        always = " (required)" if field in required else ""
        rows.append((f"`{field}`{always}", _kind(declared), declared.get("description", "")))
    described = [f"{schema['description']}\n"] if "description" in schema else []
    return "\n".join([f"### {name}\n", *described, _table(rows)])


def _kind(schema: _Json) -> str:
    """What a value is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_slug(name)})"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "const" in schema:
        return f"`{_literal(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{_literal(one)}`" for one in schema["enum"]) + _default(schema)
    kind = schema.get("type", "any JSON value")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])} by name"
    return f"{schema.get('format', kind)}{''.join(_bounds(schema))}{_default(schema)}"


def _bounds(schema: _Json) -> Iterator[str]:
    for least, most, unit in (("minLength", "maxLength", " characters"), ("minimum", "maximum", "")):
        if least in schema and most in schema:
            yield f", {schema[least]} to {schema[most]}{unit}"
        elif most in schema:
            yield f", at most {schema[most]}{unit}"
        elif least in schema:
            yield f", at least {schema[least]}{unit}"


def _default(schema: _Json) -> str:
    return f", else `{_literal(schema['default'])}`" if schema.get("default") is not None else ""


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """A table of Markdown, the first row being its head."""
    head, *others = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _slug(heading: str) -> str:
    """The anchor that GitHub and most others give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def main() -> None:
    """Write the page of a node that is started for that and ended."""
    import orjson

    from tests.support.node import RunningNode

    with tempfile.TemporaryDirectory() as directory:
        node = RunningNode(Path(directory) / "node", {"OSC_WORKERS": "1"})
        try:
            with node.client() as client:
                document = orjson.loads(client.get("/openapi.json").raise_for_status().content)
        finally:
            node.terminate()
    sys.stdout.write(reference(document))


if __name__ == "__main__":
    main()
