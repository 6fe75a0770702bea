"""`/history`, `/rollback`, `/events` and `at=`: shapes, refusals, pages (contract §5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oscd.commands import Sealed
from oscd.events.event import EventRef, Origin
from oscd.events.position import Mark, Position, decode_position
from oscd.projections.conflict_table import conflicts
from oscd.values import seal_value
from tests.api.asgi import OTHER_KEY, USER_KEY, Answered, Site, assert_problem
from tests.events.log_contract import draft, written_elsewhere

TARGET = "/configs/k?environment=e"
HISTORY = "/history/k?environment=e"
ROLLBACK = "/rollback/k?environment=e"
ELSEWHERE = "00112233445566bb"


async def put(site: Site, value: object, *headers: tuple[str, str], **more: object) -> Answered:
    answered = await site.ask("PUT", TARGET, *headers, body={"value": value, **more})
    assert answered.status in {200, 201}, answered.body
    return answered


async def versions(site: Site, query: str = "", **more: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    answered = await site.ask("GET", HISTORY + query, **more)
    assert answered.status == 200, answered.body
    document = answered.json()
    assert (document["key"], document["environment"]) == ("k", "e")
    found: list[dict[str, Any]] = document["versions"]
    return found


async def append_elsewhere(
    site: Site, *, replaces: EventRef | None, stamp: int, sealed: Sealed | None = None
) -> None:
    """Take in an event of `k` that another node wrote.

    Args:
        sealed: Its value; None: one that no key here opens.
    """
    drafted = draft("k", environment="e", replaces=replaces, stamp=stamp)
    if sealed is not None:
        body = drafted.body._replace(ciphertext=sealed.ciphertext)
        drafted = replace(drafted, event_id=sealed.event_id, key_id=sealed.key_id, body=body)

    def run(writing: Any) -> None:  # noqa: ANN401
        origin = Origin("elsewhere", ELSEWHERE)
        writing.ingest(written_elsewhere(writing, [drafted], lambda: stamp, origin))

    await site.log.write(run, size=1)


async def test_a_history_tells_every_event_oldest_first(site: Site) -> None:
    """Each life begins at version 1; who wrote is told as claimed; nothing needs a user key; no value is in it."""
    await site.create("k", "hunter2", category="db")
    await put(site, "hunter3", ("x-actor", "deploy bot"))
    await site.ask("DELETE", TARGET)
    await site.create("k", "hunter4")
    answered = await site.ask("GET", HISTORY, user_key=None)
    assert b"hunter" not in answered.body
    found = answered.json()["versions"]
    assert [(one["type"], one["version"]) for one in found] == [
        ("created", 1),
        ("updated", 2),
        ("deleted", 3),
        ("created", 1),
    ]
    assert [one["actor"] for one in found] == [None, "deploy bot", None, None]
    assert [one["category"] for one in found] == ["db", "db", "db", None]
    assert not any(one["superseded"] or "value" in one for one in found)
    assert {one["node_id"] for one in found} == {"tested"}
    assert sorted(one["timestamp"] for one in found) == [one["timestamp"] for one in found]
    assert found[0]["created_at"] == found[2]["created_at"] != found[3]["created_at"]


async def test_values_are_told_to_the_keys_that_open_them(site: Site) -> None:
    """With `values=true` each version that the key opens has its value, null included; others have none."""
    await site.create("k", None)
    await put(site, {"deep": [1, "é"]})
    await site.ask("DELETE", TARGET)
    await site.create("k", "theirs", user_key=OTHER_KEY)
    mine = await versions(site, "&values=true")
    assert [one.get("value", "absent") for one in mine] == [None, {"deep": [1, "é"]}, "absent", "absent"]
    theirs = await versions(site, "&values=true", user_key=OTHER_KEY)
    assert [one.get("value", "absent") for one in theirs] == ["absent", "absent", "absent", "theirs"]
    answered = await site.ask("GET", HISTORY + "&values=true")
    assert answered.header("cache-control") == "no-store"
    assert_problem(await site.ask("GET", HISTORY + "&values=true", user_key=None), 401)
    assert_problem(await site.ask("GET", HISTORY + "&values=true", user_key="short"), 401)


async def test_an_entry_that_never_was_has_no_history(site: Site) -> None:
    """404, and no key is derived for it; a deleted entry still has one."""
    await site.create("other")
    site.derived.clear()
    assert_problem(await site.ask("GET", HISTORY + "&values=true", user_key=OTHER_KEY), 404)
    assert site.derived == []
    await site.create("k")
    await site.ask("DELETE", TARGET)
    assert len(await versions(site)) == 2


async def test_positions_of_a_history_lead_back_to_its_versions(site: Site) -> None:
    """Read `at=` the position of a version that is live, an entry has its value; of a delete, it is not there."""
    await site.create("k", 1)
    await put(site, 2)
    await site.ask("DELETE", TARGET)
    await site.create("k", 4)
    found = await versions(site, "&values=true")
    for one in found:
        read = await site.ask("GET", f"{TARGET}&at={one['position']}")
        if one["type"] == "deleted":
            assert_problem(read, 404)
        else:
            assert read.json()["value"] == one["value"]
            assert read.header("x-osc-position") == one["position"]


async def test_a_long_history_comes_whole_or_in_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `limit` everything comes; with it the newest, and `Link` leads to all the others, values and all."""
    monkeypatch.setattr("oscd.history.versions.MAX_EXAMINED", 4)
    monkeypatch.setattr("oscd.history.versions.CHUNK", 5)
    monkeypatch.setattr("oscd.history.versions.PAGE_WORK", 3)
    await site.create("k", 0)
    for number in range(1, 11):
        await put(site, number)
    whole = await versions(site, "&values=true")
    assert [one["value"] for one in whole] == list(range(11))
    for limit in (1, 3, 4, 10, 11, 12):
        pages: list[list[dict[str, Any]]] = []
        following: str | None = f"{HISTORY}&values=true&limit={limit}"
        while following is not None:
            answered = await site.ask("GET", following)
            pages.append(answered.json()["versions"])
            link = answered.header("link")
            following = None if link is None else link.removeprefix("<").removesuffix('>; rel="next"')
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert [one for page in reversed(pages) for one in page] == whole
    assert (await site.ask("HEAD", HISTORY)).body == b""


@pytest.mark.parametrize(
    "cursor", ["x", "W10=", "bnVsbA==", "W1siYSIsImIiLDBdLG51bGxd", "é", "W1siYSIsImIiLDFdLG51bGxd"]
)
async def test_what_is_no_cursor_of_a_history_is_422(site: Site, cursor: str) -> None:
    """Text that no answer had, or a cursor of another history, is refused by name."""
    await site.create("k")
    problem = assert_problem(await site.ask("GET", f"{HISTORY}&cursor={cursor}".encode()), 422)
    assert problem["errors"][0]["loc"] in (["query", "cursor"], ["query"])


@pytest.mark.parametrize("chunk", [1, 2, 1000])
async def test_events_that_lost_a_merge_are_marked_and_can_be_restored(
    site: Site, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """A write of another node that lost stays in history; a number means a kept one, a position the lost one."""
    monkeypatch.setattr("oscd.history.versions.CHUNK", chunk)
    await site.create("k", "first")
    first = (await versions(site))[0]
    ref = EventRef(
        (await site.log.read(lambda reading: reading.event_at(1))).event.origin,  # type: ignore[union-attr]
        1,
    )
    stamp = (await site.log.read(lambda reading: reading.event_at(1))).event.stamp  # type: ignore[union-attr]
    await put(site, "second")
    await put(site, "third")
    await append_elsewhere(site, replaces=ref, stamp=stamp + 1)
    found = await versions(site, "&values=true")
    assert [one["superseded"] for one in found] == [False, True, False, False]
    assert found[1]["node_id"] == "elsewhere"
    assert found[0] == {**first, "value": "first"}
    assert len({one["position"] for one in found}) == 4
    # The lost one is not of our key: its position means it, and not the entry that won.
    assert_problem(await site.ask("POST", ROLLBACK, body={"position": found[1]["position"]}), 401)
    restored = await site.ask("POST", ROLLBACK, body={"position": found[2]["position"]})
    assert restored.json()["value"] == "second"
    assert [one["superseded"] for one in await versions(site)] == [False, True, False, False, False]


async def test_the_loser_of_a_conflict_is_marked_and_its_position_brings_it_back(site: Site) -> None:
    """What lost against another node's write is listed, is superseded in its history, and is not gone."""
    await site.create("k", "ours")
    sealed = await seal_value(await site.keyring.derive(USER_KEY), "e", "k", b'"theirs"')
    await append_elsewhere(site, replaces=None, stamp=2**52, sealed=sealed)
    (met,) = await site.log.read(lambda reading: conflicts(reading.store, 10))
    assert (met.environment, met.key, met.foreign_key) == ("e", "k", False)
    assert (met.winner.origin.node_id, met.loser.origin.node_id) == ("elsewhere", "tested")
    position = (await site.log.read(lambda reading: reading.cut_naming(met.loser))).position.encode()
    lost, kept = await versions(site, "&values=true")
    assert (lost["superseded"], lost["value"], lost["position"]) == (True, "ours", position)
    assert (kept["superseded"], kept["value"]) == (False, "theirs")
    assert (await site.ask("POST", ROLLBACK, body={"position": position})).json()["value"] == "ours"
    assert len(await site.log.read(lambda reading: conflicts(reading.store, 10))) == 1


async def test_a_rollback_is_an_ordinary_event(site: Site) -> None:
    """It has the old value and category, a new version, tag and position, and streams tell of an update."""
    await site.create("k", {"a": 1}, category="db")
    await put(site, 2, category="web")
    stream = await site.subscribe()
    answered = await site.ask("POST", ROLLBACK, ("x-actor", "ann"), body={"version": 1})
    assert answered.status == 200
    document = answered.json()
    assert (document["value"], document["category"], document["version"]) == ({"a": 1}, "db", 3)
    assert document["id"] == 1
    read = await site.ask("GET", TARGET + "&mode=full")
    assert read.json() == document
    assert read.header("etag") == answered.header("etag")
    (told,) = await stream.has("updated")
    assert told.at == answered.header("x-osc-position")
    assert (await versions(site))[-1]["actor"] == "ann"


async def test_a_rollback_can_remove_the_category(site: Site) -> None:
    """A version that had no category has none again."""
    await site.create("k", 1)
    await put(site, 2, category="db")
    assert (await site.ask("POST", ROLLBACK, body={"version": 1})).json()["category"] is None


async def test_a_deleted_entry_can_be_rolled_back(site: Site) -> None:
    """It begins a new life, with a new id; a version number means the newest that has a value."""
    await site.create("k", "old")
    await site.ask("DELETE", TARGET)
    await site.create("other")
    assert_problem(await site.ask("POST", ROLLBACK, ("if-match", "*"), body={"version": 1}), 412)
    answered = await site.ask("POST", ROLLBACK, body={"version": 1})
    assert (answered.json()["value"], answered.json()["version"], answered.json()["id"]) == ("old", 1, 3)
    await put(site, "newer")
    assert (await site.ask("POST", ROLLBACK, body={"version": 2})).json()["value"] == "newer"


async def test_a_rollback_compares_and_swaps(site: Site) -> None:
    """`If-Match` with a tag that is no longer the entry's changes nothing."""
    stale = str((await site.create("k", 1)).header("etag"))
    fresh = str((await put(site, 2)).header("etag"))
    before = await site.state()
    assert_problem(await site.ask("POST", ROLLBACK, ("if-match", stale), body={"version": 1}), 412)
    assert_problem(await site.ask("POST", ROLLBACK, ("if-none-match", "*"), body={"version": 1}), 412)
    assert await site.state() == before
    assert (await site.ask("POST", ROLLBACK, ("if-match", fresh), body={"version": 1})).status == 200


async def test_a_rollback_needs_a_key_that_opens_both(site: Site) -> None:
    """Neither the owner of the live entry alone nor that of the version alone can restore it."""
    await site.create("k", "mine")
    mine = (await versions(site))[0]["position"]
    await site.ask("DELETE", TARGET)
    await site.create("k", "theirs", user_key=OTHER_KEY)
    before = await site.state()
    for user_key in (USER_KEY, OTHER_KEY):
        answered = await site.ask("POST", ROLLBACK, body={"position": mine}, user_key=user_key)
        assert_problem(answered, 401)
    assert await site.state() == before


@pytest.mark.parametrize(
    ("body", "status", "loc"),
    [
        ({}, 422, ["body"]),
        ({"version": 1, "position": "AQ"}, 422, ["body"]),
        ({"version": 0}, 422, ["body", "version"]),
        ({"version": "1"}, 422, ["body", "version"]),
        ({"version": True}, 422, ["body", "version"]),
        ({"version": 2**63}, 422, ["body", "version"]),
        ({"position": "x"}, 422, ["body", "position"]),
        ({"position": Position({ELSEWHERE: Mark(1, b"abcd")}).encode()}, 422, ["body", "position"]),
        ({"position": "AQ"}, 404, None),
        ({"version": 3}, 404, None),
        ({"version": 4}, 404, None),
        ([], 422, ["body"]),
    ],
)
async def test_what_cannot_be_restored_is_refused(
    site: Site, body: object, status: int, loc: list[str] | None
) -> None:
    """A version that is not there, a delete, a position before the entry or of another log; nothing is changed."""
    await site.create("k", 1)
    await put(site, 2)
    await site.ask("DELETE", TARGET)
    before = await site.state()
    problem = assert_problem(await site.ask("POST", ROLLBACK, body=body), status)
    assert loc is None or problem["errors"][0]["loc"] == loc
    assert_problem(await site.ask("POST", "/rollback/absent?environment=e", body={"version": 1}), 404)
    assert await site.state() == before


@pytest.mark.parametrize("target", [TARGET, "/configs?", "/configs?limit=2"])
@pytest.mark.parametrize(
    "at",
    [
        "now",
        "2026-01-31",
        "2999-01-01T00:00:00Z",
        "AQA",
        Position({ELSEWHERE: Mark(1, b"abcd")}).encode(),
    ],
)
async def test_a_moment_that_cannot_be_told_is_422(site: Site, target: str, at: str) -> None:
    """What is no moment, has not come yet or is of another log is refused by name."""
    await site.create("k")
    problem = assert_problem(await site.ask("GET", f"{target}&at={at}".replace("?&", "?")), 422)
    assert problem["errors"][0]["loc"] == ["query", "at"]


async def test_a_position_that_was_rewritten_is_422(site: Site) -> None:
    """Invariant 9: a number that this log has issued for another event is not taken for that event."""
    position = str((await site.create("k")).header("x-osc-position"))
    ((incarnation, mark),) = decode_position(position).marks.items()
    forged = Position({incarnation: Mark(mark.seq, bytes(4))}).encode()
    assert (await site.ask("GET", f"{TARGET}&at={position}")).status == 200
    assert_problem(await site.ask("GET", f"{TARGET}&at={forged}"), 422)


async def test_the_past_is_read_with_the_key_it_was_written_with(site: Site) -> None:
    """Who owns an entry now cannot read what it was before, and the other way round; 401 comes before 304."""
    old = str((await site.create("k", "mine")).header("x-osc-position"))
    tag = str((await site.ask("GET", TARGET)).header("etag"))
    await site.ask("DELETE", TARGET)
    await site.create("k", "theirs", user_key=OTHER_KEY)
    assert (await site.ask("GET", f"{TARGET}&at={old}")).json()["value"] == "mine"
    assert (await site.ask("GET", f"{TARGET}&at={old}", ("if-none-match", tag))).status == 304
    assert_problem(
        await site.ask("GET", f"{TARGET}&at={old}", ("if-none-match", tag), user_key=OTHER_KEY), 401
    )


async def test_pages_of_a_list_at_a_time_are_of_one_position(site: Site) -> None:
    """The link to the next page names the position, so that what is written meanwhile does not show."""
    for key in "abcd":
        await site.create(key)
    last = (await site.ask("GET", "/events")).json()["events"][-1]
    first = await site.ask("GET", f"/configs?limit=2&at={last['timestamp']}")
    assert first.header("x-osc-position") == last["position"]
    for key in "cd":
        await site.ask("DELETE", f"/configs/{key}?environment=e")
    link = str(first.header("link"))
    assert f"at={last['position']}" in link
    second = await site.ask("GET", link.removeprefix("<").removesuffix('>; rel="next"'))
    assert [one["key"] for one in first.json() + second.json()] == list("abcd")


async def test_the_trail_pages_through_the_log(site: Site) -> None:
    """Every event comes once, in the order of the log, whatever the size of a page; the last `next` stays."""
    for number in range(7):
        await site.create(f"k{number}", "hunter2", category="db" if number % 2 else None)
    whole = (await site.ask("GET", "/events", user_key=None)).json()
    assert [one["key"] for one in whole["events"]] == [f"k{number}" for number in range(7)]
    assert [one["offset"] for one in whole["events"]] == list(range(1, 8))
    found: list[dict[str, Any]] = []
    following = ""
    while True:
        page = (await site.ask("GET", f"/events?limit=3&after={following}")).json()
        found += page["events"]
        if page["next"] == following:
            assert page["events"] == []
            break
        following = page["next"]
    assert found == whole["events"]
    assert whole["next"] == following
    assert [one["key"] for one in (await site.ask("GET", "/events?category=db")).json()["events"]] == [
        "k1",
        "k3",
        "k5",
    ]
    assert len((await site.ask("GET", "/events?key=k3&environment=e")).json()["events"]) == 1
    await site.ask("PUT", "/configs/k1?environment=e", body={"value": 1, "category": "web"})
    moved = (await site.ask("GET", f"/events?category=db&after={following}")).json()["events"]
    assert [(one["key"], one["category"]) for one in moved] == [("k1", "web")]


async def test_a_trail_that_matches_nothing_still_gets_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was examined in vain is empty, and its `next` is past what it examined."""
    monkeypatch.setattr("oscd.history.trail.MAX_EXAMINED", 2)
    monkeypatch.setattr("oscd.history.trail.MAX_VIEWS", 2)
    for number in range(10):
        await site.create(f"k{number}")
    following, pages, found = "", 0, []
    while True:
        page = (await site.ask("GET", f"/events?key=k9&after={following}")).json()
        found += page["events"]
        if page["next"] == following:
            break
        following, pages = page["next"], pages + 1
    assert [one["key"] for one in found] == ["k9"]
    assert pages == 3


async def test_a_write_is_not_told_by_halves(site: Site) -> None:
    """Pages may end within a write, but the positions of its events cover all of it, and none covers half of it."""
    await site.create("k")
    await site.log.write(
        lambda writing: writing.append([draft(key, environment="e") for key in "abc"]), size=1
    )
    whole = (await site.ask("GET", "/events")).json()
    assert len({one["position"] for one in whole["events"]}) == 2
    assert whole["events"][-1]["position"] == whole["next"]
    page = (await site.ask("GET", "/events?limit=2")).json()
    assert page["events"] == whole["events"][:2]
    rest = (await site.ask("GET", f"/events?after={page['next']}")).json()
    assert page["events"] + rest["events"] == whole["events"]
    for target in (TARGET, "/configs?limit=1"):
        problem = assert_problem(await site.ask("GET", f"{target}&at={page['next']}"), 422)
        assert problem["errors"][0]["loc"] == ["query", "at"]
        assert (await site.ask("GET", f"{target}&at={page['events'][-1]['position']}")).status == 200
    assert_problem(await site.ask("POST", ROLLBACK, body={"position": page["next"]}), 422)


async def test_a_delete_tells_no_digest_of_who_sent_it(site: Site) -> None:
    """The body of a delete holds nothing random: its digest would be an oracle on the client's address."""
    await site.create("k")
    await site.ask("DELETE", TARGET)
    created, deleted = (await site.ask("GET", "/events")).json()["events"]
    assert len(created["body_digest"]) == 64
    assert deleted["body_digest"] is None


async def test_refusals_of_the_past_keep_the_order(site: Site) -> None:
    """401 before 422, and 422 before a wait for a position and before 404."""
    await site.create("k")
    nowhere = Position({ELSEWHERE: Mark(1, b"abcd")}).encode()
    assert_problem(await site.ask("GET", f"{HISTORY}&values=true&cursor=x", user_key=None), 401)
    for target in (TARGET, "/configs?limit=1"):
        assert_problem(await site.ask("GET", f"{target}&at=x", ("x-osc-after", nowhere)), 422)
    answered = await site.ask("POST", "/rollback/absent?environment=e", body={"position": nowhere})
    assert_problem(answered, 422)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=x",
        f"after={Position({ELSEWHERE: Mark(1, b'abcd')}).encode()}",
    ],
)
async def test_what_a_trail_cannot_follow_is_422(site: Site, query: str) -> None:
    """Refused by the name of the parameter."""
    await site.create("k")
    problem = assert_problem(await site.ask("GET", f"/events?{query}"), 422)
    assert problem["errors"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_ids_and_paths_of_keys_hold_for_every_call(site: Site) -> None:
    """A key with slashes, dots or nothing to normalise names its own history and rollback."""
    for key in ("a/b", "a//b", "../x", "é"):
        await site.create(key, key)
        path = key.replace("é", "%C3%A9")
        assert (await site.ask("GET", f"/history/{path}?environment=e")).json()["key"] == key
        rolled = await site.ask("POST", f"/rollback/{path}?environment=e", body={"version": 1})
        assert rolled.json()["key"] == key
