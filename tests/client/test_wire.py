"""One call and its answer: where keys go, what is tried again, and what an error may hold."""

from __future__ import annotations

import socket
import threading
import traceback
from contextlib import closing

import httpx
import pytest

from oscd.client.errors import (
    AccessRefused,
    AnswerUnreadable,
    ClientError,
    Conflict,
    EntryMissing,
    NodeUnavailable,
    Refusal,
    Unreachable,
    UsageRefused,
)
from oscd.client.target import Target
from oscd.client.wire import MAX_ANSWER_BYTES, Call, Wire
from tests.client.answering import API_KEY, USER_KEY, answer, chain_of, problem, stream, wire
from tests.support.waiting import PATIENCE

GET = Call("GET", "/configs/a")
PUT = Call("PUT", "/configs/a", body={"value": "s3cret"})


def test_keys_travel_in_their_headers_alone() -> None:
    """Each call shows the API key, the user key only where it is needed; neither is in the URL."""
    one, script, _ = wire(answer({}), answer({}))
    one.ask(GET)
    one.ask(Call("GET", "/stats", with_user_key=False))
    first, second = script.asked
    assert (first.headers["X-API-Key"], first.headers["X-User-Key"]) == (API_KEY.decode(), USER_KEY.decode())
    assert "X-User-Key" not in second.headers
    assert "correct" not in str(first.url)


def test_no_cookie_is_kept() -> None:
    """What a node sets is neither remembered nor sent back."""
    setting = httpx.Response(200, json={}, headers={"Set-Cookie": "session=1; Path=/"})
    one, script, _ = wire(setting, answer({}))
    one.ask(GET)
    one.ask(GET)
    assert [len(one._http.cookies.jar), "Cookie" in script.asked[-1].headers] == [0, False]


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (400, "malformed", Refusal),
        (400, "Configuration 'a' already exists", Conflict),
        (401, "no", AccessRefused),
        (403, "no", AccessRefused),
        (404, "none", EntryMissing),
        (412, "changed", Conflict),
        (422, "bad", Refusal),
        (500, "oops", Refusal),
        (502, "gone", NodeUnavailable),
    ],
)
def test_a_refusal_is_the_error_of_its_status(status: int, detail: str, kind: type[Refusal]) -> None:
    """The node's status and sentence are kept; the class says what to do."""
    one, _, _ = wire(problem(status, detail + "\x1b[2J"))
    with pytest.raises(Refusal) as refused:
        one.ask(GET)
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.detail) == (status, detail + r"\x1b[2J")


def test_wrong_fields_are_told_one_by_one() -> None:
    """Where several fields are wrong, each has its sentence."""
    fields = [
        {"loc": ["query", "limit"], "msg": "too large"},
        {"loc": ["query", "at"], "msg": "no\x1b[2Jtime"},
    ]
    one, _, _ = wire(answer({"detail": "2 fields are wrong", "errors": fields}, 422))
    with pytest.raises(Refusal) as refused:
        one.ask(GET)
    assert str(refused.value) == "2 fields are wrong; query.limit: too large; query.at: no\\x1b[2Jtime"


@pytest.mark.parametrize("content", [b"<html>\x1b[2J", b"", b"[]", b'{"detail":1}', b"[" * 100_000])
def test_a_page_that_is_no_refusal_of_a_node_is_not_repeated(content: bytes) -> None:
    """What a proxy says is told by its status alone."""
    one, _, _ = wire(httpx.Response(418, content=content))
    with pytest.raises(Refusal, match="answered with status 418"):
        one.ask(GET)


def test_a_redirect_is_not_followed() -> None:
    """Whoever redirects does not get the keys sent to a place of their choice."""
    one, script, _ = wire(httpx.Response(307, headers={"Location": "http://elsewhere/"}))
    with pytest.raises(Refusal, match="redirected"):
        one.ask(GET)
    assert len(script.asked) == 1


def test_later_is_asked_again_as_often_as_it_is_safe() -> None:
    """A read is asked again after 503 and 429, with the pause the node wants, and no more than three times."""
    one, _, slept = wire(
        problem(503, "x", Retry_After="2"),
        problem(429, "x"),
        problem(503, "x", Retry_After="900"),
        answer({}),
    )
    one.ask(GET)
    assert slept == [2, 1, 5]
    one, script, _ = wire(*[problem(503, "disk full")] * 5)
    with pytest.raises(NodeUnavailable, match="disk full"):
        one.ask(GET)
    assert len(script.asked) == 4


def test_a_write_is_not_sent_twice_where_it_may_have_been_done() -> None:
    """After 503 a write is over, after 429, before which nothing began, it is asked again."""
    one, script, _ = wire(problem(429, "x"), problem(503, "not known"))
    with pytest.raises(NodeUnavailable):
        one.ask(PUT)
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            httpx.ConnectError("[Errno 111] Connection refused"),
            "Connection refused; is a node serving there?",
        ),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), "OSC_CLIENT_CA_CERTS"),
        (httpx.ConnectTimeout("x"), "no connection within 5 s"),
        (httpx.ReadTimeout("x"), "no answer in time"),
        (httpx.ReadError("x"), "the connection was cut off"),
        (httpx.LocalProtocolError("Illegal header value b'correct-horse-battery'"), "cut off"),
        (httpx.DecodingError("x"), "cut off"),
    ],
)
def test_nothing_of_the_request_rides_along_with_an_error(error: httpx.RequestError, sentence: str) -> None:
    """The library's exceptions hold the request with its keys; ours come alone, with a sentence to act on."""
    one, _, _ = wire(error)
    with pytest.raises(Unreachable) as failed:
        one.ask(PUT)
    assert sentence in str(failed.value)
    assert_holds_nothing(failed.value)


def test_nothing_rides_along_where_an_answer_breaks_off() -> None:
    """The same within an answer and within a stream; of a write it is said that it may have been done."""
    one, _, _ = wire(stream("{", then=httpx.ReadError("x")), stream("{", then=httpx.ReadTimeout("x")))
    with pytest.raises(Unreachable, match="whether this was done is not known") as failed:
        one.ask(PUT)
    assert_holds_nothing(failed.value)
    with pytest.raises(Unreachable) as failed, one.stream(GET) as parts:
        list(parts)
    assert_holds_nothing(failed.value)


def assert_holds_nothing(error: ClientError) -> None:
    """Neither the error nor what rides along is or shows anything of the request."""
    assert [type(one) for one in chain_of(error)] == [Unreachable]
    shown = "".join(traceback.format_exception(error))
    assert "correct-horse" not in shown
    assert "an-api-key" not in shown
    assert "s3cret" not in shown


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers for ever does not fill the memory."""
    monkeypatch.setattr("oscd.client.wire.MAX_ANSWER_BYTES", 1000)
    assert MAX_ANSWER_BYTES > 1000
    one, _, _ = wire(stream(*["x" * 100] * 11))
    with pytest.raises(AnswerUnreadable, match="larger than"):
        one.ask(GET)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_is_no_json_is_not_sent(value: object) -> None:
    """A value that JSON cannot hold is refused here, and not repeated."""
    one, script, _ = wire()
    with pytest.raises(UsageRefused, match="not JSON"):
        one.ask(Call("PUT", "/configs/a", body={"value": value}))
    assert not script.asked


@pytest.mark.parametrize("tag", ["", "a\nX-Evil: 1", "ä", "a\0", " a"])
def test_a_header_that_is_none_is_not_sent(tag: str) -> None:
    """What a person gives for a header cannot become another header."""
    one, script, _ = wire()
    with pytest.raises(UsageRefused, match="If-Match: accepted are visible ASCII"):
        one.ask(Call("PUT", "/configs/a", headers={"If-Match": tag}, body={"value": 1}))
    assert not script.asked


def test_proxy_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set for the web does not get to see the keys: the node is called directly."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with closing(Wire(Target(url, user_key=USER_KEY))) as one:

            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

            thread = threading.Thread(target=serve)
            thread.start()
            assert one.ask(GET).content == b"{}"
            thread.join(PATIENCE)
