"""Backups and their import over the API (contract §9)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from cryptography.fernet import Fernet

from oscd.api import strict_json
from oscd.api.backup_entry import judge
from oscd.backup import backups as backups_module
from oscd.backup import importing as importing_module
from oscd.backup import plan as plan_module
from oscd.backup.document import Failure
from oscd.commands import Caller
from oscd.events.cipher import BackupKey
from oscd.events.event import Body, Draft, EventType
from oscd.events.log import Writing, scan
from oscd.events.position import Position
from oscd.events.sqlite import batch, transaction
from oscd.events.sqlite.verify import verify_chain
from oscd.projections.verify import verify_projections
from tests.api.asgi import (
    OTHER_KEY,
    PATIENCE,
    USER_KEY,
    Answer,
    Answered,
    HeldBody,
    Site,
    assert_problem,
    http_scope,
    opened_site,
)
from tests.support import original
from tests.support.waiting import eventually

PASSWORD = "a password of eight or more"
HEADER = ("X-Backup-Password", PASSWORD)
SALT = b"\xfb\xef\xbe" * 10 + b"\0\0"
"""Whose base64 is full of `+`; a token has none, as it is base64 itself."""
# The password as `tests.api.asgi` stretches it.
CIPHER = Fernet(base64.urlsafe_b64encode(hashlib.sha256(SALT + PASSWORD.encode()).digest()))
NOTHING_FAILED = {"failed": 0, "failed_keys": []}


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Site]:
    """Another node."""
    directory = tmp_path / "empty"
    directory.mkdir()
    async with opened_site(directory) as site:
        yield site


async def back_up(site: Site, query: str = "", user_key: str = USER_KEY) -> dict[str, Any]:
    answered = await site.ask("POST", f"/backup{query}", HEADER, user_key=user_key)
    assert answered.status == 200, answered.body
    backup: dict[str, Any] = answered.json()
    return backup


async def restore(site: Site, backup_data: str, user_key: str = USER_KEY, **more: object) -> Answered:
    return await site.ask(
        "POST", "/import", HEADER, body={"backup_data": backup_data, **more}, user_key=user_key
    )


async def imported(site: Site, backup_data: str, user_key: str = USER_KEY, **more: object) -> dict[str, Any]:
    answered = await restore(site, backup_data, user_key, **more)
    assert answered.status == 200, answered.body
    report: dict[str, Any] = answered.json()
    return report


async def entries(site: Site, user_key: str = USER_KEY) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await site.ask("GET", "/configs?mode=full", user_key=user_key)).json()
    return listed


def of_the_original(configurations: Iterable[Any], **more: object) -> str:
    return original.backup(PASSWORD, configurations, salt=SALT, cipher=CIPHER, **more)


def entry(key: object = "k", value: object = "v", **more: object) -> dict[str, Any]:
    return {"key": key, "value": value, "environment": "e", "category": None, **more}


def without(one: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in names}


async def test_a_backup_comes_back_on_an_empty_node(
    site: Site, empty: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, categories, environments and times are those of before; ids and versions are new."""
    monkeypatch.setattr(backups_module, "PART_ENTRIES", 7)
    monkeypatch.setattr(importing_module, "PAGE_ENTRIES", 5)
    values: list[Any] = [
        None,
        True,
        -(2**63),
        2**64 - 1,
        1.5,
        'é\U0001f512"\\ \n',
        [],
        {},
        {"a": [1, {"b": "x" * 70_00}]},
    ]
    for number in range(40):
        await site.create(
            f"k/{number}",
            values[number % len(values)],
            random.choice(["prod", "dev"]),
            category=random.choice(["", "c"]),
        )
    await site.create("foreign", user_key=OTHER_KEY)
    await site.ask("PUT", "/configs/k/0?environment=prod", body={"value": 1})
    await site.ask("PUT", "/configs/k/0?environment=dev", body={"value": 1})
    backup = await back_up(site)
    assert backup["total_keys"] == 40
    report = await imported(empty, backup["backup_data"])
    assert report == {
        "message": "Import completed",
        "backup_id": backup["backup_id"],
        "backup_timestamp": backup["backup_timestamp"],
        "total_in_backup": 40,
        "imported": 40,
        "skipped": 0,
        **NOTHING_FAILED,
    }
    before, after = await entries(site), await entries(empty)
    assert [without(one, "id", "version") for one in after] == [
        without(one, "id", "version") for one in before
    ]
    assert sorted(one["id"] for one in after) == list(range(1, 41))
    assert {one["version"] for one in after} == {1}


async def test_a_backup_is_what_the_original_would_read(site: Site) -> None:
    """Salt and Fernet token in base64, around a document of entries in full form."""
    await site.create("k", {"a": 1}, category="c")
    backup = await back_up(site)
    blob = base64.b64decode(backup["backup_data"], validate=True)
    derived = hashlib.sha256(blob[:32] + PASSWORD.encode()).digest()
    document = json.loads(Fernet(base64.urlsafe_b64encode(derived)).decrypt(blob[32:]))
    assert document == {
        "version": "2.2.0",
        "backup_id": backup["backup_id"],
        "backup_timestamp": backup["backup_timestamp"],
        "total_keys": 1,
        "configurations": await entries(site),
    }


async def test_a_backup_holds_what_was_asked_for(site: Site) -> None:
    """Filters as in a list; answers are not stored, and say which position they are of."""
    for environment in ("a", "b"):
        for category in ("x", "y"):
            await site.create(f"k-{category}", environment=environment, category=category)
    for query, total in (
        ("", 4),
        ("?environment=a", 2),
        ("?category=x", 2),
        ("?environment=a&category=x", 1),
    ):
        assert (await back_up(site, query))["total_keys"] == total
    answered = await site.ask("POST", "/backup?environment=none", HEADER)
    assert answered.json()["total_keys"] == 0
    assert answered.header("cache-control") == "no-store"
    assert (await back_up(site, f"?at={answered.header('x-osc-position')}"))["total_keys"] == 4


async def test_a_backup_of_the_past(site: Site, empty: Site) -> None:
    """With `at=` it holds what was there at that position, values of that time included."""
    await site.create("kept", "old")
    created = await site.create("deleted")
    at = created.header("x-osc-position")
    assert at is not None
    then = await entries(site)
    await site.ask("PUT", "/configs/kept?environment=e", body={"value": "new"})
    await site.ask("DELETE", "/configs/deleted?environment=e")
    await site.create("later")
    answered = await site.ask("POST", f"/backup?at={at}", HEADER)
    assert answered.header("x-osc-position") == at
    await imported(empty, answered.json()["backup_data"])
    assert [without(one, "id") for one in await entries(empty)] == [without(one, "id") for one in then]
    for unknown in ("2999-01-01T00:00:00Z", "nonsense", "AQ"):
        refused = await site.ask("POST", f"/backup?at={unknown}", HEADER)
        if unknown != "AQ":
            assert_problem(refused, 422)
            assert refused.json()["errors"][0]["loc"] == ["query", "at"]
        else:
            assert refused.json()["total_keys"] == 0, "the position before everything"


@pytest.mark.parametrize(
    "times",
    [
        ("2024-01-15T10:30:45.123456Z", "2024-01-16T10:30:45Z"),
        ("2024-01-15T10:30:45.123456", "2024-01-16T10:30:45"),
        ("2024-01-15 10:30:45.123456", "2024-01-16 10:30:45"),
        ("2024-01-15T12:30:45.123456+02:00", "2024-01-16T10:30:45+00:00"),
    ],
)
async def test_backups_of_the_original_come_in(empty: Site, times: tuple[str, str]) -> None:
    """With their ids and their times, whether these say that they are UTC or not."""
    created_at, updated_at = times
    backup = of_the_original(
        [
            {
                "id": 4711,
                **entry("a", {"x": 1}, category="c"),
                "created_at": created_at,
                "updated_at": updated_at,
            },
            {"id": 4712, **entry("b", "é", environment="prod")},
        ]
    )
    report = await imported(empty, backup)
    assert (report["backup_id"], report["backup_timestamp"]) == (
        "backup-1767225600",
        "2026-01-01T00:00:00.000000Z",
    )
    one, other = await entries(empty)
    assert one == {
        "id": 1,
        **entry("a", {"x": 1}, category="c"),
        "created_at": "2024-01-15T10:30:45.123456Z",
        "updated_at": "2024-01-16T10:30:45.000000Z",
        "version": 1,
    }
    assert (other["key"], other["value"], other["environment"]) == ("b", "é", "prod")


async def test_an_import_is_one_write_that_streams_tell_whole(site: Site, empty: Site) -> None:
    """Its events follow each other, name the same last one, and reach subscribers in one go."""
    for number in range(150):
        await site.create(f"k{number:03}")
    backup = await back_up(site)
    stream = await empty.subscribe()
    answered = await restore(empty, backup["backup_data"])
    frames = await stream.has("created", 150)
    assert [frame.data["key"] for frame in frames] == [f"k{number:03}" for number in range(150)]
    ids = [frame.at for frame in frames]
    assert ids[-1] == answered.header("x-osc-position")
    assert ids[-1] not in ids[:-1], "no position is inside the write"
    events = await empty.log.read(lambda reading: list(scan(reading)))
    assert [recorded.event.seq for recorded in events] == list(range(1, 151))
    assert {recorded.event.last_seq for recorded in events} == {150}


async def test_entries_that_are_there_are_skipped_or_overwritten(site: Site, empty: Site) -> None:
    """The caller's own, as asked; another key's never, and the rest is imported all the same."""
    for key in ("own", "foreign", "new"):
        await site.create(key, "from the backup", category="c")
    backup = (await back_up(site))["backup_data"]
    await empty.create("own", "mine")
    await empty.create("foreign", "theirs", user_key=OTHER_KEY)
    report = await imported(empty, backup)
    foreign = {"key": "foreign", "environment": "e", "error": "another user key owns this entry"}
    assert (report["imported"], report["skipped"], report["failed_keys"]) == (1, 1, [foreign])
    assert [(one["key"], one["value"], one["version"]) for one in await entries(empty)] == [
        ("new", "from the backup", 1),
        ("own", "mine", 1),
    ]
    report = await imported(empty, backup, overwrite=True)
    assert (report["imported"], report["skipped"], report["failed_keys"]) == (2, 0, [foreign])
    before = {one["key"]: one for one in await entries(site)}
    for one in await entries(empty):
        assert without(one, "id", "version") == without(before[one["key"]], "id", "version")
        assert one["version"] == 2
    (theirs,) = await entries(empty, OTHER_KEY)
    assert theirs["value"] == "theirs"


async def test_a_dry_run_tells_and_changes_nothing(site: Site, empty: Site) -> None:
    """What it tells is what the import then does."""
    for key in ("own", "foreign", "new"):
        await site.create(key)
    backup = (await back_up(site))["backup_data"]
    await empty.create("own")
    await empty.create("foreign", user_key=OTHER_KEY)
    before = await empty.state()
    told = await imported(empty, backup, dry_run=True)
    assert (told["imported"], told["skipped"], told["failed"]) == (1, 1, 1)
    told = await imported(empty, backup, overwrite=True, dry_run=True)
    assert "nothing was changed" in told["message"]
    assert await empty.state() == before
    done = await imported(empty, backup, overwrite=True)
    assert without(told, "message") == without(done, "message")


BAD_ENTRIES: list[tuple[Any, str | None, str]] = [
    (entry(""), "", "key: must have at least 1 character(s)"),
    (entry("x" * 256), "x" * 255, "key: must have at most 255 characters"),
    (entry("a\x07b"), "a\x07b", "key: must have no control characters"),
    (entry(7), None, "key: must be a string"),
    (without(entry(), "value"), "k", "value: is required"),
    (entry(environment=None), "k", "environment: must be a string"),
    (without(entry(), "environment"), "k", "environment: is required"),
    (entry(category="c" * 101), "k", "category: must have at most 100 characters"),
    (entry(value=2**64), "k", "The entry has an integer beyond 64 bits; send it as a string."),
    (entry(value=float("inf")), "k", "The entry is not valid JSON: it has no Infinity."),
    (entry(value="\ud800"), "k", "The entry has half a surrogate pair in a string, which is no character."),
    (entry("\ud800"), "?", "The entry has half a surrogate pair in a string, which is no character."),
    (entry(value="x" * 70_000), "k", "value: is larger than one may be (OSC_MAX_BODY_BYTES)"),
    (entry(value="x" * 400_000), None, "The entry is larger than one may be (OSC_MAX_BODY_BYTES)."),
    (entry(created_at=1), "k", "created_at: must be a string"),
    (
        entry(created_at="1969-12-31T23:59:59Z"),
        "k",
        "created_at: must be a time from 1970 to 9999 such as 2026-01-31T12:00:00Z",
    ),
    (
        entry(updated_at="yesterday"),
        "k",
        "updated_at: must be a time from 1970 to 9999 such as 2026-01-31T12:00:00Z",
    ),
    ([], None, "body: must be a JSON object"),
    ("k", None, "body: must be a JSON object"),
]


async def test_entries_that_could_not_be_created_have_failed(empty: Site) -> None:
    """Each says why, the others are imported, and no value is repeated."""
    nested: Any = "deep"
    for _ in range(65):
        nested = [nested]
    bad = [
        *BAD_ENTRIES,
        (entry(value=nested), "k", "The entry is nested too deeply; a value may have 64 levels."),
    ]
    report = await imported(
        empty, of_the_original([entry("first"), *(one for one, _, _ in bad), entry("last")])
    )
    assert report["imported"] == 2
    assert report["failed"] == len(bad)
    assert [(one["key"], one["error"]) for one in report["failed_keys"]] == [
        (key, why) for _, key, why in bad
    ]
    assert [one["key"] for one in await entries(empty)] == ["first", "last"]


async def test_a_number_that_grows_where_it_is_stored_is_no_way_past_the_limit(
    site: Site, empty: Site
) -> None:
    """1e15 is written as 1000000000000000.0: what may be created by that is what may be imported."""
    kept, grown = ([1e15] * number for number in (3_000, 10_000))
    for value, status in ((kept, 201), (grown, 422)):
        text = json.dumps(entry(value=value)).replace("1000000000000000.0", "1e15").encode()
        assert len(text) < 64 * 1024
        assert (await site.ask("POST", "/configs", chunks=[text])).status == status
        assert (await site.ask("PUT", "/configs/k?environment=e", chunks=[text])).status in {200, status}
    await imported(empty, (await back_up(site))["backup_data"])
    assert [one["value"] for one in await entries(empty)] == [kept]


async def test_a_backup_of_too_many_entries_changes_nothing(
    empty: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: it is 413, in a sentence that says how to split it, however many of them were fit."""
    monkeypatch.setattr(plan_module, "MAX_ENTRIES", 300)
    allowed: list[Any] = [*(entry(f"k{n}") for n in range(10)), *[1] * 290]
    refused = await restore(empty, of_the_original([*allowed, 1]))
    assert "environment or category" in assert_problem(refused, 413)["detail"]
    assert await entries(empty) == []
    report = await imported(empty, of_the_original(allowed))
    assert (report["imported"], report["failed"]) == (10, 290)


def test_the_reason_of_many_failures_is_held_once() -> None:
    """Invariant 10: a failure takes no more than its place."""
    first, second = (judge(entry_json, 1000) for entry_json in (b"1", b"[]"))
    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert first.reason is second.reason


async def test_an_entry_twice_in_a_backup_is_imported_once(empty: Site) -> None:
    """The first one counts; in another environment it is another entry."""
    backup = of_the_original(
        [entry("k", 1), entry("k", 2), entry("k", 3, environment="other"), entry("k", 4)]
    )
    report = await imported(empty, backup, overwrite=True)
    assert (report["total_in_backup"], report["imported"], report["failed"]) == (4, 2, 2)
    assert [one["value"] for one in await entries(empty)] == [1, 3]


async def test_times_that_have_not_come_are_now(empty: Site) -> None:
    """And an entry without times was created and written now, like any other."""
    future = "2999-01-01T00:00:00Z"
    await imported(empty, of_the_original([entry("a", created_at=future, updated_at=future), entry("b")]))
    for one in await entries(empty):
        assert one["created_at"] < "2040"
        assert one["created_at"] <= one["updated_at"] < "2040"


async def test_what_does_not_open_changes_nothing_and_tells_nothing(site: Site, empty: Site) -> None:
    """A wrong password, any changed character, a part of a backup, no base64: 400, all with one sentence."""
    for number in range(5):
        await site.create(f"k{number}", "s3cr3t")
    backup = (await back_up(site))["backup_data"]
    before = await empty.state()
    wrong = await empty.ask("POST", "/import", ("X-Backup-Password", "wrong"), body={"backup_data": backup})
    detail = assert_problem(wrong, 400)["detail"]
    assert "s3cr3t" not in detail
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for place in [*range(4), *chance.sample(range(len(backup)), 40), *range(len(backup) - 4, len(backup))]:
        flipped = backup[:place] + chr(ord(backup[place]) ^ 1 << chance.randrange(7)) + backup[place + 1 :]
        assert assert_problem(await restore(empty, flipped), 400)["detail"] == detail
    for part in (backup[:-4], backup[: len(backup) // 2], backup[4:], "A", "no base64", "A" * 4000):
        assert assert_problem(await restore(empty, part), 400)["detail"] == detail
    assert await empty.state() == before
    assert (await imported(empty, backup))["imported"] == 5


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b"oops", b'{"configurations":{}}', b'{"configurations":[{"key":', b'{"configs":[]}'],
)
async def test_what_opens_and_is_no_backup_is_400(empty: Site, document: bytes) -> None:
    """Even if it holds entries before it turns out to be none."""
    before = await empty.state()
    refused = await restore(empty, original.sealed_backup(document, PASSWORD, SALT, CIPHER))
    assert "not a backup" in assert_problem(refused, 400)["detail"]
    good = json.dumps(entry()).encode()
    cut_off = b'{"configurations":[%b,%b' % (good, good)
    assert_problem(await restore(empty, original.sealed_backup(cut_off, PASSWORD, SALT, CIPHER)), 400)
    assert await empty.state() == before


@pytest.mark.parametrize(
    "write", ["query", "query, spaces for pluses", "body", "body without type", "empty body"]
)
async def test_both_ways_of_calling(empty: Site, write: str) -> None:
    """The original's clients differ: what is to be imported may stand in the query or in the body."""
    backup = of_the_original([entry(f"k{number}", "??>>" * number) for number in range(20)])
    assert "+" in backup
    parameters = urlencode({"backup_data": backup, "overwrite": "True"})
    match write:
        case "query":
            answered = await empty.ask("POST", f"/import?{parameters}", HEADER)
        case "query, spaces for pluses":
            raw = f"/import?overwrite=false&backup_data={quote(backup, safe='+/=')}"
            answered = await empty.ask("POST", raw, HEADER)
        case "empty body":
            answered = await empty.ask(
                "POST", f"/import?{parameters}", HEADER, ("Content-Type", "application/json")
            )
        case _:
            headers = [HEADER, *([("Content-Type", "application/json")] if write == "body" else [])]
            answered = await empty.ask(
                "POST", "/import", *headers, body={"backup_data": backup, "overwrite": False}
            )
    assert answered.status == 200, answered.body
    assert answered.json()["imported"] == 20


async def test_query_and_body_must_not_contradict_each_other(empty: Site) -> None:
    """What both say must be the same; what neither says is asked for."""
    backup = of_the_original([entry()])
    answered = await empty.ask(
        "POST", "/import?overwrite=true", HEADER, body={"backup_data": backup, "overwrite": False}
    )
    assert assert_problem(answered, 422)["errors"][0]["loc"] == ["query", "overwrite"]
    answered = await empty.ask("POST", "/import?dry_run=1", HEADER, body={"backup_data": backup})
    assert assert_problem(answered, 422)["errors"][0]["loc"] == ["query", "dry_run"]
    for body in ({}, {"backup_data": ""}, {"backup_data": None}):
        answered = await empty.ask("POST", "/import", HEADER, body=body)
        assert assert_problem(answered, 422)["errors"][0]["loc"] == ["body", "backup_data"]
    answered = await empty.ask(
        "POST", "/import?dry_run=true", HEADER, body={"backup_data": backup, "dry_run": True}
    )
    assert answered.status == 200


@pytest.mark.parametrize("way", ["left", "answered"])
async def test_a_write_that_nobody_waits_for_keeps_its_turn_and_its_room(
    empty: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Invariant 10: what an import holds is held until its write has ended, whoever has left or was told."""
    monkeypatch.setattr(backups_module, "TURN_SECONDS", 0.05)
    if way == "answered":
        monkeypatch.setattr(batch, "END_SECONDS", 0.05)
        monkeypatch.setattr(empty.log._writes, "_begin_seconds", 0.05)
    begun, go_on, leaves, answer = threading.Event(), threading.Event(), asyncio.Event(), Answer()
    run = importing_module.Importing._run

    def held(
        importing: importing_module.Importing, writing: Writing[sqlite3.Connection], caller: Caller
    ) -> Position:
        begun.set()
        assert go_on.wait(PATIENCE)
        return run(importing, writing, caller)

    monkeypatch.setattr(importing_module.Importing, "_run", held)
    body = json.dumps({"backup_data": of_the_original([entry()])}).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, object]:
        message = next(messages, None)
        if message is not None:
            return dict(message)
        await leaves.wait()
        return {"type": "http.disconnect"}

    try:
        async with asyncio.timeout(PATIENCE):
            task = asyncio.create_task(
                empty.app(http_scope("POST", "/import", [HEADER]), receive, answer.send)
            )
            await asyncio.to_thread(begun.wait, PATIENCE)
            if way == "left":
                leaves.set()
            await task
        assert answer.status == (0 if way == "left" else 503)
        assert empty.app._imports.taken == len(body)
        refused = await restore(empty, of_the_original([entry()]))
        assert "another import" in assert_problem(refused, 503)["detail"]
    finally:
        go_on.set()
    await eventually(lambda: empty.app._imports.taken == 0, PATIENCE)
    monkeypatch.undo()
    assert (await imported(empty, of_the_original([entry()])))["skipped"] == 1


async def test_an_import_through_a_proxy_is_as_large(empty: Site) -> None:
    """A target in absolute form is the same path, with the same limit."""
    backup = of_the_original([entry(f"k{n}", "v" * 1000) for n in range(100)])
    assert len(backup) > 64 * 1024
    answered = await empty.ask("POST", "http://localhost:9000/import", HEADER, body={"backup_data": backup})
    assert answered.status == 200, answered.body
    assert empty.app._bodies.taken == empty.app._imports.taken == 0


@pytest.mark.parametrize("path", ["/backup", "/import"])
async def test_a_password_is_asked_for_before_anything_is_done(site: Site, path: str) -> None:
    """Missing or empty: 422; a new backup's has eight characters, an import's whatever the backup was given."""
    await site.create("k")
    site.derived.clear()
    body = {"backup_data": of_the_original([entry()])} if path == "/import" else None
    for headers in ([], [("X-Backup-Password", "")]):
        refused = await site.ask("POST", path, *headers, body=body)
        assert assert_problem(refused, 422)["errors"][0]["loc"] == ["header", "X-Backup-Password"]
    twice = await site.ask("POST", path, HEADER, ("x-backup-password", "another one"), body=body)
    assert_problem(twice, 400)
    short = await site.ask("POST", path, ("X-Backup-Password", "7 chars"), body=body)
    if path == "/backup":
        assert assert_problem(short, 422)["errors"][0]["msg"] == "must have at least 8 characters"
        assert site.derived == []
    else:
        assert "does not open" in assert_problem(short, 400)["detail"]
    for status, user_key in ((401, None), (401, "short")):
        assert_problem(await site.ask("POST", path, body=body, user_key=user_key), status)


async def test_the_bytes_of_a_password_are_those_of_a_user_key(site: Site, empty: Site) -> None:
    """Latin-1 in the header, UTF-8 where it is stretched."""
    await site.create("k")
    answered = await site.ask("POST", "/backup", ("X-Backup-Password", "pässwörd"))
    blob = base64.b64decode(answered.json()["backup_data"])
    derived = hashlib.sha256(blob[:32] + "pässwörd".encode()).digest()
    assert Fernet(base64.urlsafe_b64encode(derived)).decrypt(blob[32:])
    body = {"backup_data": answered.json()["backup_data"]}
    assert (await empty.ask("POST", "/import", ("X-Backup-Password", "pässwörd"), body=body)).status == 200


async def test_passwords_of_backups_leave_the_queue_to_user_keys(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: one of them at a time is in it, and those that wait for that are few, and not for long."""
    monkeypatch.setattr(backups_module, "MAX_STRETCHING", 3)
    await site.create("k")
    begun, go_on = threading.Event(), threading.Event()
    derive = site.keyring._derive_backup_key

    def slow(password: str, salt: bytes) -> BackupKey:
        begun.set()
        assert go_on.wait(PATIENCE)
        return derive(password, salt)

    monkeypatch.setattr(site.keyring, "_derive_backup_key", slow)
    try:
        backups = [asyncio.create_task(site.ask("POST", "/backup", HEADER)) for _ in range(4)]
        await asyncio.to_thread(begun.wait, PATIENCE)
        await eventually(lambda: site.backups._waiting_to_stretch == 3, PATIENCE)
        assert_problem(await site.ask("POST", "/backup", HEADER), 429)
        assert len(site.keyring._waiting) == 0
        monkeypatch.setattr(backups_module, "STRETCHING_SECONDS", 0.01)
        monkeypatch.setattr(backups_module, "MAX_STRETCHING", 4)
        assert_problem(await site.ask("POST", "/backup", HEADER), 429)
        new_key = asyncio.create_task(site.create("other", user_key=OTHER_KEY))
        await eventually(lambda: len(site.keyring._waiting) == 1, PATIENCE)
    finally:
        go_on.set()
    assert [answered.status for answered in await asyncio.gather(*backups)] == [200] * 4
    await new_key


async def test_a_backup_of_nothing_derives_no_user_key(empty: Site) -> None:
    """Only its password is stretched, and it is a backup like any other."""
    backup = await back_up(empty)
    assert empty.derived == [PASSWORD]
    assert (await imported(empty, backup["backup_data"]))["total_in_backup"] == 0


async def test_imports_are_bounded_by_a_limit_of_their_own(tmp_path: Path) -> None:
    """413 beyond `OSC_MAX_IMPORT_BYTES`, announced or not; other bodies keep the smaller limit."""
    async with opened_site(tmp_path, max_body_bytes=1000, max_import_bytes=20_000) as site:
        fits = {"backup_data": of_the_original([entry(f"k{n}") for n in range(20)])}
        assert 1000 < len(json.dumps(fits)) < 20_000
        assert (await site.ask("POST", "/import", HEADER, body=fits)).status == 200
        too_large = json.dumps({"backup_data": "A" * 20_000}).encode()
        assert_problem(await site.ask("POST", "/import", HEADER, chunks=[too_large]), 413)
        announced = ("content-length", "20001")
        assert_problem(await site.ask("POST", "/import", HEADER, announced, chunks=[b"{}"]), 413)
        assert_problem(await site.ask("POST", "/configs", body=entry(value="x" * 1000)), 413)


@pytest.mark.parametrize("more", [b"[],", b"{},", b"1,", b"[["])
async def test_a_body_with_more_than_an_import_needs_is_not_parsed(
    empty: Site, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    """Invariant 10: unknown fields are ignored, as everywhere, but not what would take twenty times its size."""
    backup = of_the_original([entry()]).encode()
    few, many = (
        b'{"more":[%b],"backup_data":"%b"}' % (b"[1]," * number + b"1", backup) for number in (20, 30_000)
    )
    assert (await empty.ask("POST", "/import", HEADER, chunks=[few])).status == 200
    parsed: list[bytes] = []
    monkeypatch.setattr(strict_json, "parse", parsed.append)
    for body in (many, b'{"backup_data":"' + backup + b'","more":[' + more * 200):
        refused = await empty.ask("POST", "/import", HEADER, chunks=[body])
        assert "backup_data, overwrite and dry_run" in assert_problem(refused, 422)["detail"]
    assert parsed == []


async def test_a_body_that_is_being_imported_takes_no_room_from_others(tmp_path: Path) -> None:
    """Invariant 10: imports together take one largest body, and writes go on beside them."""
    async with opened_site(tmp_path, max_import_bytes=10_000) as site:
        answer, body = Answer(), HeldBody(b"x" * 9_000)
        async with asyncio.timeout(PATIENCE):
            scope = http_scope("POST", "/import", [HEADER])
            holder = asyncio.create_task(site.app(scope, body.receive, answer.send))
            await body.taken.wait()
            assert_problem(await site.ask("POST", "/import", HEADER, chunks=[b"y" * 1_001]), 503)
            await site.create("k", "v" * 20_000)
            body.release.set()
            await holder
        assert_problem(answer.whole(), 400)


async def test_imports_are_worked_on_one_at_a_time(
    site: Site, empty: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: one that waits too long for another is told so, and changes nothing."""
    monkeypatch.setattr(backups_module, "TURN_SECONDS", 0.05)
    backup = of_the_original([entry()])
    backups = empty.backups
    await backups._turn.acquire()
    refused = await restore(empty, backup)
    assert_problem(refused, 503)
    assert refused.header("retry-after") == "2"
    backups._turn.release()
    assert (await imported(empty, backup))["imported"] == 1
    assert (await imported(empty, backup))["skipped"] == 1


async def test_what_is_written_meanwhile_is_decided_by(empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry somebody writes between the look at the log and the write is not overwritten unseen."""
    backup = of_the_original([entry("a"), entry("b"), entry("c"), entry("d")])
    await empty.create("d", "kept by its owner")
    rounds = 0
    catch_up = importing_module.Importing._catch_up

    async def disturbed(importing: importing_module.Importing) -> None:
        nonlocal rounds
        await catch_up(importing)
        rounds += 1
        if rounds == 1:
            await empty.create("a", "somebody else's", user_key=OTHER_KEY)
            await empty.create("b", "own")
            await empty.ask("DELETE", "/configs/d?environment=e")
            await empty.create("unrelated")

    monkeypatch.setattr(importing_module.Importing, "_catch_up", disturbed)
    report = await imported(empty, backup, overwrite=True)
    assert rounds == 2
    assert (report["imported"], report["skipped"]) == (3, 0)
    assert [one["key"] for one in report["failed_keys"]] == ["a"]
    assert [(one["key"], one["value"], one["version"]) for one in await entries(empty)] == [
        ("b", "v", 2),
        ("c", "v", 1),
        ("d", "v", 1),
        ("unrelated", "v", 1),
    ]


async def test_no_more_than_a_page_is_looked_at_under_the_write_lock(
    empty: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more was written meanwhile, the import lets go of the lock and looks outside."""
    monkeypatch.setattr(importing_module, "CHANGES", 3)
    looks: list[tuple[bool, int]] = []
    run, look = importing_module.Importing._run, importing_module.Importing._look
    written = 0

    def late(
        importing: importing_module.Importing, writing: Writing[sqlite3.Connection], caller: Caller
    ) -> Position:
        nonlocal written
        if not written:
            written = 10
            writing.append_many((taken_over(f"other{n}", b"t") for n in range(written)), written)
            writing.store.execute("COMMIT")  # As another process would have it, right before.
            writing.store.execute("BEGIN IMMEDIATE")
        return run(importing, writing, caller)

    def noted(importing: importing_module.Importing, reading: Any, after: int) -> Any:  # noqa: ANN401
        looks.append((hasattr(reading, "append"), after))
        return look(importing, reading, after)

    monkeypatch.setattr(importing_module.Importing, "_run", late)
    monkeypatch.setattr(importing_module.Importing, "_look", noted)
    assert (await imported(empty, of_the_original([entry("a")])))["imported"] == 1
    assert looks == [(False, 0), (True, 0), *((False, n) for n in (0, 3, 6, 9)), (True, 10)]


async def test_a_large_import_of_all_kinds_leaves_an_honest_log(empty: Site) -> None:
    """Invariants 3 and 8: over more than a page of overwritten, deleted and new entries replay and chain agree."""
    kinds = ["overwritten", "deleted", "new"]
    places = [f"{kind}/{n}" for n in range(250) for kind in kinds]
    await imported(
        empty, of_the_original(entry(place, "old") for place in places if not place.startswith("new"))
    )
    for place in places:
        if place.startswith("deleted"):
            assert (await empty.ask("DELETE", f"/configs/{place}?environment=e")).status == 200
    await empty.create("foreign", user_key=OTHER_KEY)
    random.shuffle(places)
    configurations = [entry(place, place, category=place[:3]) for place in [*places, "foreign"]]
    report = await imported(empty, of_the_original(configurations), overwrite=True)
    assert (report["imported"], report["failed"]) == (750, 1)
    after = {one["key"]: one for one in await entries(empty)}
    assert {key: (one["value"], one["category"]) for key, one in after.items()} == {
        place: (place, place[:3]) for place in places
    }
    assert {(key.split("/")[0], one["version"]) for key, one in after.items()} == {
        ("overwritten", 2),
        ("deleted", 1),
        ("new", 1),
    }
    with closing(empty.log.file.connect(read_only=True)) as connection:
        assert list(verify_chain(connection, lambda _: None)) == []
        assert list(verify_projections(connection, lambda _: None)) == []
        (of_import,) = connection.execute('SELECT count(*) FROM events WHERE "offset" > 751').fetchone()
    assert of_import == 750 > transaction.APPEND_PAGE


async def test_an_import_that_is_always_outrun_gives_up(empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some rounds it is 503, and nothing was imported."""
    catch_up = importing_module.Importing._catch_up
    number = 0

    async def disturbed(importing: importing_module.Importing) -> None:
        nonlocal number
        await catch_up(importing)
        number += 1
        await empty.ask("PUT", "/configs/a?environment=e", ("if-none-match", "*"), body={"value": number})
        await empty.ask("DELETE", "/configs/a?environment=e")

    monkeypatch.setattr(importing_module.Importing, "_catch_up", disturbed)
    refused = await restore(empty, of_the_original([entry("a"), entry("b")]))
    assert "too often" in assert_problem(refused, 503)["detail"]
    assert number == importing_module.MAX_TRIES
    assert await entries(empty) == []


async def test_values_sealed_and_opened_are_counted(site: Site, empty: Site) -> None:
    """As many as entries; what was only opened to show whose it is counts for nothing."""
    for number in range(3):
        await site.create(f"k{number}")
    backup = (await back_up(site))["backup_data"]
    assert await operations(site) == {"encrypt": 3, "decrypt": 3}
    await imported(empty, backup)
    await imported(empty, backup, overwrite=True)
    await imported(empty, backup)
    assert (await operations(empty))["encrypt"] == 6
    assert (await operations(empty))["decrypt"] == 0


async def operations(site: Site) -> dict[str, int]:
    found: dict[str, int] = (await site.ask("GET", "/stats/operations")).json()["encryption_operations"]
    return found


async def test_only_a_write_makes_a_user_key_known(site: Site, empty: Site) -> None:
    """A wrong password derives no user key; a dry run, or an import of nothing, does not have it remembered."""
    backup = of_the_original([entry()])
    await empty.ask("POST", "/import", ("X-Backup-Password", "wrong"), body={"backup_data": backup})
    assert empty.derived == ["wrong"]
    for _ in range(2):
        await imported(empty, backup, dry_run=True)
    assert empty.derived.count(USER_KEY) == 2
    for _ in range(2):
        await imported(empty, backup)
    assert empty.derived.count(USER_KEY) == 3
    assert empty.derived.count(PASSWORD) == 4


async def test_who_asks_is_in_the_events(empty: Site) -> None:
    """`X-Actor` and the address, as with any write."""
    body = {"backup_data": of_the_original([entry()])}
    await empty.ask("POST", "/import", HEADER, ("X-Actor", "someone"), body=body)
    (recorded,) = await empty.log.read(lambda reading: list(scan(reading)))
    assert recorded.body is not None
    assert (recorded.body.actor, recorded.body.address) == ("someone", "192.0.2.1")


async def test_a_backup_of_a_client_that_takes_nothing_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: no more of it is read than is sent, and what is written meanwhile is not in it."""
    monkeypatch.setattr(backups_module, "PART_ENTRIES", 1)
    for number in range(10):
        await site.create(f"k{number}", "v" * 1000)
    answer = Answer()
    answer.takes.clear()

    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()  # The client stays connected.
        assert message is not None
        return message

    task = asyncio.create_task(site.app(http_scope("POST", "/backup", [HEADER]), receive, answer.send))
    await eventually(lambda: answer.parts, PATIENCE)
    await site.create("later")
    assert len(answer.parts) == 1
    answer.takes.set()
    async with asyncio.timeout(PATIENCE):
        await task
    assert answer.whole().json()["total_keys"] == 10


async def test_a_backup_at_any_position_is_the_list_of_that_position(site: Site) -> None:
    """Through a random history of two user keys: what a backup holds is what the list said then, and says now."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    then: dict[str, list[dict[str, Any]]] = {}
    for number in range(40):
        key, user_key = chance.choice("abcd"), chance.choice([USER_KEY, USER_KEY, OTHER_KEY])
        body = {"value": number, "category": chance.choice(["", "c"])}
        match chance.choice(["create", "update", "update", "delete"]):
            case "create":
                new = {"key": key, "environment": "e", **body}
                answered = await site.ask("POST", "/configs", body=new, user_key=user_key)
            case "update":
                answered = await site.ask(
                    "PUT", f"/configs/{key}?environment=e", body=body, user_key=user_key
                )
            case _:
                answered = await site.ask("DELETE", f"/configs/{key}?environment=e", user_key=user_key)
        if (position := answered.header("x-osc-position")) is not None:
            then[position] = await entries(site)
    assert len(then) > 5, "too little of this history was accepted"
    for position, expected in then.items():
        backup = await back_up(site, f"?at={position}")
        blob = base64.b64decode(backup["backup_data"])
        derived = hashlib.sha256(blob[:32] + PASSWORD.encode()).digest()
        document = json.loads(Fernet(base64.urlsafe_b64encode(derived)).decrypt(blob[32:]))
        assert document["configurations"] == expected
        assert backup["total_keys"] == len(expected)


async def test_values_of_the_original_show_whose_they_are_by_opening(empty: Site) -> None:
    """An entry taken over from the original names no key: the caller's is overwritten, another's has failed."""
    for key, user_key in (("own", USER_KEY), ("foreign", OTHER_KEY)):
        derived = hashlib.sha256(bytes(64) + user_key.encode()).digest()
        token = Fernet(base64.urlsafe_b64encode(derived)).encrypt(b'"old"')
        await empty.log.write(lambda writing, k=key, t=token: writing.append([taken_over(k, t)]), size=1)  # type: ignore[misc]
    report = await imported(
        empty, of_the_original([entry("own", "new"), entry("foreign", "new")]), overwrite=True
    )
    assert report["imported"] == 1
    assert [one["key"] for one in report["failed_keys"]] == ["foreign"]
    assert [(one["key"], one["value"]) for one in await entries(empty)] == [("own", "new")]
    assert [(one["key"], one["value"]) for one in await entries(empty, OTHER_KEY)] == [("foreign", "old")]


def taken_over(key: str, token: bytes) -> Draft:
    """The event of an entry as `oscd import-legacy` takes it over."""
    return Draft(
        type=EventType.CREATED,
        environment="e",
        key=key,
        category=None,
        version=1,
        created_at=None,
        event_id=bytes(16),
        key_id=None,
        replaces=None,
        body=Body(token),
        imported=True,
    )
