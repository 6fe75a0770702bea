"""docs/api.md is what the OpenAPI document of a node says, and that document names no parameter twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docs.reference import reference
from tests.support.node import RunningNode

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"


@pytest.fixture(scope="module")
def served(shared_node: RunningNode) -> dict[str, Any]:
    """The document, as a caller gets it."""
    with shared_node.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").raise_for_status().json()
    return document


def test_the_page_is_the_document(served: dict[str, Any]) -> None:
    """Whoever changes a call or a field runs `make docs`."""
    assert PAGE.read_text() == reference(served), "run `make docs`"


def test_every_call_and_every_field_is_on_the_page(served: dict[str, Any]) -> None:
    """Nothing of the document is passed over."""
    page = reference(served)
    for path, methods in served["paths"].items():
        for method, call in methods.items():
            assert f"### {method.upper()} {path}\n" in page
            for parameter in call["parameters"]:
                assert f"`{parameter['name']}`" in page
    for name, schema in served["components"]["schemas"].items():
        shape = page.partition(f"### {name}\n")[2].partition("###")[0]
        for field in schema["properties"]:
            assert f"| `{field}`" in shape, f"{name}: {field}"


def test_no_parameter_is_named_twice(served: dict[str, Any]) -> None:
    """As OpenAPI 3.1 §4.8.10 demands: name and place identify a parameter."""
    for path, methods in served["paths"].items():
        for method, call in methods.items():
            named = [(parameter["in"], parameter["name"]) for parameter in call["parameters"]]
            assert len(set(named)) == len(named), f"{method} {path}: {named}"
