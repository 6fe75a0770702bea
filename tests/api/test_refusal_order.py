"""Where several refusals apply the first of contract §3 is given: 403, 401, 413/415, 400/422, 404, 401, 412."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.api.asgi import OTHER_KEY, USER_KEY, Header, Site, assert_problem, opened_site

API_KEY = "an-api-key"

# Faults of one update in the order in which they are told; each is what one request more or less has.
NO_API_KEY, NO_USER_KEY, WRONG_TYPE, NOT_JSON, NO_ENVIRONMENT, ABSENT, FOREIGN, STALE = range(8)
STATUS = {
    NO_API_KEY: 403,
    NO_USER_KEY: 401,
    WRONG_TYPE: 415,
    NOT_JSON: 400,
    NO_ENVIRONMENT: 422,
    ABSENT: 404,
    FOREIGN: 401,
    STALE: 412,
}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge that asks for an API key and holds one entry, `k` in `e`, of `USER_KEY`."""
    async with opened_site(tmp_path, api_keys=(API_KEY.encode(),)) as site:
        created = await site.ask(
            "POST", "/configs", ("x-api-key", API_KEY), body={"key": "k", "value": 1, "environment": "e"}
        )
        assert created.status == 201
        yield site


async def update(site: Site, faults: set[int]) -> Any:  # noqa: ANN401 - an `Answered`
    """Send an update of `k` with these faults and no other."""
    headers: list[Header] = [("content-type", "text/plain" if WRONG_TYPE in faults else "application/json")]
    if NO_API_KEY not in faults:
        headers.append(("x-api-key", API_KEY))
    if STALE in faults:
        headers.append(("if-match", '"stale"'))
    key = "absent" if ABSENT in faults else "k"
    query = "" if NO_ENVIRONMENT in faults else "?environment=e"
    user_key = None if NO_USER_KEY in faults else OTHER_KEY if FOREIGN in faults else USER_KEY
    data = b"{" if NOT_JSON in faults else b'{"value":2}'
    return await site.ask("PUT", f"/configs/{key}{query}", *headers, chunks=[data], user_key=user_key)


@pytest.mark.parametrize("first", list(STATUS))
async def test_the_first_fault_is_told_however_many_follow(guarded: Site, first: int) -> None:
    """An update with a fault and all that come after it is refused for that fault, and changes nothing."""
    before = await guarded.state()
    following = {fault for fault in STATUS if fault >= first}
    assert_problem(await update(guarded, following), STATUS[first])
    assert_problem(await update(guarded, {first}), STATUS[first])
    assert await guarded.state() == before


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(STATUS)))
async def test_neighbours_are_told_in_order(guarded: Site, earlier: int, later: int) -> None:
    """Of two neighbouring faults the earlier one is told."""
    assert_problem(await update(guarded, {earlier, later}), STATUS[earlier])


async def test_an_update_without_fault_succeeds(guarded: Site) -> None:
    """None of the refusals above came from what all those requests have in common."""
    assert (await update(guarded, set())).status == 200


async def test_the_size_of_a_body_comes_before_its_syntax(guarded: Site) -> None:
    """A body that is too large is 413 whatever is in it."""
    headers = [("x-api-key", API_KEY), ("content-length", "9999999")]
    assert_problem(await guarded.ask("PUT", "/configs/k", *headers, chunks=[b"{"]), 413)


@pytest.mark.parametrize("user_key", [None, "", "short", "1234567"])
async def test_a_missing_or_short_user_key_is_401_before_anything_is_read(
    site: Site, user_key: str | None
) -> None:
    """A user key that cannot be one is refused on every call that needs one."""
    for method, target in (
        ("GET", "/configs"),
        ("GET", "/configs/k"),
        ("DELETE", "/configs/%FF"),
        ("POST", "/configs"),
        ("PUT", "/configs/k"),
    ):
        answered = await site.ask(method, target, chunks=[b"no json"], user_key=user_key)
        assert_problem(answered, 401)
        assert answered.header("www-authenticate") is not None
    assert site.derived == []


async def test_a_create_of_an_entry_that_exists_is_400_whoever_owns_it(site: Site) -> None:
    """A foreign duplicate is 400 like one's own, with the words the published client looks for, and no derivation."""
    await site.create("k")
    before, derived = await site.state(), list(site.derived)
    for user_key in (USER_KEY, OTHER_KEY):
        answered = await site.ask(
            "POST", "/configs", body={"key": "k", "value": 2, "environment": "e"}, user_key=user_key
        )
        assert "already exists" in assert_problem(answered, 400)["detail"]
    assert await site.state() == before
    assert site.derived == derived


@pytest.mark.parametrize("name", ["x-actor", "content-type", "x-request-id"])
async def test_other_repeated_headers_come_after_who_may_ask(guarded: Site, name: str) -> None:
    """Whoever may not ask at all is not told about the syntax of their headers."""
    twice = [(name, "application/json"), (name, "application/json")]
    put = ("PUT", "/configs/k?environment=e")
    assert_problem(await guarded.ask(*put, *twice), 403)
    assert_problem(await guarded.ask(*put, ("x-api-key", API_KEY), *twice, user_key=None), 401)
    assert_problem(await guarded.ask(*put, ("x-api-key", API_KEY), *twice, chunks=[b"{}"]), 400)


async def test_a_wrong_key_is_401_before_304_and_412(site: Site) -> None:
    """No precondition tells a stranger whether an entry is in a certain state."""
    tag = (await site.create("k")).header("etag")
    assert tag is not None
    target = "/configs/k?environment=e"
    for value in (tag, "*", '"other"'):
        read = await site.ask("GET", target, ("if-none-match", value), user_key=OTHER_KEY)
        assert_problem(read, 401)
        assert read.header("etag") is None
        for condition in ("if-match", "if-none-match"):
            put = await site.ask("PUT", target, (condition, value), body={"value": 2}, user_key=OTHER_KEY)
            assert_problem(put, 401)
            assert_problem(await site.ask("DELETE", target, (condition, value), user_key=OTHER_KEY), 401)


@pytest.mark.parametrize("key", ["wrong", "an-api-ke", "an-api-key2", "\xe9", ""])
async def test_a_wrong_api_key_opens_only_what_needs_none(guarded: Site, key: str) -> None:
    """Everything but the service's own pages is 403, unknown paths and methods too; `OPTIONS` needs no key."""
    for target in (
        "/configs",
        "/stats",
        "/nothing",
        "//health",
        "/health/",
        "/HEALTH",
        "/docs/x",
        "/configs/k",
    ):
        assert_problem(await guarded.ask("GET", target, ("x-api-key", key)), 403)
    assert_problem(await guarded.ask("BREW", "/stats", ("x-api-key", key)), 403)
    for target in ("/", "/health", "/ready", "/docs", "/openapi.json", "/%68ealth"):
        assert (await guarded.ask("GET", target, ("x-api-key", key))).status == 200
    assert (await guarded.ask("OPTIONS", "/configs", ("x-api-key", key))).status == 200
