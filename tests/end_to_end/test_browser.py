"""A real browser on pages of other origins: what they may read and do, and streams that outlive their node."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.support.browser import PageServer, Report, Visit, visited
from tests.support.node import OTHER_USER_KEY, USER_KEY, RunningNode

API_KEY = "an-api-key-for-tests"
ENVIRONMENT = "streamed"
SECRET = "a-value-that-no-stream-tells"

CHANGES = ("created", "updated", "deleted")
KINDS = ("connected", *CHANGES, "sync", "snapshot", "bookmark", "reset", "goodbye")

CONNECTING, CLOSED = 0, 2
"""The states of an `EventSource` that is not open (HTML, section 9.2.2)."""

Change = tuple[str, str, int | None]
"""Kind, key, and the version of what is there afterwards."""

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

EVENT_SOURCE = """
let {ticket} = given;
if (!ticket) {
  const answer = await fetch(given.base + "/sse/tickets", {
    method: "POST",
    headers: {"X-API-Key": given.apiKey, "Content-Type": "application/json"},
    body: JSON.stringify({environment: given.environment}),
  });
  ({ticket} = await answer.json());
}
const query = new URLSearchParams({ticket, environment: given.environment});
const source = new EventSource(`${given.base}/sse/subscribe?${query}`);
source.addEventListener("open", () => report("open", {}));
source.addEventListener("error", () => report("broken", {state: source.readyState}));
for (const kind of given.kinds) {
  source.addEventListener(kind, (event) => report(kind, {id: event.lastEventId, data: JSON.parse(event.data)}));
}
"""

STREAMING_FETCH = r"""
const answer = await fetch(`${given.base}/sse/subscribe?environment=${given.environment}&values=true`, {
  headers: {"X-API-Key": given.apiKey, "X-User-Key": given.userKey},
});
await report("answer", {status: answer.status, type: answer.headers.get("Content-Type")});
let text = "";
for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
  const frames = (text + part).split("\n\n");
  text = frames.pop();
  for (const frame of frames) {
    const fields = new Map([...frame.matchAll(/^(\w+): ?(.*)$/gm)].map(([_, name, value]) => [name, value]));
    if (fields.has("event")) {
      report(fields.get("event"), {data: JSON.parse(fields.get("data"))});
    }
  }
}
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


def test_a_listed_page_reads_and_writes(start_node: StartNode, pages: PageServer, tmp_path: Path) -> None:
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
    with node.client(api_key=API_KEY) as client:
        assert client.get("/stats").json()["total_keys"] == 0


@pytest.mark.parametrize("end", [RunningNode.terminate, RunningNode.kill_all])
def test_a_page_misses_nothing_of_what_happened_while_it_was_cut_off(
    start_node: StartNode, pages: PageServer, tmp_path: Path, end: Callable[[RunningNode], int]
) -> None:
    """A page reconnects by itself to a node that came back on its port, and gets what was written before it did."""
    node = _guarded(start_node, pages, OSC_HOST_PORT=str(_free_port()))
    with visited(pages, EVENT_SOURCE, _given(node), tmp_path / "browser") as visit:
        visit.wait_for("connected")
        written = _live(node, "before")
        _require_seen(visit, written)
        with visit.frozen():
            end(node)
            node.restart()
            written += _live(node, "meanwhile")
        _require_seen(visit, written)
        written += _live(node, "after")
        _require_seen(visit, written)
        _require_reconnected(visit)


def test_a_page_waits_for_a_node_that_is_down(
    start_node: StartNode, pages: PageServer, tmp_path: Path
) -> None:
    """A page that finds nobody on the port goes on trying, until the node is back and gives it what it missed."""
    node = _guarded(start_node, pages, OSC_HOST_PORT=str(_free_port()))
    with visited(pages, EVENT_SOURCE, _given(node), tmp_path / "browser") as visit:
        visit.wait_for("connected")
        written = _live(node, "before")
        _require_seen(visit, written)
        assert node.terminate() == 0
        assert "reason" in visit.wait_for("goodbye")["data"]
        # The end of the stream, and one try in vain.
        visit.wait_for("broken", 2)
        node.restart()
        written += _live(node, "after")
        _require_seen(visit, written)
        _require_reconnected(visit)


def test_a_ticket_opens_no_stream_to_an_unlisted_page(
    start_node: StartNode, pages: PageServer, other_pages: PageServer, tmp_path: Path
) -> None:
    """Where a ticket got to another origin, the browser keeps the stream from the page, and does not try again."""
    node = _guarded(start_node, pages)
    with node.client(api_key=API_KEY) as client:
        ticket = client.post("/sse/tickets", json={"environment": ENVIRONMENT}).json()["ticket"]
    given = _given(node, ticket=ticket)
    with visited(other_pages, EVENT_SOURCE, given, tmp_path / "browser") as visit:
        assert visit.wait_for("broken")["state"] == CLOSED
        _live(node, "unseen")
        assert [report["kind"] for report in visit.reports] == ["broken"]
    # The same ticket, page and node, but for the origin.
    with visited(pages, EVENT_SOURCE, given, tmp_path / "browser-of-listed") as visit:
        visit.wait_for("connected")


def test_a_page_streams_values_with_its_key(start_node: StartNode, pages: PageServer, tmp_path: Path) -> None:
    """`fetch` sends what `EventSource` cannot: with its user key a page reads the values which that key opens."""
    node = _guarded(start_node, pages)
    with visited(pages, STREAMING_FETCH, _given(node), tmp_path / "browser") as visit:
        answer = visit.wait_for("answer")
        assert (answer["status"], answer["type"].partition(";")[0]) == (200, "text/event-stream")
        visit.wait_for("connected")
        for user_key, key in ((USER_KEY, "own"), (OTHER_USER_KEY, "foreign")):
            with node.client(user_key, api_key=API_KEY) as client:
                entry = {"key": key, "value": {"of": key}, "environment": ENVIRONMENT}
                assert client.post("/configs", json=entry).status_code == 201
        visit.wait_for("created", 2)
        frames = {frame["data"]["key"]: frame["data"]["data"] for frame in visit.of("created")}
    assert frames == {"own": {"value": {"of": "own"}}, "foreign": None}


def _live(node: RunningNode, key: str) -> list[Change]:
    """Create, update twice and delete an entry; give the changes a subscriber should see."""
    path = f"/configs/{key}?environment={ENVIRONMENT}"
    with node.client(api_key=API_KEY) as client:
        entry = {"key": key, "value": SECRET, "environment": ENVIRONMENT}
        assert client.post("/configs", json=entry).status_code == 201
        for _ in range(2):
            assert client.put(path, json={"value": SECRET}).status_code == 200
        assert client.delete(path).status_code == 200
    return [("created", key, 1), ("updated", key, 2), ("updated", key, 3), ("deleted", key, None)]


def _require_seen(visit: Visit, written: list[Change]) -> None:
    """Wait until a page has seen as many changes as were written; they must be the same, in order, without values."""
    visit.wait_until(lambda: len(visit.of(*CHANGES)) >= len(written), what=f"{len(written)} changes")
    seen = visit.of(*CHANGES)
    assert [_change(report) for report in seen] == written
    assert len({report["id"] for report in seen}) == len(seen)
    assert SECRET not in json.dumps(visit.reports)


def _change(report: Report) -> Change:
    kind = report["kind"]
    return kind, report["data"]["key"], None if kind == "deleted" else report["data"]["version"]


def _require_reconnected(visit: Visit) -> None:
    """The page connected once more, by itself, and was never told that something is lost."""
    assert len(visit.of("connected")) == len(visit.of("open")) == 2
    assert {report["state"] for report in visit.of("broken")} == {CONNECTING}
    assert visit.of("reset") == []


def _free_port() -> int:
    """A port that stays free while its node is down: the kernel gives it to no connection by itself."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("100 ports are in use")


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
    return {
        "base": node.base_url,
        "apiKey": API_KEY,
        "userKey": USER_KEY,
        "environment": ENVIRONMENT,
        "kinds": KINDS,
        **more,
    }
