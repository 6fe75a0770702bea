"""Lists over the API: order, filters, pages, and one cut however long reading takes (contract §4)."""

from __future__ import annotations

import asyncio
import json
import random
import re
from itertools import count
from urllib.parse import urlencode

import pytest

from oscd.api import configs as configs_module
from tests.api.asgi import OTHER_KEY, PATIENCE, USER_KEY, Answer, Site, assert_problem, http_scope

# By code points: upper case before lower, ASCII before the rest, the astral plane last.
NAMES = ["", "%", "A", "Z", "_", "a", "a/", "a/b", "aa", "b", "~", "é", "\uffff", "\U0001f512"]
NEXT = re.compile(r'<([^>]*)>; rel="next"')


async def fill(site: Site, keys: list[str], environments: list[str]) -> list[tuple[str, str]]:
    """Create each key in each environment, in random order; give them in the order of lists."""
    places = [(environment, key) for environment in environments for key in keys]
    for environment, key in random.Random(7).sample(places, len(places)):
        await site.create(key, value=[environment, key], environment=environment)
    return sorted(places)


async def listed(site: Site, query: str = "", user_key: str = USER_KEY) -> list[tuple[str, str]]:
    entries = (await site.ask("GET", f"/configs{query}", user_key=user_key)).json()
    return [(entry["environment"], entry["key"]) for entry in entries]


async def test_lists_are_in_order_of_code_points(site: Site) -> None:
    """Entries come by environment, then key, as their code points say and not a locale."""
    places = await fill(site, [name + "k" for name in NAMES], ["b", "B", "é", "a"])
    assert await listed(site) == places
    assert await listed(site, "?limit=1000") == places


async def test_an_empty_list_is_a_list(site: Site) -> None:
    """Where the key opens nothing the answer is an empty list; where nothing matches it costs no derivation."""
    for query in ("", "?limit=5", "?environment=e", "?prefix=x"):
        answered = await site.ask("GET", f"/configs{query}")
        assert (answered.status, answered.body, answered.header("link")) == (200, b"[]", None)
    assert site.derived == []
    await site.create("k", user_key=OTHER_KEY)
    assert await listed(site) == []


async def test_a_list_has_both_forms(site: Site) -> None:
    """Short is the default; `mode=full` adds times and version; values come with either."""
    await site.create("k", value={"a": 1}, category="c")
    (short,) = (await site.ask("GET", "/configs?mode=short")).json()
    (full,) = (await site.ask("GET", "/configs?mode=full")).json()
    assert short == {"id": 1, "key": "k", "category": "c", "environment": "e", "value": {"a": 1}}
    assert full == (await site.ask("GET", "/configs/k?environment=e&mode=full")).json()


@pytest.mark.parametrize(
    "prefix", ["%", "_", "a", "a/", "A", "%25", "é", "\U0001f512", "k", "aak", "nothing"]
)
@pytest.mark.parametrize("environment", [None, "e", "f", "none"])
async def test_a_prefix_is_literal(site: Site, prefix: str, environment: str | None) -> None:
    """`%` and `_` are characters like any other, upper and lower case differ, with an environment and without."""
    places = await fill(site, [name + "k" for name in NAMES], ["e", "f"])
    query = "?" + urlencode(
        {"prefix": prefix} | ({} if environment is None else {"environment": environment})
    )
    assert await listed(site, query) == [
        (place, key) for place, key in places if key.startswith(prefix) and environment in {None, place}
    ]


async def test_filters_add_up(site: Site) -> None:
    """Category, environment and prefix all must match; an entry without category matches no category."""
    for number, category in enumerate(["x", "y", "", "X"]):
        for environment in ("e", "f"):
            await site.create(f"k{number}", environment=environment, category=category)
    assert await listed(site, "?category=x") == [("e", "k0"), ("f", "k0")]
    assert await listed(site, "?category=x&environment=f&prefix=k") == [("f", "k0")]
    assert await listed(site, "?category=x&environment=f&prefix=k1") == []
    assert await listed(site, "?category=uncategorized") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("query", ["", "&environment=e", "&prefix=a", "&environment=e&prefix=a&mode=full"])
async def test_pages_put_together_are_the_list(site: Site, limit: int, query: str) -> None:
    """Following `Link` to its end gives what the unlimited list gives, no page longer than asked for."""
    await fill(site, [name + "k" for name in NAMES], ["e", "f"])
    for number in range(3):
        await site.create(f"theirs{number}", user_key=OTHER_KEY)
    whole = (await site.ask("GET", f"/configs?{query}")).json()
    target, found = f"/configs?limit={limit}{query}", []
    for _ in range(len(whole) + 5):
        answered = await site.ask("GET", target)
        page = answered.json()
        assert len(page) <= limit
        found += page
        link = answered.header("link")
        if link is None:
            break
        match = NEXT.fullmatch(link)
        assert match
        target = match[1]
    else:
        pytest.fail("the links do not end")
    assert found == whole


async def test_pages_that_are_linked_are_of_one_state(site: Site) -> None:
    """What is written between two pages shows on neither of the later ones; without the link's `at` it does."""
    for key in "abcd":
        await site.create(key, "old")
    first = await site.ask("GET", "/configs?limit=2")
    for key in "ad":
        await site.ask("PUT", f"/configs/{key}?environment=e", body={"value": "new"})
    await site.create("e", "new")
    link = str(first.header("link")).removeprefix("<").removesuffix('>; rel="next"')
    second = await site.ask("GET", link)
    assert {one["value"] for one in first.json() + second.json()} == {"old"}
    unpinned = "&".join(part for part in link.split("&") if not part.startswith("at="))
    assert {one["value"] for one in (await site.ask("GET", unpinned)).json()} == {"old", "new"}


async def test_a_cursor_goes_without_a_limit_too(site: Site) -> None:
    """The rest of a list may be asked for in one go."""
    places = await fill(site, ["a", "b", "c"], ["e"])
    link = NEXT.fullmatch(str((await site.ask("GET", "/configs?limit=1")).header("link")))
    assert link
    assert await listed(site, "?" + link[1].partition("?")[2].replace("limit=1&", "")) == places[1:]


async def test_each_page_is_right_while_others_write(site: Site) -> None:
    """Between pages entries come and go; what was there all the time is found once, what never was is not found."""
    rng = random.Random(11)
    stay = [f"stay{number:03}" for number in range(40)]
    for key in stay:
        await site.create(key)
    names = count()
    target: str | None = "/configs?limit=3"
    found: list[str] = []
    while target is not None:
        for _ in range(3):
            key = f"stay{rng.randrange(60):03}-{next(names)}"
            await site.create(key)
            if rng.random() < 0.7:
                await site.ask("DELETE", f"/configs/{key}?environment=e")
        answered = await site.ask("GET", target)
        found += [entry["key"] for entry in answered.json()]
        match = NEXT.fullmatch(answered.header("link") or "")
        target = match[1] if match else None
    assert found == sorted(set(found))
    assert [key for key in found if key in stay] == stay


async def test_a_page_ends_early_where_values_are_large(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has a bound in bytes as well; it links to the rest, which is complete."""
    monkeypatch.setattr(configs_module, "PAGE_BYTES", 5000)
    for number in range(8):
        await site.create(f"k{number}", value="x" * 2000)
    target, pages = "/configs?limit=1000", []
    while True:
        answered = await site.ask("GET", target)
        pages.append([entry["key"] for entry in answered.json()])
        match = NEXT.fullmatch(answered.header("link") or "")
        if match is None:
            break
        target = match[1]
    assert [key for page in pages for key in page] == [f"k{number}" for number in range(8)]
    assert max(map(len, pages)) < 8


async def test_a_list_that_opens_nothing_derives_its_key_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many pages are passed over, one list is one derivation: pages are no lever."""
    monkeypatch.setattr("oscd.listing.MAX_EXAMINED", 2)
    for number in range(11):
        await site.create(f"k{number}")
    del site.derived[:]
    assert await listed(site, "", "a-stranger's-key") == []
    assert await listed(site, "?limit=5", "another-stranger's") == []
    assert site.derived == ["a-stranger's-key", "another-stranger's"]


async def test_a_slow_reader_sees_one_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A streamed list is cut at one position: updates, deletes and creates while it is read never show in it."""
    monkeypatch.setattr(configs_module, "PART_ENTRIES", 2)
    places = await fill(site, [f"k{number:02}" for number in range(12)], ["e"])
    await site.ask("DELETE", "/configs/k05?environment=e")
    wanted = (await site.ask("GET", "/configs?mode=full")).json()
    assert len(wanted) == len(places) - 1
    answer, rng = Answer(), random.Random(5)
    answer.takes.clear()
    async with asyncio.timeout(PATIENCE):
        scope = http_scope("GET", "/configs?mode=full")
        reading = asyncio.create_task(site.app(scope, _nothing_more, answer.send))
        while not reading.done():
            await answer.part_came.wait()
            answer.part_came.clear()
            for _ in range(4):
                await _disturb(site, rng)
            answer.takes.set()
            await asyncio.sleep(0)
            answer.takes.clear()
            if answer.ended:
                answer.takes.set()
                await reading
    assert sum(bool(part) for part in answer.parts) > 4
    assert json.loads(b"".join(answer.parts)) == wanted
    assert (await site.ask("GET", "/configs?mode=full")).json() != wanted


async def test_a_refusal_is_still_one_when_the_list_cannot_begin(site: Site) -> None:
    """The first part is read before the status goes out."""
    answered = await site.ask("GET", "/configs", ("x-osc-after", "AQ!"))
    assert_problem(answered, 422)


async def _disturb(site: Site, rng: random.Random) -> None:
    key = f"k{rng.randrange(15):02}"
    target = f"/configs/{key}?environment=e"
    choice = rng.randrange(3)
    if choice == 0:
        await site.ask("DELETE", target)
    elif choice == 1:
        await site.ask("PUT", target, body={"value": rng.random(), "category": "moved"})
    else:
        await site.ask("PUT", target, ("if-none-match", "*"), body={"value": rng.random()})


async def _nothing_more() -> dict[str, object]:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
