"""The document says what the operations and models declare, in OpenAPI that others can read."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from schemathesis.core.result import Ok

from oscd.api.models import EntryCreate, EntryFull, EntryQuery, EntryShort, Health, ListQuery, NotReady, Ready
from oscd.api.openapi import Answer, Operation, document
from oscd.errors import AlreadyExists, BadRequest, NotAuthorized, NotFound, Unavailable

OPERATIONS = (
    Operation(
        "POST",
        "/configs",
        "Create an entry",
        {201: Answer("Created", EntryFull, headers=("Location", "ETag", "X-OSC-Position"))},
        description="Longer words.",
        body=EntryCreate,
        headers=("X-Actor",),
        refusals=(BadRequest, NotAuthorized, AlreadyExists, Unavailable),
        api_key=True,
        user_key=True,
    ),
    Operation(
        "GET",
        "/configs",
        "List entries",
        {200: Answer("The entries", EntryShort, headers=("Link",), many=True)},
        query=ListQuery,
        api_key=True,
        user_key=True,
    ),
    Operation(
        "GET",
        "/configs/{key}",
        "Read an entry",
        {200: Answer("The entry", EntryShort, headers=("ETag",)), 304: Answer("Not modified")},
        query=EntryQuery,
        headers=("If-None-Match", "X-OSC-After"),
        refusals=(NotFound,),
        api_key=True,
        user_key=True,
    ),
    Operation("GET", "/stats", "Count", {200: Answer("Counts", Health)}, api_key=True),
    Operation("GET", "/ready", "Ready?", {200: Answer("Yes", Ready), 503: Answer("No", NotReady)}),
)


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return document(OPERATIONS, "1.2.3")


def parameter(operation: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (parameter for parameter in operation["parameters"] if parameter["name"] == name)
    assert isinstance(found, dict)
    return found


def test_others_can_read_it(written: dict[str, Any]) -> None:
    """A tool that knows the OpenAPI schema finds nothing wrong, and finds every operation."""
    schema = schemathesis.openapi.from_dict(written)
    schema.validate()
    found = [result.ok().label for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert found == [f"{operation.method} {operation.path}" for operation in OPERATIONS]


def test_a_tool_finds_what_is_wrong(written: dict[str, Any]) -> None:
    """The check above can fail: a document without its info is refused."""
    schema = schemathesis.openapi.from_dict({name: part for name, part in written.items() if name != "info"})
    with pytest.raises(ValueError, match="required"):
        schema.validate()


def test_every_reference_leads_somewhere(written: dict[str, Any]) -> None:
    """No schema is named that is not there, and none is there that nobody names."""

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*(references(inner) for inner in node.values()))
        return set().union(*(references(inner) for inner in node)) if isinstance(node, list) else set()

    schemas = written["components"]["schemas"]
    assert references(written) == {f"#/components/schemas/{name}" for name in schemas}


def test_the_rules_of_a_body_are_those_of_its_model(written: dict[str, Any]) -> None:
    """What validation demands, the document says."""
    body = written["components"]["schemas"]["EntryCreate"]
    assert body["required"] == ["key", "value", "environment"]
    assert (body["properties"]["key"]["minLength"], body["properties"]["key"]["maxLength"]) == (1, 255)
    assert written["paths"]["/configs"]["post"]["requestBody"]["required"] is True


def test_query_parameters_are_optional_by_absence(written: dict[str, Any]) -> None:
    """A filter may be left out but cannot be null, which no query could say."""
    limit = parameter(written["paths"]["/configs"]["get"], "limit")
    assert (limit["in"], limit["required"]) == ("query", False)
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000}
    environment = parameter(written["paths"]["/configs/{key}"]["get"], "environment")
    assert environment["required"] is True
    mode = parameter(written["paths"]["/configs/{key}"]["get"], "mode")
    assert (mode["schema"]["enum"], mode["schema"]["default"]) == (["short", "full"], "short")


def test_the_key_is_a_path_parameter(written: dict[str, Any]) -> None:
    """The template's name and the document's parameter are one."""
    key = parameter(written["paths"]["/configs/{key}"]["get"], "key")
    assert (key["in"], key["required"], key["schema"]["maxLength"]) == ("path", True, 255)


def test_headers_are_described(written: dict[str, Any]) -> None:
    """Those an operation honours and those it answers with, and the request id everywhere."""
    read = written["paths"]["/configs/{key}"]["get"]
    assert parameter(read, "If-None-Match")["in"] == "header"
    assert set(read["responses"]["200"]["headers"]) == {"ETag", "X-Request-ID"}
    assert parameter(written["paths"]["/ready"]["get"], "X-Request-ID")["required"] is False


def test_an_unknown_header_is_a_mistake() -> None:
    """A header without a description is found when the document is written, not by a reader."""
    with pytest.raises(KeyError):
        document([Operation("GET", "/", "x", {200: Answer("x")}, headers=("X-Nothing",))], "1")
    with pytest.raises(KeyError):
        document([Operation("GET", "/", "x", {200: Answer("x", headers=("X-Nothing",))})], "1")


def test_refusals_are_problems(written: dict[str, Any]) -> None:
    """Expected ones stand under their status, two of one status together, all others under "default"."""
    responses = written["paths"]["/configs"]["post"]["responses"]
    assert list(responses) == ["201", "400", "401", "503", "default"]
    assert responses["400"]["description"] == "Bad request or Already exists"
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]
    for status in ("400", "401", "503", "default"):
        assert list(responses[status]["content"]) == ["application/problem+json"]
    not_ready = written["paths"]["/ready"]["get"]["responses"]["503"]
    assert list(not_ready["content"]) == ["application/problem+json"]


def test_security_is_what_the_guard_does(written: dict[str, Any]) -> None:
    """The API key is needed only where the node requires one; the user key wherever values are touched."""
    assert written["paths"]["/configs"]["post"]["security"] == [
        {"ApiKey": [], "UserKey": []},
        {"UserKey": []},
    ]
    assert written["paths"]["/stats"]["get"]["security"] == [{"ApiKey": []}, {}]
    assert "security" not in written["paths"]["/ready"]["get"]


def test_operation_ids_are_distinct(written: dict[str, Any]) -> None:
    """Generators name their functions by them."""
    names = [operation["operationId"] for path in written["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(OPERATIONS)
