"""`at=`, history and rollback against what live reads answered, for histories drawn at random."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.api.asgi import OTHER_KEY, USER_KEY, Answered, Site, opened_site

PLACES = [("a", "prod"), ("b/c", "prod"), ("a", "dev é+")]
KEYS = (USER_KEY, OTHER_KEY)

steps = st.tuples(
    st.sampled_from(["put", "put", "create", "delete", "rollback", "rollback"]),
    st.sampled_from(PLACES),
    st.sampled_from(KEYS),
    st.sampled_from([None, "", "db", "web"]),
    st.integers(1, 4),
)

State = dict[
    str, tuple[list[dict[str, Any]], dict[tuple[str, str], tuple[int, dict[str, Any] | None, str | None]]]
]
"""By user key: the list, and of each place status, body and entity tag of a read."""


def target(path: str, place: tuple[str, str]) -> str:
    key, environment = place
    return f"/{path}/{key}?environment={quote(environment, safe='')}"


async def take(site: Site, number: int, step: tuple[str, tuple[str, str], str, str | None, int]) -> Answered:
    """Send what a step means; many are refused, as people and histories are."""
    what, place, user_key, category, version = step
    key, environment = place
    if what == "create":
        body: dict[str, Any] = {"key": key, "environment": environment, "category": category, "value": number}
        return await site.ask("POST", "/configs", body=body, user_key=user_key)
    if what == "put":
        body = {"value": {"number": number}, **({} if category is None else {"category": category})}
        return await site.ask("PUT", target("configs", place), body=body, user_key=user_key)
    if what == "delete":
        return await site.ask("DELETE", target("configs", place), user_key=user_key)
    return await site.ask("POST", target("rollback", place), body={"version": version}, user_key=user_key)


async def state_of(site: Site, at: str = "") -> State:
    """What both keys can see, live or as of a moment."""
    more = f"&at={quote(at)}" if at else ""
    state: State = {}
    for user_key in KEYS:
        listed = await site.ask("GET", f"/configs?mode=full{more}", user_key=user_key)
        assert listed.status == 200, listed.body
        assert (listed.header("x-osc-position") is None) == (not at)
        reads = {}
        for place in PLACES:
            read = await site.ask("GET", f"{target('configs', place)}&mode=full{more}", user_key=user_key)
            reads[place] = (read.status, read.json() if read.status == 200 else None, read.header("etag"))
        state[user_key] = (listed.json(), reads)
    return state


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=14))
def test_every_position_answers_what_was_live_there(
    history: list[tuple[str, tuple[str, str], str, str | None, int]],
) -> None:
    """Reads and lists `at=` any position, or time, equal the live ones there: values, tags, ids and refusals."""

    async def run(directory: Path) -> None:
        async with opened_site(directory) as site:
            lived: list[tuple[str, State]] = []
            for number, step in enumerate(history):
                answered = await take(site, number, step)
                assert answered.status < 500
                event(f"{step[0]} {answered.status}")
                position = answered.header("x-osc-position")
                if position is not None:
                    lived.append((position, await state_of(site)))
            trail = (await site.ask("GET", "/events?limit=1000")).json()["events"]
            assert [one["position"] for one in trail] == [position for position, _ in lived]
            for (position, state), one in zip(lived, trail, strict=True):
                assert await state_of(site, position) == state
                assert await state_of(site, one["timestamp"]) == state
            assert (await site.ask("GET", "/configs?at=2001-01-01T00:00:00Z")).json() == []

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))
