"""Bad input on the wire of a real node: what only a socket shows. `tests/api/test_bad_input.py` has the rest."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import StartNode
from tests.support.node import USER_KEY, RunningNode
from tests.support.raw_http import RawAnswer, ask, connect, read_answer, read_to_end, request

KEY = f"X-User-Key: {USER_KEY}"
CLOSE = "Connection: close"
MAX_BODY = 64 * 1024


@pytest.fixture(scope="module")
def node(start_module_node: StartNode) -> RunningNode:
    """A node with a body limit that is quick to exceed."""
    return start_module_node(OSC_WORKERS="2", OSC_MAX_BODY_BYTES=str(MAX_BODY))


def problem_of(answer: RawAnswer, status: int) -> dict[str, Any]:
    assert answer.status == status, (answer.head, answer.body[:300])
    assert answer.header("content-type") == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.body)
    assert isinstance(problem["detail"], str)
    return problem


def statistics(node: RunningNode) -> Any:  # noqa: ANN401 - whatever `/stats` says
    with node.client() as client:
        return client.get("/stats").json()


@pytest.mark.parametrize("size", [MAX_BODY + 1, 40 * MAX_BODY])
def test_a_client_gets_its_413_with_a_length(node: RunningNode, size: int) -> None:
    """Whoever announces too much and sends all of it before reading gets the answer, not a reset."""
    before = statistics(node)
    head = request("POST /configs HTTP/1.1", KEY, f"Content-Length: {size}")
    problem_of(ask(node.port, head + b"x" * size), 413)
    assert statistics(node) == before


@pytest.mark.parametrize("chunks", [2, 40])
def test_a_client_gets_its_413_in_chunks(node: RunningNode, chunks: int) -> None:
    """The same where the length is found out only while the body comes."""
    before = statistics(node)
    head = request("POST /configs HTTP/1.1", KEY, "Transfer-Encoding: chunked")
    chunk = b"%x\r\n%b\r\n" % (MAX_BODY, b"x" * MAX_BODY)
    problem_of(ask(node.port, head + chunk * chunks + b"0\r\n\r\n"), 413)
    assert statistics(node) == before


def test_an_endless_body_is_answered_and_cut(node: RunningNode) -> None:
    """A body that never ends is answered while it comes, and then its connection is closed."""
    with connect(node.port) as client:
        client.sendall(request("POST /configs HTTP/1.1", KEY, "Transfer-Encoding: chunked"))
        chunk = b"%x\r\n%b\r\n" % (4096, b"x" * 4096)
        with pytest.raises(ConnectionError):
            _send_on(client, chunk)
    with connect(node.port) as client:
        client.sendall(request("POST /configs HTTP/1.1", KEY, "Transfer-Encoding: chunked") + chunk * 20)
        problem_of(read_answer(client), 413)


def _send_on(client: socket.socket, chunk: bytes) -> None:
    """Send as long as the connection lasts, but for a bound far beyond what a node may take."""
    for _ in range(100_000):
        client.sendall(chunk)


def test_a_refused_head_is_answered_before_its_body_comes(node: RunningNode) -> None:
    """Who waits for `100 Continue` with too large a body is refused without sending it."""
    with connect(node.port) as client:
        length = f"Content-Length: {MAX_BODY * 2}"
        client.sendall(request("POST /configs HTTP/1.1", KEY, length, "Expect: 100-continue"))
        answer = read_answer(client)
        if answer.status == 100:
            answer = read_answer(client)
        problem_of(answer, 413)


def test_a_body_that_stops_half_way_changes_nothing(node: RunningNode) -> None:
    """A client that goes away in the middle of its body leaves no trace."""
    before = statistics(node)
    body = b'{"key":"half","value":1,"environment":"e"}'
    with connect(node.port) as client:
        client.sendall(request("POST /configs HTTP/1.1", KEY, f"Content-Length: {len(body) + 1}", body=body))
        client.shutdown(socket.SHUT_WR)
        read_to_end(client)
    assert statistics(node) == before


MALFORMED_HTTP = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": request("GET /health HTTP/1.1", "Host: localhost", "Host: localhost"),
    "two lengths": request("POST /configs HTTP/1.1", "Content-Length: 2", "Content-Length: 3", body=b"{}"),
    "negative length": request("POST /configs HTTP/1.1", "Content-Length: -2", body=b"{}"),
    "length no number": request("POST /configs HTTP/1.1", "Content-Length: two", body=b"{}"),
    "bad chunk": request("POST /configs HTTP/1.1", KEY, "Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n"),
    "space in a name": request("GET /health HTTP/1.1", "X Y: 1"),
    "NUL in a value": request("GET /health HTTP/1.1", "X: a\0b"),
    "folded line": request("GET /health HTTP/1.1", "X: a\r\n b:c\0"),
    "raw bytes in the path": b"GET /configs/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "space in the path": request("GET /configs/a b HTTP/1.1"),
}


@pytest.mark.parametrize("data", MALFORMED_HTTP.values(), ids=MALFORMED_HTTP)
def test_malformed_http_is_400_and_closed(node: RunningNode, data: bytes) -> None:
    """What is no HTTP gets a 4xx of the server itself and an end; the node goes on."""
    with connect(node.port) as client:
        client.sendall(data)
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert ask(node.port, request("GET /health HTTP/1.1", CLOSE)).status == 200


@pytest.mark.parametrize(
    "data",
    [
        request("GET /health HTTP/1.1", "X-Long: " + "x" * 200_000),
        request("GET /health HTTP/1.1", *(f"X-{number}: x" for number in range(30_000))),
        request(f"GET /health?{'x' * 200_000} HTTP/1.1"),
        b"X" * 200_000,
    ],
    ids=["one long header", "many headers", "a long target", "no line at all"],
)
def test_a_gigantic_head_is_refused(node: RunningNode, data: bytes) -> None:
    """A head beyond 64 KiB is refused before it is whole, and costs nobody else anything."""
    with connect(node.port) as client:
        with suppress(ConnectionError):  # it may be refused before all of it is sent
            client.sendall(data)
        got = read_to_end(client)
    assert got == b"" or got.split(b" ")[1] in {b"400", b"431"}
    assert ask(node.port, request("GET /health HTTP/1.1", CLOSE)).status == 200


def test_headers_up_to_the_limit_are_read(node: RunningNode) -> None:
    """A user key or a query of many kilobytes is no attack."""
    long_key = request("GET /configs HTTP/1.1", "X-User-Key: " + "k" * 16_000, CLOSE)
    assert ask(node.port, long_key).status == 200
    assert ask(node.port, request(f"GET /configs?new={'x' * 16_000} HTTP/1.1", KEY, CLOSE)).status == 200


def test_http_1_0_is_served_and_closed(node: RunningNode) -> None:
    """A client of HTTP/1.0 that names its host gets its answer and the end of the connection."""
    with connect(node.port) as client:
        client.sendall(request("GET /health HTTP/1.0"))
        got = read_to_end(client)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b'{"status":"healthy"}')


def test_pipelined_requests_are_answered_in_order(node: RunningNode) -> None:
    """Requests sent in one go are answered one after the other, a refused one among them."""
    body = b'{"key":"pipelined","value":1,"environment":"e"}'
    length = f"Content-Length: {len(body)}"
    with connect(node.port) as client:
        client.sendall(
            request("POST /configs HTTP/1.1", KEY, length, "X-Request-ID: one", body=body)
            + request("POST /configs HTTP/1.1", KEY, length, "X-Request-ID: two", body=body)
            + request("GET /configs/pipelined?environment=e HTTP/1.1", KEY, "X-Request-ID: three")
            + request("GET ?x HTTP/1.1", "X-Request-ID: four")
            + request("GET /health HTTP/1.1", "X-Request-ID: five")
        )
        answers = [read_answer(client) for _ in range(5)]
    assert [answer.status for answer in answers] == [201, 400, 200, 400, 200]
    assert [answer.header("x-request-id") for answer in answers] == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/configs/../../etc/passwd", "../../etc/passwd"),
        ("/configs/%2e%2e/%2E", "../."),
        ("/configs//a//", "/a//"),
        ("/configs/a%2Fb%3F%23%25+c", "a/b?#%+c"),
        ("http://localhost/configs/absolute", "absolute"),
        ("/configs/%C3%A9%F0%9F%94%92", "é\U0001f512"),
    ],
)
def test_a_raw_path_reaches_the_entry_it_names(node: RunningNode, target: str, key: str) -> None:
    """Between the socket and the entry nothing decodes twice, joins slashes or climbs."""
    body = b'{"value":"raw"}'
    head = [KEY, "If-None-Match: *", f"Content-Length: {len(body)}"]
    written = ask(node.port, request(f"PUT {target}?environment=raw HTTP/1.1", *head, body=body))
    assert written.status == 201, written.body
    assert json.loads(written.body)["key"] == key
    with node.client() as client:
        location = written.header("location")
        assert location is not None
        assert client.get(location).json()["key"] == key


@pytest.mark.parametrize("target", ["?x", "configs", "http:///x", "//", "/\\..\\", "http://[::1/x"])
def test_an_odd_target_is_a_4xx(node: RunningNode, target: str) -> None:
    """No request target is an error of the server's own."""
    answer = ask(node.port, request(f"GET {target} HTTP/1.1", KEY, CLOSE))
    assert answer.status in {400, 403, 404} or target == "//"
    assert answer.status < 500


def test_head_has_no_body_on_the_wire(node: RunningNode) -> None:
    """After `HEAD` the next answer on the connection follows at once."""
    with connect(node.port) as client:
        client.sendall(request("HEAD /openapi.json HTTP/1.1") + request("HEAD /configs HTTP/1.1", KEY))
        client.sendall(request("GET /health HTTP/1.1", CLOSE))
        got = read_to_end(client)
    heads = [part for part in got.split(b"\r\n\r\n") if part.startswith(b"HTTP/1.1 ")]
    assert [head.split(b" ")[1] for head in heads] == [b"200"] * 3
    assert got.endswith(b'{"status":"healthy"}')
    assert got.count(b"{") == 1


def test_nothing_of_all_this_was_an_error_of_the_node(start_node: StartNode) -> None:
    """The odd requests of this module leave no error in the log of a node."""
    node = start_node()
    for data in MALFORMED_HTTP.values():
        with connect(node.port) as client:
            client.sendall(data)
            read_to_end(client)
    for target in ("?x", "configs", "http://[::1/x", "*"):
        ask(node.port, request(f"GET {target} HTTP/1.1", KEY, CLOSE))
    assert node.terminate() == 0
    assert '"level":"error"' not in node.output
    assert "Traceback" not in node.output
