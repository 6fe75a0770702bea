"""The life of an entry over the API: forms, categories, versions, ids and times (contract §4)."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.asgi import OTHER_KEY, Site, assert_problem

TARGET = "/configs/k?environment=e"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_forms_are_those_of_the_contract(site: Site) -> None:
    """A write answers in full form; a read in short form, in full only where `mode=full` asks."""
    created = (await site.create("k", value={"a": [1, None]}, category="c")).json()
    assert list(created) == [
        "id",
        "key",
        "category",
        "environment",
        "value",
        "created_at",
        "updated_at",
        "version",
    ]
    short = (await site.ask("GET", TARGET)).json()
    assert short == {"id": 1, "key": "k", "category": "c", "environment": "e", "value": {"a": [1, None]}}
    assert (await site.ask("GET", f"{TARGET}&mode=short")).json() == short
    assert (await site.ask("GET", f"{TARGET}&mode=full")).json() == created


async def test_times_are_utc_with_microseconds(site: Site) -> None:
    """Times are RFC 3339 with six digits and `Z`; a create begins both, an update moves one, always forward."""
    created = (await site.create("k")).json()
    updated = (await site.ask("PUT", TARGET, body={"value": 2})).json()
    for entry in (created, updated):
        for name in ("created_at", "updated_at"):
            assert RFC_3339.fullmatch(entry[name])
            assert datetime.fromisoformat(entry[name]).tzinfo == UTC
    assert created["created_at"] == created["updated_at"] == updated["created_at"]
    assert updated["updated_at"] > created["updated_at"]


async def test_a_life_counts_its_versions_from_one_and_has_an_id_of_its_own(site: Site) -> None:
    """Versions rise by one and begin at 1 after a delete; the id stays through a life and is never used again."""
    first = (await site.create("k")).json()
    second = (await site.ask("PUT", TARGET, body={"value": 2})).json()
    await site.ask("DELETE", TARGET)
    assert_problem(await site.ask("GET", TARGET), 404)
    again = (await site.create("k")).json()
    other = (await site.create("other")).json()
    assert [entry["version"] for entry in (first, second, again, other)] == [1, 2, 1, 1]
    assert [entry["id"] for entry in (first, second, again, other)] == [1, 1, 2, 3]
    assert again["created_at"] > second["updated_at"]


async def test_a_refused_create_uses_no_id(site: Site) -> None:
    """Ids go to what was created, not to what was tried."""
    await site.create("a")
    await site.ask("POST", "/configs", body={"key": "a", "value": 1, "environment": "e"})
    assert (await site.create("b")).json()["id"] == 2


@pytest.mark.parametrize(
    ("body", "category"),
    [
        ({"value": 2}, "old"),
        ({"value": 2, "category": None}, "old"),
        ({"value": 2, "category": ""}, None),
        ({"value": 2, "category": "new"}, "new"),
    ],
)
async def test_an_update_keeps_changes_or_removes_the_category(
    site: Site, body: dict[str, object], category: str | None
) -> None:
    """Absent and null keep the category, as the published client means null; an empty one removes it."""
    await site.create("k", category="old")
    assert (await site.ask("PUT", TARGET, body=body)).json()["category"] == category
    assert (await site.ask("GET", TARGET)).json()["category"] == category
    statistics = (await site.ask("GET", "/stats")).json()
    assert statistics["keys_by_category"] == {category or "uncategorized": 1}


@pytest.mark.parametrize("more", [{}, {"category": None}, {"category": ""}], ids=str)
async def test_a_create_without_category_has_none(site: Site, more: dict[str, Any]) -> None:
    """Absent, null and empty all mean that there is none."""
    assert (await site.create("k", **more)).json()["category"] is None


async def test_environments_are_apart(site: Site) -> None:
    """One key in two environments is two entries."""
    await site.create("k", value=1, environment="a")
    await site.create("k", value=2, environment="b")
    await site.ask("DELETE", "/configs/k?environment=a")
    assert (await site.ask("GET", "/configs/k?environment=b")).json()["value"] == 2


async def test_a_foreign_key_can_neither_read_write_nor_delete(site: Site) -> None:
    """Another user key gets 401 on each call on the entry, changes nothing and does not see it in a list."""
    await site.create("k", value="mine")
    await site.create("theirs", user_key=OTHER_KEY)
    before = await site.state()
    for method, body in (("GET", None), ("PUT", {"value": 0}), ("DELETE", None)):
        refused = await site.ask(method, TARGET, body=body, user_key=OTHER_KEY)
        assert_problem(refused, 401)
        assert b"mine" not in refused.body
    listed = (await site.ask("GET", "/configs", user_key=OTHER_KEY)).json()
    assert [entry["key"] for entry in listed] == ["theirs"]
    assert await site.state() == before
    assert (await site.ask("GET", "/stats")).json()["total_keys"] == 2


async def test_a_deleted_entry_belongs_to_nobody(site: Site) -> None:
    """After a delete another key may create the entry, and then the first one does not open it."""
    await site.create("k")
    await site.ask("DELETE", TARGET)
    await site.create("k", user_key=OTHER_KEY)
    assert_problem(await site.ask("GET", TARGET), 401)


async def test_a_large_entry_is_changed_by_its_key_only(site: Site) -> None:
    """A value too large to be opened inside the transaction is opened before it, and authorizes the same."""
    large = "x" * 40_000
    await site.create("k", value=large)
    wrong = await site.ask("PUT", TARGET, body={"value": 1}, user_key=OTHER_KEY)
    assert_problem(wrong, 401)
    assert_problem(await site.ask("DELETE", TARGET, user_key=OTHER_KEY), 401)
    writes = (site.ask("PUT", TARGET, body={"value": large + str(n)}) for n in range(4))
    answers = await asyncio.gather(*writes)
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5]
    assert (await site.ask("DELETE", TARGET)).status == 200
    assert_problem(await site.ask("GET", TARGET), 404)
