"""A real browser on pages of other origins: what they may read and do, and streams that outlive their node."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartNode
from tests.support.browser import PageServer, Report, Visit, visited
from tests.support.node import USER_KEY, RunningNode

API_KEY = "an-api-key-for-tests"

CALLS = """
const call = async (name, method, path, body) => {
  try {
    const answer = await fetch(given.base + path, {
      method,
      headers: {"X-API-Key": given.apiKey, "X-User-Key": given.userKey, "Content-Type": "application/json"},
      body: body && JSON.stringify(body),
    });
    await report(name, {
      status: answer.status,
      etag: answer.headers.get("ETag"),
      location: answer.headers.get("Location"),
      position: answer.headers.get("X-OSC-Position"),
      requestId: answer.headers.get("X-Request-ID"),
      type: answer.headers.get("Content-Type"),
      body: await answer.json(),
    });
  } catch (error) {
    await report(name, {failed: error.name});
  }
};
const path = "/configs/page%2Fk?environment=e";
await call("created", "POST", "/configs", {key: "page/k", value: {n: 1}, environment: "e"});
await call("read", "GET", path);
await call("updated", "PUT", path, {value: {n: 2}});
await call("listed", "GET", "/configs?environment=e");
await call("deleted", "DELETE", path);
await call("missing", "GET", path);
await call("healthy", "GET", "/health");
const opaque = await fetch(given.base + "/health", {mode: "no-cors"});
await report("done", {status: opaque.status, text: await opaque.text()});
"""

CALL_NAMES = ["created", "read", "updated", "listed", "deleted", "missing", "healthy"]


@pytest.fixture
def pages() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.close()


@pytest.fixture
def other_pages() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.close()


def test_a_listed_page_reads_and_writes(
    start_node: StartNode, pages: PageServer, tmp_path: Path
) -> None:
    """A page of a listed origin makes every kind of call with both keys, and reads answers, headers and problems."""
    node = _guarded(start_node, pages)
    with visited(pages, CALLS, _given(node), tmp_path / "browser") as visit:
        visit.wait_for("done")
        answers = {name: visit.wait_for(name) for name in CALL_NAMES}
    assert [answers[name].get("status") for name in CALL_NAMES] == [201, 200, 200, 200, 200, 404, 200]
    assert answers["created"]["location"]
    assert answers["read"]["body"]["value"] == {"n": 1}
    assert answers["read"]["etag"] == answers["created"]["etag"] != answers["updated"]["etag"]
    assert [entry["value"] for entry in answers["listed"]["body"]] == [{"n": 2}]
    for name in ("created", "updated", "deleted"):
        assert answers[name]["position"]
    assert answers["missing"]["type"] == "application/problem+json"
    assert "not found" in answers["missing"]["body"]["detail"]
    assert all(answers[name]["requestId"] for name in CALL_NAMES)


def test_an_unlisted_page_reads_and_changes_nothing(
    start_node: StartNode, pages: PageServer, other_pages: PageServer, tmp_path: Path
) -> None:
    """Though it knows both keys, a page of another origin gets no call through, and nothing of what is public."""
    node = _guarded(start_node, pages)
    with visited(other_pages, CALLS, _given(node), tmp_path / "browser") as visit:
        done = visit.wait_for("done")
        assert [visit.wait_for(name).get("failed") for name in CALL_NAMES] == ["TypeError"] * len(CALL_NAMES)
    assert (done["status"], done["text"]) == (0, "")
    with _client(node) as client:
        assert client.get("/stats").json()["total_keys"] == 0


def _guarded(start_node: StartNode, pages: PageServer, **settings: str) -> RunningNode:
    """A node with two workers that asks for an API key and lists the origin of these pages."""
    return start_node(
        OSC_WORKERS="2",
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_CORS_ORIGINS=pages.origin,
        **settings,
    )


def _given(node: RunningNode, **more: object) -> dict[str, object]:
    """What a page is told."""
    return {"base": node.base_url, "apiKey": API_KEY, "userKey": USER_KEY, **more}


def _client(node: RunningNode) -> httpx.Client:
    return node.client(api_key=API_KEY)
