"""Bad input: each kind is a clear problem with a string `detail`, and nothing is changed by it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from oscd.api import app as app_module
from tests.api.asgi import PATIENCE, Answer, Site, assert_problem, http_scope, opened_site

JSON = ("content-type", "application/json")
SECRET = "do-not-repeat-me"
NESTED_64 = b"[" * 64 + b"]" * 64
NESTED_65 = b"[" * 65 + b"]" * 65


def body(value: bytes = b'"v"', *, key: bytes = b'"k"', environment: bytes = b'"e"') -> bytes:
    return b'{"key":%b,"value":%b,"environment":%b}' % (key, value, environment)


MALFORMED = {
    "empty": b"",
    "no JSON": SECRET.encode(),
    "cut short": body()[:-1],
    "two documents": body() + body(),
    "trailing comma": b'{"key":"k","value":1,"environment":"e",}',
    "NaN": body(b"NaN"),
    "Infinity": body(b"Infinity"),
    "-Infinity": body(b"-Infinity"),
    "not UTF-8": body(b'"\xff"'),
    "UTF-16": body().decode().encode("utf-16"),
    "raw control character": body(b'"\n"'),
}
INVALID = {
    "an array": b"[]",
    "a string": b'"text"',
    "null": b"null",
    "nothing in it": b"{}",
    "no key": b'{"value":1,"environment":"e"}',
    "no value": b'{"key":"k","environment":"e"}',
    "no environment": b'{"key":"k","value":1}',
    "key a number": body(key=b"1"),
    "key null": body(key=b"null"),
    "key empty": body(key=b'""'),
    "key of 256": body(key=b'"%b"' % (b"k" * 256)),
    "key with NUL": body(key=rb'"a\u0000b"'),
    "key with newline": body(key=rb'"a\nb"'),
    "key with DEL": body(key=b'"a\x7fb"'),
    "key with C1": body(key=rb'"a\u0085b"'),
    "environment empty": body(environment=b'""'),
    "environment of 101": body(environment=b'"%b"' % (b"e" * 101)),
    "environment a list": body(environment=b'["e"]'),
    "category a number": b'{"key":"k","value":1,"environment":"e","category":1}',
    "category of 101": b'{"key":"k","value":1,"environment":"e","category":"%b"}' % (b"c" * 101),
    "category with tab": rb'{"key":"k","value":1,"environment":"e","category":"a\tb"}',
    "2^64": body(b"18446744073709551616"),
    "-2^63-1": body(b"-9223372036854775809"),
    "a huge integer": body(b"1" + b"0" * 4000),
    "1e400": body(b"1e400"),
    "lone surrogate in the value": body(rb'"\ud800"'),
    "lone surrogate in a name": body(rb'{"\udc00":1}'),
    "lone surrogate in the key": body(key=rb'"\ud800"'),
    "nesting of 65": body(NESTED_65),
    "nesting of 60 000": b"[" * 60_000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_body_is_400(site: Site, data: bytes) -> None:
    """What is no JSON is 400, and nothing of it is repeated."""
    before = await site.state()
    problem = assert_problem(await site.ask("POST", "/configs", JSON, chunks=[data]), 400)
    assert SECRET not in json.dumps(problem)
    assert await site.state() == before
    assert site.derived == []


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
async def test_invalid_body_is_422(site: Site, data: bytes) -> None:
    """What is JSON but not acceptable is 422, on create and on update, and costs no derivation."""
    await site.create("k", environment="e")
    before, derived = await site.state(), list(site.derived)
    assert_problem(await site.ask("POST", "/configs", JSON, chunks=[data], user_key="another-key"), 422)
    if b'"value"' in data and b'"key":"k"' in data and b'"environment":"e"' in data:
        target = "/configs/k?environment=e"
        assert_problem(await site.ask("PUT", target, JSON, chunks=[data], user_key="another-key"), 422)
    assert await site.state() == before
    assert site.derived == derived


async def test_wrong_fields_are_all_named_without_their_values(site: Site) -> None:
    """One refusal names every wrong field by its place, and repeats no value."""
    answered = await site.ask("POST", "/configs", body={"key": 7, "environment": SECRET * 10})
    problem = assert_problem(answered, 422)
    assert [error["loc"] for error in problem["errors"]] == [
        ["body", "key"],
        ["body", "value"],
        ["body", "environment"],
    ]
    assert SECRET not in answered.body.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        NESTED_64,
        rb'"\ud83d\ude00"',
        b"null",
        b'"%b"' % (b"x" * 60_000),
    ],
    ids=["2^64-1", "-2^63", "nesting of 64", "a surrogate pair", "null", "60 000 characters"],
)
async def test_the_last_acceptable_values_are_read_back_equal(site: Site, value: bytes) -> None:
    """What is just inside a limit is stored and comes back as it was sent."""
    answered = await site.ask("POST", "/configs", JSON, chunks=[body(value)])
    assert answered.status == 201, answered.body
    read = await site.ask("GET", "/configs/k?environment=e")
    assert read.json()["value"] == json.loads(value)


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_a_body_over_the_limit_is_413(tmp_path: Path, announced: bool) -> None:
    """One byte too much is 413 whether the length was announced or found out; one byte less is taken."""
    fits = body(b'"%b"' % (b"x" * 900))
    async with opened_site(tmp_path, max_body_bytes=len(fits)) as site:
        before = await site.state()
        too_long = fits + b" "
        length = [("content-length", str(len(too_long)))] if announced else []
        parts = [too_long[:500], too_long[500:]]
        problem = assert_problem(await site.ask("POST", "/configs", JSON, *length, chunks=parts), 413)
        assert str(len(fits)) in problem["detail"]
        assert await site.state() == before
        assert (await site.ask("POST", "/configs", JSON, chunks=[fits[:500], fits[500:]])).status == 201


async def test_an_endless_body_is_413_while_it_still_comes(tmp_path: Path) -> None:
    """Nobody has to end a body to be told that it is too long."""
    async with opened_site(tmp_path, max_body_bytes=100) as site:
        answer = Answer()
        parts = 0

        async def endless() -> dict[str, object]:
            nonlocal parts
            parts += 1
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"x" * 60, "more_body": True}

        async with asyncio.timeout(PATIENCE):
            await site.app(http_scope("POST", "/configs", [JSON]), endless, answer.send)
        assert_problem(answer.whole(), 413)
        assert parts < 1000


async def test_a_limit_beyond_16_megabytes_is_the_limit(tmp_path: Path) -> None:
    """No other limit of the web framework cuts in below the configured one."""
    async with opened_site(tmp_path, max_body_bytes=20_000_000) as site:
        data = body(b'"%b"' % (b"x" * 17_000_000))
        answered = await site.ask("POST", "/configs", JSON, ("content-length", str(len(data))), chunks=[data])
        assert answered.status == 201, answered.body[:300]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/json",
        "multipart/form-data; boundary=x",
        "application/json; charset=iso-8859-1",
        "application/json; v=1; charset=utf-16",
        "json",
        ";",
    ],
)
async def test_another_media_type_is_415(site: Site, content_type: str) -> None:
    """A body that says it is something else is refused with a hint for whoever typed curl -d."""
    before = await site.state()
    answered = await site.ask("POST", "/configs", ("content-type", content_type), chunks=[body()])
    assert "curl" in assert_problem(answered, 415)["detail"]
    assert await site.state() == before


async def test_a_compressed_body_is_415(site: Site) -> None:
    """A body is taken as it is, never unpacked."""
    answered = await site.ask("POST", "/configs", JSON, ("content-encoding", "gzip"), chunks=[body()])
    assert_problem(answered, 415)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", "")],
        [("content-type", "Application/JSON")],
        [("content-type", 'application/json; charset="UTF-8"')],
        [("content-type", "application/vnd.config+json")],
        [JSON, ("content-encoding", "identity")],
    ],
    ids=str,
)
async def test_json_by_any_of_its_names_is_taken(site: Site, headers: list[tuple[str, str]]) -> None:
    """A missing Content-Type means JSON, and so does every way to say it."""
    assert (await site.ask("POST", "/configs", *headers, chunks=[body()])).status == 201


@pytest.mark.parametrize(
    "target",
    [
        "/configs/k",
        "/configs/k?environment=",
        "/configs/k?environment=%ff",
        "/configs/k?environment=%zz",
        "/configs/k?environment=a%00b",
        "/configs/k?environment=" + "e" * 101,
        "/configs/k?environment=e&environment=e",
        "/configs/k?environment=e&mode=long",
        "/configs/k?environment=e&mode=FULL",
        "/configs?mode=x",
        "/configs?limit=0",
        "/configs?limit=1001",
        "/configs?limit=-1",
        "/configs?limit=1.5",
        "/configs?limit=ten",
        "/configs?limit=1&limit=1",
        "/configs?limit=%D9%A1",
        "/configs?limit=99999999999999999999",
        "/configs?cursor=x",
        "/configs?cursor=W10",
        "/configs?cursor=WzEsMl0=",
        "/configs?limit=2&cursor=WyJhIl0=",
        "/configs?cursor=" + "A" * 4097,
        "/configs?prefix=a%0Ab",
        "/configs?prefix=" + "p" * 256,
        "/configs?category=" + "c" * 101,
        "/configs?" + "&".join(f"p{number}=1" for number in range(101)),
    ],
)
async def test_an_impossible_query_is_422(site: Site, target: str) -> None:
    """A known parameter with an impossible value, or given twice, is refused and not guessed at."""
    await site.create("k")
    problem = assert_problem(await site.ask("GET", target), 422)
    assert problem["errors"][0]["loc"][0] == "query"


async def test_unknown_fields_and_parameters_are_ignored(site: Site) -> None:
    """Fields and parameters of a later version harm nobody; empty filters mean none."""
    await site.create("k", new_field=[1], ttl=5)
    answered = await site.ask("GET", "/configs?category=&environment=&prefix=&mode=&limit=&new=1&new=2")
    assert [entry["key"] for entry in answered.json()] == ["k"]


@pytest.mark.parametrize(
    "name",
    ["x-api-key", "x-user-key", "x-actor", "x-osc-after", "x-request-id", "content-type", "host", "origin"],
)
async def test_a_repeated_header_is_400(site: Site, name: str) -> None:
    """A header that means one thing and came twice, even alike, is refused by its name."""
    before = await site.state()
    value = {"x-user-key": "correct-horse-battery", "content-type": "application/json"}.get(name, "localhost")
    answered = await site.ask("POST", "/configs", (name, value), (name, value), chunks=[body()])
    assert name in assert_problem(answered, 400)["detail"]
    assert await site.state() == before


@pytest.mark.parametrize("method", ["PATCH", "POST", "TRACE", "CONNECT", "BREW"])
async def test_a_wrong_method_is_405_with_allow(site: Site, method: str) -> None:
    """A method the path does not take is 405, and `Allow` says which it takes."""
    answered = await site.ask(method, "/configs/k?environment=e")
    assert_problem(answered, 405)
    assert answered.header("allow") == "DELETE, GET, HEAD, OPTIONS, PUT"


@pytest.mark.parametrize(
    "target", ["/nothing", "/config", "/configs/../stats", "/.env", "/stats/x", "*", "/configsx"]
)
async def test_an_unknown_path_is_404(site: Site, target: str) -> None:
    """There is nothing at other paths, and dots in a path climb nowhere."""
    answered = await site.ask("GET", target)
    assert answered.status in {404, 422}
    assert_problem(answered, answered.status)


@pytest.mark.parametrize(
    "target", ["", "?x", "configs", "http://", "http:///configs", "ftp://localhost/", "localhost:80"]
)
async def test_a_target_that_is_no_path_is_400(site: Site, target: str) -> None:
    """What is neither a path nor an http URL is refused, and is no error of the server."""
    assert_problem(await site.ask("GET", target), 400)


@pytest.mark.parametrize("target", ["http://[::1/x", "http://[/configs", "http://a]/"])
async def test_a_broken_url_as_target_is_refused(tmp_path: Path, target: str) -> None:
    """A URL whose host cannot be read is refused by the host check."""
    async with opened_site(tmp_path, hosts=frozenset()) as site:
        assert_problem(await site.ask("GET", target), 403)


@pytest.mark.parametrize("actor", ["a" * 256, "é" * 256])
async def test_a_long_actor_is_422(site: Site, actor: str) -> None:
    """What is kept in the history has a bound."""
    answered = await site.ask("POST", "/configs", JSON, ("x-actor", actor), chunks=[body()])
    assert_problem(answered, 422)


async def test_a_slow_body_is_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not end in time is answered 408, and nothing is changed."""
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.05)
    async with opened_site(tmp_path) as site:
        before = await site.state()
        answer = Answer()
        first = iter([{"type": "http.request", "body": body()[:5], "more_body": True}])

        async def trickle() -> dict[str, object]:
            message = next(first, None)
            if message is None:
                await asyncio.Event().wait()
                raise AssertionError("unreachable")
            return message

        async with asyncio.timeout(PATIENCE):
            await site.app(http_scope("POST", "/configs", [JSON]), trickle, answer.send)
        assert_problem(answer.whole(), 408)
        assert await site.state() == before
