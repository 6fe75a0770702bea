"""Keys in paths: whatever a key holds, the path names exactly it, and nothing is normalised on the way."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.asgi import Site, assert_problem

ODD_KEYS = [
    "../../etc/passwd",
    "..",
    ".",
    "./a",
    "a/../b",
    "a/./b",
    "//",
    "/",
    "//a//b//",
    "/leading",
    "trailing/",
    "%2e%2e",
    "%2F",
    "%",
    "100%",
    "a b",
    " a ",
    "a+b",
    "a?b=c&d",
    "a#b",
    "a;b",
    "a:b@c",
    "http://evil.example/",
    "stats",
    "ünïcode/\U0001f512",
    "\u202etxt.exe",
    "e\u0301",
    "\u00e9",
    "'\"<script>\\",
    "${jndi}",
    "k" * 255,
    "\U0001f512" * 255,
]

any_key = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("/.%+ ?#&=;"), min_size=1, max_size=30
)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_any_key_lives_its_whole_life_under_its_own_name(site: Site, key: str) -> None:
    """A key is created, read raw and escaped, listed, updated and deleted as the very text it is."""
    created = await site.create(key)
    assert created.json()["key"] == key
    escaped = f"/configs/{quote(key, safe='')}?environment=e"
    with_slashes = f"/configs/{quote(key, safe='/')}?environment=e"
    for target in (escaped, with_slashes, "http://localhost" + with_slashes):
        read = await site.ask("GET", target)
        assert (read.status, read.json()["key"]) == (200, key), target
    assert [entry["key"] for entry in (await site.ask("GET", "/configs")).json()] == [key]
    assert (await site.ask("PUT", escaped, body={"value": 2})).json()["key"] == key
    deleted = await site.ask("DELETE", with_slashes)
    assert deleted.json() == {"message": f"Configuration '{key}' deleted successfully"}


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_location_leads_to_the_entry(site: Site, key: str) -> None:
    """`Location` is a path that names the entry and that no client shortens: it has no dot segments."""
    location = (await site.create(key, environment="a b&c")).header("location")
    assert location is not None
    assert (await site.ask("GET", location)).json()["key"] == key
    assert not {".", ".."} & set(location.partition("?")[0].split("/"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(any_key, min_size=2, max_size=2, unique=True), environment=any_key)
async def test_two_keys_are_never_taken_for_one(site: Site, keys: list[str], environment: str) -> None:
    """However they are spelt, different keys are different entries and equal ones the same."""
    for key in keys:
        target = f"/configs/{quote(key, safe='')}?environment={quote(environment, safe='')}"
        written = await site.ask("PUT", target, ("if-none-match", "*"), body={"value": key})
        assert written.status in {201, 412}, written.body
    for key in keys:
        target = f"/configs/{quote(key, safe='/')}?environment={quote(environment, safe='')}"
        assert (await site.ask("GET", target)).json()["value"] == key


@pytest.mark.parametrize(
    "path",
    [
        "",
        "%00",
        "a%00b",
        "a%0ab",
        "%7f",
        "%C2%85",
        "%FF",
        "%C3",
        "%ED%A0%80",
        "%C0%AF",
        "%",
        "%2",
        "%zz",
        "k" * 256,
    ],
)
async def test_what_names_no_key_is_422(site: Site, path: str) -> None:
    """A path that is no acceptable key is refused, and nothing is looked up."""
    before = await site.state()
    problem = assert_problem(await site.ask("GET", f"/configs/{path}?environment=e"), 422)
    assert problem["errors"][0]["loc"][0] == "path"
    put = await site.ask("PUT", f"/configs/{path}?environment=e", ("if-none-match", "*"), body={"value": 1})
    assert_problem(put, 422)
    assert await site.state() == before
