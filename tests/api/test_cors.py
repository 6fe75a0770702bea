"""Pages of other origins: what their browsers are told they may send, and which answers they may show them.

`test_guard.py` has who may change anything at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.api.asgi import OTHER_KEY, Answered, Header, Site, opened_site

LISTED = "https://ui.example"
API_KEY: Header = ("x-api-key", "key")
ORIGIN: Header = ("origin", LISTED)
JSON: Header = ("content-type", "application/json")
MAX_BODY_BYTES = 1000

REQUEST_HEADERS = {
    "x-api-key",
    "x-user-key",
    "x-actor",
    "x-request-id",
    "x-osc-after",
    "x-backup-password",
    "if-match",
    "if-none-match",
    "last-event-id",
    "content-type",
}
"""Every request header of the contract."""

EXPOSED = {"etag", "location", "link", "retry-after", "x-request-id", "x-osc-position"}

PATHS = ["/configs", "/configs/a/b%2Fc?environment=e", "/health", "/docs", "/sse/subscribe", "/no/such/path"]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Site]:
    """A site that asks for an API key and lists one origin."""
    async with opened_site(
        tmp_path, api_keys=(b"key",), origins=frozenset({LISTED}), max_body_bytes=MAX_BODY_BYTES
    ) as site:
        yield site


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_allows_every_header_and_method(guarded: Site, path: str) -> None:
    """Whatever the path, a listed page is told of every header a call may have, and of no other."""
    answered = await _preflight(guarded, path, LISTED)
    assert (answered.status, answered.body) == (204, b"")
    assert answered.header("access-control-allow-origin") == LISTED
    assert _names(answered, "access-control-allow-headers") == REQUEST_HEADERS
    assert _names(answered, "access-control-allow-methods") == {
        "get",
        "head",
        "post",
        "put",
        "delete",
        "options",
    }
    assert int(answered.header("access-control-max-age") or 0) > 0
    assert "origin" in _names(answered, "vary")


async def test_a_preflight_changes_nothing_and_needs_no_key(guarded: Site) -> None:
    """A browser asks before it has a key to show: no entry is touched, no key stretched, nobody is held back."""
    await guarded.ask("POST", "/configs", API_KEY, body={"key": "k", "value": 1, "environment": "e"})
    before, derived = await guarded.state(), list(guarded.derived)
    for method in ("PUT", "DELETE"):
        answered = await _preflight(guarded, "/configs/k?environment=e", LISTED, method)
        assert answered.status == 204
    assert await guarded.state() == before
    assert guarded.derived == derived


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://ui.example", "https://ui.example:8443", "null", "*"]
)
async def test_an_unlisted_origin_is_told_nothing(guarded: Site, path: str, origin: str) -> None:
    """Neither a preflight nor an answer of another scheme, port or host than those listed can be used.

    A HEAD, as a stream has no end; its headers are those of a GET.
    """
    for answered in (
        await _preflight(guarded, path, origin),
        await guarded.ask("HEAD", path, ("origin", origin), API_KEY),
    ):
        assert not [name for name, _ in answered.headers if name.startswith("access-control-")]
        assert "origin" in _names(answered, "vary")


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/configs", (API_KEY, JSON), b"{", 400),
        ("POST", "/configs", (API_KEY, API_KEY, JSON), b"{}", 400),
        ("GET", "/configs/k?environment=e", (API_KEY, ("x-user-key", "short")), b"", 401),
        ("GET", "/configs/k?environment=e", (API_KEY, ("x-user-key", OTHER_KEY)), b"", 401),
        ("GET", "/configs/k?environment=e", (), b"", 403),
        ("GET", "/configs/none?environment=e", (API_KEY,), b"", 404),
        ("GET", "//configs", (API_KEY,), b"", 404),
        ("PATCH", "/configs/k?environment=e", (API_KEY,), b"", 405),
        ("PUT", "/configs/k?environment=e", (API_KEY, JSON, ("if-match", '"x"')), b'{"value":1}', 412),
        ("POST", "/configs", (API_KEY, JSON), b" " * (MAX_BODY_BYTES + 1), 413),
        ("POST", "/configs", (API_KEY, ("content-type", "text/plain")), b"{}", 415),
        ("POST", "/configs", (API_KEY, JSON), b"{}", 422),
    ],
)
async def test_errors_can_be_read_by_a_listed_page(
    guarded: Site, method: str, path: str, headers: tuple[Header, ...], body: bytes, status: int
) -> None:
    """A refusal of whichever layer carries what lets the page show it to its user."""
    await guarded.ask("POST", "/configs", API_KEY, body={"key": "k", "value": 1, "environment": "e"})
    answered = await guarded.ask(method, path, ORIGIN, *headers, chunks=[body])
    assert answered.status == status, answered.body
    assert answered.header("content-type") == "application/problem+json"
    _require_readable(answered)


async def test_a_fault_of_the_server_can_be_read_by_a_listed_page(
    guarded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 is an answer like any other, not what a browser calls a network error."""

    async def fail() -> NoReturn:
        raise RuntimeError("a fault")

    monkeypatch.setattr(guarded.node, "statistics", fail)
    answered = await guarded.ask("GET", "/stats", ORIGIN, API_KEY)
    assert answered.status == 500
    _require_readable(answered)


async def test_answers_can_be_read_by_a_listed_page(guarded: Site) -> None:
    """So can what went well, with every header the contract has for clients."""
    entry = {"key": "k", "value": 1, "environment": "e"}
    created = await guarded.ask("POST", "/configs", ORIGIN, API_KEY, body=entry)
    assert created.status == 201
    _require_readable(created)
    for path in ("/configs", "/configs/k?environment=e", "/stats", "/health"):
        read = await guarded.ask("GET", path, ORIGIN, API_KEY)
        assert read.status == 200
        _require_readable(read)


async def test_not_modified_can_be_read_by_a_listed_page(guarded: Site) -> None:
    """A browser that has a copy of its own needs leave anew for each answer that lets it use it."""
    await guarded.ask("POST", "/configs", API_KEY, body={"key": "k", "value": 1, "environment": "e"})
    first = await guarded.ask("GET", "/configs/k?environment=e", ORIGIN, API_KEY)
    tag = first.header("etag")
    assert tag is not None
    again = await guarded.ask("GET", "/configs/k?environment=e", ORIGIN, API_KEY, ("if-none-match", tag))
    assert again.status == 304
    _require_readable(again)


async def test_a_request_without_an_origin_varies_too(guarded: Site) -> None:
    """A cache must not give a page what it kept for somebody who was no page."""
    answered = await guarded.ask("GET", "/health")
    assert "origin" in _names(answered, "vary")
    assert not [name for name, _ in answered.headers if name.startswith("access-control-")]


async def test_where_no_origin_is_listed_no_page_is_told_anything(tmp_path: Path) -> None:
    """Without OSC_CORS_ORIGINS answers are the same for every origin, and no page can read them."""
    async with opened_site(tmp_path, api_keys=(b"key",)) as site:
        for answered in (
            await _preflight(site, "/configs", LISTED),
            await site.ask("GET", "/configs", ORIGIN, API_KEY),
        ):
            assert not [name for name, _ in answered.headers if name.startswith("access-control-")]
            assert answered.header("vary") is None


@pytest.mark.parametrize("origin", ["https://any.example", "http://localhost:3000", "null"])
async def test_a_page_of_any_origin_still_needs_the_api_key(tmp_path: Path, origin: str) -> None:
    """With `*` every page may ask and read, refusals too; it gets in with an API key only, and never by a cookie."""
    async with opened_site(tmp_path, api_keys=(b"key",), origins=frozenset({"*"})) as site:
        preflight = await _preflight(site, "/configs", origin, "POST")
        refused = await site.ask("GET", "/configs", ("origin", origin))
        admitted = await site.ask("GET", "/configs", ("origin", origin), API_KEY)
        assert [preflight.status, refused.status, admitted.status] == [204, 403, 200]
        for answered in (preflight, refused, admitted):
            assert answered.header("access-control-allow-origin") == origin
            assert answered.header("access-control-allow-credentials") is None
            assert "origin" in _names(answered, "vary")


async def _preflight(site: Site, path: str, origin: str, method: str = "GET") -> Answered:
    """Ask as a browser does before it sends a request with every header there is."""
    return await site.ask(
        "OPTIONS",
        path,
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", ",".join(sorted(REQUEST_HEADERS))),
        user_key=None,
    )


def _require_readable(answered: Answered) -> None:
    assert answered.header("access-control-allow-origin") == LISTED
    assert _names(answered, "access-control-expose-headers") == EXPOSED
    assert "origin" in _names(answered, "vary")
    assert answered.header("x-request-id") is not None


def _names(answered: Answered, header: str) -> set[str]:
    """The comma separated names of a header, in lower case."""
    return {name.strip().lower() for name in (answered.header(header) or "").split(",")}
