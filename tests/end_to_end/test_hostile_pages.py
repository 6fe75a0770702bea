"""Hostile web pages against a real keyless node: nothing they make a browser send reaches an entry."""

from __future__ import annotations

import json

import pytest

from tests.conftest import StartNode
from tests.support.node import USER_KEY, RunningNode
from tests.support.raw_http import ask, request

KEY = f"X-User-Key: {USER_KEY}"
CLOSE = "Connection: close"
BODY = b'{"key":"planted","value":1,"environment":"e"}'
LENGTH = f"Content-Length: {len(BODY)}"


@pytest.fixture(scope="module")
def node(start_module_node: StartNode) -> RunningNode:
    """A keyless node on loopback that lists one host and one origin."""
    return start_module_node(OSC_ALLOWED_HOSTS="config.example", OSC_CORS_ORIGINS="https://ui.example")


@pytest.mark.parametrize("path", ["/configs", "/health", "/stats", "/docs", "/configs/k?environment=e"])
def test_a_rebound_name_reaches_nothing(node: RunningNode, path: str) -> None:
    """A page whose name was rebound to 127.0.0.1 is same-origin to its browser, but its `Host` gives it away."""
    for host in (f"evil.example:{node.port}", "evil.example", f"127.0.0.1.evil.example:{node.port}"):
        answer = ask(node.port, request(f"GET {path} HTTP/1.1", f"Host: {host}", KEY, CLOSE))
        assert answer.status == 403
        assert "OSC_ALLOWED_HOSTS" in json.loads(answer.body)["detail"]
        assert answer.header("access-control-allow-origin") is None


def test_a_rebound_page_cannot_write_as_its_own_origin(node: RunningNode) -> None:
    """That `Origin` and `Host` agree does not help a rebound page."""
    host = f"evil.example:{node.port}"
    headers = [f"Host: {host}", f"Origin: http://{host}", KEY, LENGTH, CLOSE]
    assert ask(node.port, request("POST /configs HTTP/1.1", *headers, body=BODY)).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "oscd", "config.example", "LOCALHOST"])
def test_names_that_cannot_be_rebound_are_served(node: RunningNode, host: str) -> None:
    """Whoever runs the node reaches it by its literal address, a local name, or one they listed."""
    for name in (host, f"{host}:{node.port}"):
        assert ask(node.port, request("GET /health HTTP/1.1", f"Host: {name}", CLOSE)).status == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"]
)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost", "https://localhost:1"])
def test_a_form_of_another_page_writes_nothing(node: RunningNode, origin: str, content_type: str) -> None:
    """A cross-origin post, which a browser sends without asking, is refused whatever its type."""
    host = f"Host: localhost:{node.port}"
    headers = [host, f"Origin: {origin}", f"Content-Type: {content_type}", KEY, LENGTH, CLOSE]
    answer = ask(node.port, request("POST /configs HTTP/1.1", *headers, body=BODY))
    assert answer.status == 403
    assert answer.header("access-control-allow-origin") is None
    for method in ("PUT", "DELETE"):
        refused = ask(
            node.port, request(f"{method} /configs/planted?environment=e HTTP/1.1", *headers, body=BODY)
        )
        assert refused.status == 403
    with node.client() as client:
        assert client.get("/configs/planted?environment=e").status_code == 404


def test_its_own_page_and_a_listed_one_write(node: RunningNode) -> None:
    """The node's own origin and the listed one pass, and the listed one may read the answer."""
    for number, origin in enumerate((f"http://localhost:{node.port}", "https://ui.example")):
        body = json.dumps({"key": f"own{number}", "value": 1, "environment": "e"}).encode()
        headers = [
            f"Host: localhost:{node.port}",
            f"Origin: {origin}",
            KEY,
            f"Content-Length: {len(body)}",
            CLOSE,
        ]
        answer = ask(node.port, request("POST /configs HTTP/1.1", *headers, body=body))
        assert answer.status == 201
        assert answer.header("access-control-allow-origin") == (origin if number else None)


def test_a_foreign_page_cannot_read(node: RunningNode) -> None:
    """A foreign page's request is answered, but without the header that lets its browser show it the answer."""
    for headers in ([], ["Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-user-key"]):
        method = "OPTIONS" if headers else "GET"
        answer = ask(
            node.port,
            request(f"{method} /configs HTTP/1.1", "Origin: http://evil.example", KEY, *headers, CLOSE),
        )
        assert answer.status == 200
        assert answer.header("access-control-allow-origin") is None
        assert answer.header("access-control-allow-headers") is None
