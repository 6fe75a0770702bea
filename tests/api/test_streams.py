"""The calls on streams: who may open which, what is answered, and what is told of those that are open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from oscd.api.edge import Message
from oscd.events.cipher import Cipher
from oscd.events.keyring import KeyRing
from oscd.events.position import Position
from oscd.streams.ticket import credential
from tests.api.asgi import (
    OTHER_KEY,
    PATIENCE,
    USER_KEY,
    Header,
    Opened,
    Site,
    assert_problem,
    http_scope,
    opened_site,
)
from tests.support.waiting import eventually

API_KEY, NEXT_KEY = b"an-api-key-of-32-characters-long", b"the-key-that-comes-after-the-one"
WITH_KEY: Header = ("X-API-Key", API_KEY.decode())
START = Position({}).encode()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge that asks for an API key."""
    async with opened_site(tmp_path, api_keys=(API_KEY, NEXT_KEY)) as site:
        yield site


def refused(opened: Opened, status: int) -> str:
    """Check that a stream was refused with a problem; gives what a person is told."""
    assert opened.ended
    detail: str = assert_problem(opened.whole(), status)["detail"]
    return detail


async def ticket_for(site: Site, **wanted: object) -> str:
    answered = await site.ask("POST", "/sse/tickets", WITH_KEY, body=wanted)
    assert answered.status == 200, answered.body
    ticket: str = answered.json()["ticket"]
    return ticket


def keys(opened: Opened) -> list[str]:
    return [event.data["key"] for event in opened.stream.events if "key" in event.data]


async def test_a_stream_is_answered_as_a_stream(site: Site) -> None:
    """Contract §6: status, type, no caching, no buffering by proxies, no length, and an id for every request."""
    opened = await site.subscribe()
    assert opened.status == 200
    assert opened.header("content-type") == "text/event-stream; charset=utf-8"
    assert opened.header("cache-control") == "no-cache"
    assert opened.header("x-accel-buffering") == "no"
    assert opened.header("x-request-id")
    assert opened.header("content-length") is None
    assert not opened.ended


async def test_a_change_reaches_a_stream(site: Site) -> None:
    """What one client writes another is told, with the members of contract §6 and no value."""
    opened = await site.subscribe("?environment=e&category=c")
    await site.create("other", environment="f", category="c")
    await site.create("k", "secret", category="c")
    (event,) = await opened.has("created")
    assert set(event.data) == {"key", "environment", "category", "timestamp", "node_id", "version", "data"}
    assert (event.data["key"], event.data["environment"], event.data["category"]) == ("k", "e", "c")
    assert (event.data["version"], event.data["node_id"], event.data["data"]) == (1, "tested", None)
    assert not any(b"secret" in part for part in opened.parts)


async def test_values_go_out_to_who_sends_their_key(site: Site) -> None:
    """`values=true` with `X-User-Key`: own values in the frames, null for others, and nothing may be stored."""
    opened = await site.subscribe("?values=true", user_key=USER_KEY)
    assert opened.header("cache-control") == "no-cache, no-store"
    await site.create("own", {"a": 1})
    await site.create("foreign", "theirs", user_key=OTHER_KEY)
    events = await opened.has("created", 2)
    assert [event.data["data"] for event in events] == [{"value": {"a": 1}}, None]


async def test_values_are_only_sent_where_they_are_asked_for(site: Site) -> None:
    """A user key that is sent without `values=true` opens nothing, and costs no derivation."""
    for query in ("", "?values=false", "?values="):
        opened = await site.subscribe(query, user_key=OTHER_KEY)
        await site.create(f"k{query}", user_key=USER_KEY)
        (event,) = await opened.has("created")
        assert event.data["data"] is None
    assert OTHER_KEY not in site.derived


@pytest.mark.parametrize("user_key", [None, "", "short"])
async def test_values_without_a_user_key_are_refused(site: Site, user_key: str | None) -> None:
    """401 for a missing or short key, before the log or the limit is looked at; nothing is derived."""
    site.registry.end_all()
    assert "X-User-Key" in refused(await site.subscribe("?values=true", user_key=user_key), 401)
    assert site.derived == []


async def test_empty_filters_mean_none(site: Site) -> None:
    """A parameter without text is as if it were not there, and unknown ones count for nothing."""
    opened = await site.subscribe("?key=&environment=&category=&after=&from=&ticket=&other=x")
    assert opened.stream.events[0].data["filters"] == {"key": None, "environment": None, "category": None}


async def test_filters_are_decoded(site: Site) -> None:
    """Names may hold anything but control characters, and are shown as they were meant."""
    opened = await site.subscribe(f"?key={quote('a/b +é&=🔑')}&environment=x+y")
    assert opened.stream.events[0].data["filters"] == {
        "key": "a/b +é&=🔑",
        "environment": "x y",
        "category": None,
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=beginning", "from"),
        ("values=yes", "values"),
        (f"key={'k' * 256}", "key"),
        (f"environment={'e' * 101}", "environment"),
        (f"category={'c' * 101}", "category"),
        ("key=%00", "key"),
        ("key=a&key=b", "key"),
    ],
)
async def test_a_query_that_is_wrong_is_refused(site: Site, query: str, field: str) -> None:
    """422 names the parameter; no stream was begun."""
    opened = await site.subscribe(f"?{query}")
    refused(opened, 422)
    assert [error["loc"] for error in opened.whole().json()["errors"]] == [["query", field]]
    assert site.registry.active == 0


async def test_last_event_id_beats_after_and_after_beats_from(site: Site) -> None:
    """Contract §6: a browser that reconnects sends its last id with the address it was given once."""
    first = (await site.create("a")).header("x-osc-position")
    second = (await site.create("b")).header("x-osc-position")
    assert first
    assert second
    by_header = await site.subscribe(f"?after={first}&from=snapshot", ("Last-Event-ID", second))
    by_after = await site.subscribe(f"?after={first}&from=snapshot")
    by_from = await site.subscribe("?from=snapshot")
    empty = await site.subscribe(f"?after={first}", ("Last-Event-ID", ""))
    await site.create("c")
    for opened, expected in (
        (by_header, ["c"]),
        (by_after, ["b", "c"]),
        (by_from, ["a", "b", "c"]),
        (empty, ["b", "c"]),
    ):
        await opened.has("created", 1 if opened in (by_header, by_from) else 2)
        assert keys(opened) == expected
    assert by_from.stream.kinds() == ["connected", "snapshot", "snapshot", "bookmark", "created"]
    assert by_from.stream.events[0].at is None
    assert by_header.stream.events[0].at == second


@pytest.mark.parametrize("text", ["x", "é" * 10, "A" * 5000, "a\x85b"])
async def test_a_last_id_that_is_no_position_is_reset(site: Site, text: str) -> None:
    """Whatever a client sends there, it is told `reset`, and goes on from the head."""
    opened = await site.subscribe("", ("Last-Event-ID", text))
    (reset,) = await opened.has("reset")
    assert reset.data == {"reason": "unreadable"}
    refused(await site.subscribe("", ("Last-Event-ID", text), ("Last-Event-ID", text)), 400)


async def test_a_line_break_in_a_position_never_reaches_the_stream(site: Site) -> None:
    """`after` is a client's text: it must not become a field of the stream."""
    opened = await site.subscribe(f"?after={START}%0Aevent:%20forged%0Adata:%20%7B%7D%0A%0A")
    await opened.has("reset")
    assert opened.stream.kinds() == ["connected", "reset"]


async def test_a_head_is_answered_without_a_stream(guarded: Site) -> None:
    """HEAD has the headers of the stream, takes no place, and is guarded like it."""
    answered = await guarded.ask("HEAD", "/sse/subscribe", WITH_KEY)
    assert (answered.status, answered.body) == (200, b"")
    assert answered.header("content-type") == "text/event-stream; charset=utf-8"
    assert guarded.registry.active == 0
    assert (await guarded.ask("HEAD", "/sse/subscribe")).status == 403
    assert (await guarded.ask("HEAD", "/sse/subscribe?ticket=forged")).status == 403


async def test_other_methods_are_not_allowed(site: Site) -> None:
    """A stream is asked for with GET, a ticket with POST."""
    assert_problem(await site.ask("POST", "/sse/subscribe"), 405)
    assert_problem(await site.ask("GET", "/sse/tickets"), 405)


async def test_over_the_limit_a_stream_is_refused(tmp_path: Path) -> None:
    """503 with `Retry-After`, until one of the others has ended."""
    async with opened_site(tmp_path, most_streams=2) as site:
        first, _ = await site.subscribe(), await site.subscribe()
        third = await site.subscribe()
        assert "OSC_SSE_MAX_SUBSCRIPTIONS" in refused(third, 503)
        assert third.header("retry-after") in ("1", "2")
        await first.leave()
        await eventually(lambda: site.registry.active == 1)
        assert (await site.subscribe()).status == 200


async def test_a_node_that_shuts_down_says_goodbye_and_takes_no_more(site: Site) -> None:
    """Open streams end by themselves, whole, with the reason; new ones get 503."""
    opened = await site.subscribe()
    site.registry.end_all()
    async with asyncio.timeout(PATIENCE):
        await opened.task
    assert opened.ended
    assert opened.stream.events[-1].data == {"reason": "shutdown"}
    late = await site.subscribe()
    refused(late, 503)
    assert late.header("retry-after") == "2"


async def test_a_client_that_leaves_frees_its_place(site: Site) -> None:
    """A closed connection ends the stream, is counted as a disconnection, and its line says how it ended."""
    opened = await site.subscribe()
    assert site.registry.active == 1
    await opened.leave()
    await eventually(lambda: site.registry.active == 0)
    statistics = (await site.ask("GET", "/sse/stats")).json()
    assert statistics["connection_health"]["disconnections_detected"] == 1
    assert statistics["subscriptions"]["closed"] == 1
    (line,) = [line for line in site.lines if line["route"] == "/sse/subscribe"]
    assert (line["status"], line["whole"]) == (200, False)


async def test_a_goodbye_is_no_disconnection(site: Site) -> None:
    """What this node ended is not counted as a client that went away."""
    opened = await site.subscribe()
    site.registry.end_all()
    await opened.has("goodbye")
    await eventually(lambda: site.registry.active == 0)
    statistics = (await site.ask("GET", "/sse/stats")).json()
    assert statistics["connection_health"]["disconnections_detected"] == 0
    assert statistics["subscriptions"]["closed"] == 1


async def test_a_client_that_does_not_read_is_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that the server cut because nobody read it ends as a disconnection, and is no fault of ours."""
    silent = Opened()

    async def cut(message: Message) -> None:
        await silent.send(message)
        if silent.parts:
            raise ConnectionAbortedError("the client does not read")

    async with asyncio.timeout(PATIENCE):
        await site.app(http_scope("GET", "/sse/subscribe", user_key=None), silent.receive, cut)
    assert silent.stream.kinds() == ["connected"]
    await eventually(lambda: site.registry.active == 0)
    assert site.counters.registry.get_sample_value("sse_disconnections_total") == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/sse/subscribe"),
        ("GET", "/sse/stats"),
        ("GET", "/sse/subscriptions"),
        ("POST", "/sse/tickets"),
    ],
)
@pytest.mark.parametrize("headers", [(), (("X-API-Key", "wrong"),)])
async def test_streams_need_an_api_key(
    guarded: Site, method: str, target: str, headers: tuple[Header, ...]
) -> None:
    """403 without the key or with another; `/sse/health` alone asks for none."""
    assert_problem(await guarded.ask(method, target, *headers), 403)
    assert (await guarded.ask("GET", "/sse/health", *headers)).status == 200


async def test_an_api_key_opens_a_stream_that_ends_with_it(guarded: Site) -> None:
    """Removing an API key ends the streams it opened, and leaves those of others."""
    gone = await guarded.subscribe("", WITH_KEY)
    kept = await guarded.subscribe("", ("X-API-Key", NEXT_KEY.decode()))
    guarded.registry.revoke({credential(NEXT_KEY)})
    (goodbye,) = await gone.has("goodbye")
    assert goodbye.data == {"reason": "api_key_removed"}
    assert not kept.ended


async def test_a_key_that_is_removed_while_its_stream_opens_opens_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation: between the look at the key and the stream lies a derivation, which may take seconds."""
    holding, go_on = asyncio.Event(), asyncio.Event()
    derive = KeyRing.derive

    async def slow(keyring: KeyRing, user_key: str) -> Cipher:
        holding.set()
        await go_on.wait()
        return await derive(keyring, user_key)

    monkeypatch.setattr(KeyRing, "derive", slow)
    api_keys = [API_KEY, NEXT_KEY]
    async with opened_site(tmp_path, api_keys=api_keys) as site:
        opening = asyncio.ensure_future(site.subscribe("?values=true", WITH_KEY, user_key=USER_KEY))
        await holding.wait()
        api_keys.remove(API_KEY)
        site.registry.revoke({credential(NEXT_KEY)})
        go_on.set()
        refused(await opening, 403)


async def test_a_ticket_opens_a_stream_without_a_key(guarded: Site) -> None:
    """A browser's way: the ticket stands for the key, and for the filters where none are repeated."""
    ticket = await ticket_for(guarded, key="k", category="c")
    for query in (
        f"?ticket={ticket}",
        f"?ticket={ticket}&key=k&category=c",
        f"?key=k&category=c&ticket={ticket}",
    ):
        opened = await guarded.subscribe(query)
        assert opened.status == 200
        assert opened.stream.events[0].data["filters"] == {"key": "k", "environment": None, "category": "c"}
        await opened.leave()


async def test_a_ticket_opens_nothing_but_its_stream(guarded: Site) -> None:
    """No other path and no other filters, whatever stands beside it."""
    ticket = await ticket_for(guarded, key="k")
    for method, target in (
        ("GET", f"/configs?ticket={ticket}"),
        ("GET", f"/configs/k?environment=e&ticket={ticket}"),
        ("POST", f"/configs?ticket={ticket}"),
        ("GET", f"/sse/stats?ticket={ticket}"),
        ("GET", f"/sse/subscriptions?ticket={ticket}"),
        ("POST", f"/sse/tickets?ticket={ticket}"),
        ("GET", f"/sse/subscribe/?ticket={ticket}"),
        ("GET", f"//sse/subscribe?ticket={ticket}"),
        ("GET", f"/stats?x=/sse/subscribe&ticket={ticket}"),
    ):
        answered = await guarded.ask(method, target)
        assert answered.status == 403, (method, target)
    for query in ("&key=other", "&key=k&environment=e", "&environment=e"):
        assert "other filters" in refused(await guarded.subscribe(f"?ticket={ticket}{query}"), 403)
    assert (await guarded.ask("POST", f"/sse/subscribe?ticket={ticket}")).status == 403


@pytest.mark.parametrize(
    "query", ["?ticket=", "?ticket=x", "?ticket=v1.e30.e30", "?ticket", "?xticket=y", "?%74icket=y"]
)
async def test_what_is_no_ticket_opens_nothing(guarded: Site, query: str) -> None:
    """Forged, empty or misspelt: 403, as without it."""
    refused(await guarded.subscribe(query), 403)
    assert guarded.registry.active == 0


async def test_a_ticket_given_twice_is_refused(guarded: Site) -> None:
    """Two tickets are no ticket."""
    ticket = await ticket_for(guarded)
    assert "given once" in refused(await guarded.subscribe(f"?ticket={ticket}&ticket={ticket}"), 403)


@pytest.mark.parametrize("rest", ["&values=nope", f"&environment={'e' * 101}", "&values=true", "&from=x"])
async def test_a_ticket_is_judged_before_anything_else(guarded: Site, rest: str) -> None:
    """403 comes before 401 and 422: who may not ask is not told what else is wrong."""
    twice = [("x-user-key", USER_KEY), ("x-user-key", USER_KEY)]
    refused(await guarded.subscribe(f"?ticket=v1.AA.AA{rest}", user_key=None), 403)
    refused(await guarded.subscribe(f"?ticket=v1.AA.AA{rest}", *twice, user_key=None), 403)


async def test_a_stream_keeps_no_key_in_memory(guarded: Site) -> None:
    """A stream may last for days: what the request showed is let go of once it is open."""
    opened = await guarded.subscribe("?values=true", WITH_KEY, user_key=USER_KEY)
    shown = json.dumps([[str(part) for part in header] for header in opened.scope["headers"]])
    assert USER_KEY not in shown
    assert API_KEY.decode() not in shown
    entry = {"key": "k", "value": "v", "environment": "e"}
    assert (await guarded.ask("POST", "/configs", WITH_KEY, body=entry)).status == 201
    (event,) = await opened.has("created")
    assert event.data["data"] == {"value": "v"}


async def test_where_both_are_shown_both_must_be_good(guarded: Site) -> None:
    """A wrong key is not healed by a ticket, nor a wrong ticket by a key."""
    ticket = await ticket_for(guarded)
    refused(await guarded.subscribe(f"?ticket={ticket}", ("X-API-Key", "wrong")), 403)
    refused(await guarded.subscribe("?ticket=forged", WITH_KEY), 403)
    assert (await guarded.subscribe(f"?ticket={ticket}", WITH_KEY)).status == 200


async def test_a_stream_ends_with_its_ticket(guarded: Site) -> None:
    """The ticket's end is the stream's, and its key's is, too; after that it opens nothing."""
    ticket = await ticket_for(guarded, expires_in=1)
    opened = await guarded.subscribe(f"?ticket={ticket}")
    (goodbye,) = await opened.has("goodbye")
    assert goodbye.data == {"reason": "ticket_expired"}
    assert "expired" in refused(await guarded.subscribe(f"?ticket={ticket}"), 403)
    other = await guarded.subscribe(f"?ticket={await ticket_for(guarded)}")
    guarded.registry.revoke({credential(NEXT_KEY)})
    assert (await other.has("goodbye"))[0].data == {"reason": "api_key_removed"}


async def test_a_ticket_dies_with_its_key(tmp_path: Path) -> None:
    """After a rotation the tickets of the old key are refused."""
    api_keys = [API_KEY, NEXT_KEY]
    async with opened_site(tmp_path, api_keys=api_keys) as site:
        ticket = await ticket_for(site)
        api_keys.remove(API_KEY)
        assert "API key is gone" in refused(await site.subscribe(f"?ticket={ticket}"), 403)


async def test_a_keyless_node_issues_tickets_too(site: Site) -> None:
    """One page of a browser works with and without a required key; a forged ticket is refused all the same."""
    answered = await site.ask("POST", "/sse/tickets", body={"key": "k"})
    opened = await site.subscribe(f"?ticket={answered.json()['ticket']}")
    assert opened.stream.events[0].data["filters"]["key"] == "k"
    refused(await site.subscribe("?ticket=forged"), 403)


async def test_no_ticket_is_in_any_log_line(guarded: Site) -> None:
    """Contract §2: no log line holds a query string, whatever became of the request."""
    ticket = await ticket_for(guarded)
    await (await guarded.subscribe(f"?ticket={ticket}")).leave()
    await guarded.subscribe(f"?ticket={ticket}&key=other")
    await guarded.ask("GET", f"/configs?ticket={ticket}")
    assert len(guarded.lines) == 4
    for line in guarded.lines:
        assert ticket not in json.dumps(line)
        assert API_KEY.decode() not in json.dumps(line)


@pytest.mark.parametrize(
    ("query", "body", "filters"),
    [
        ("", None, {}),
        ("?key=k&environment=e", None, {"key": "k", "environment": "e"}),
        ("", {"key": "k", "category": "c"}, {"key": "k", "category": "c"}),
        ("?key=k", {"category": "c"}, {"key": "k", "category": "c"}),
        ("?key=k", {"key": "k", "environment": None}, {"key": "k"}),
        ("?key=", {"key": "", "other": 1}, {}),
    ],
)
async def test_a_ticket_is_asked_for_in_query_or_body(
    site: Site, query: str, body: dict[str, object] | None, filters: dict[str, str]
) -> None:
    """Filters come in the query, in the body or in both; an empty body is fine, with a JSON type, too."""
    headers = [("Content-Type", "application/json")] if body is None else []
    answered = await site.ask("POST", f"/sse/tickets{query}", *headers, body=body, user_key=None)
    assert answered.status == 200, answered.body
    assert set(answered.json()) == {"ticket", "expires_at"}
    assert answered.header("cache-control") == "no-store"
    opened = await site.subscribe(f"?ticket={answered.json()['ticket']}")
    assert (
        opened.stream.events[0].data["filters"]
        == {"key": None, "environment": None, "category": None} | filters
    )


async def test_filters_that_contradict_each_other_are_refused(site: Site) -> None:
    """A ticket is for one set of filters: query and body must not say two things."""
    answered = await site.ask("POST", "/sse/tickets?key=a", body={"key": "b"})
    assert assert_problem(answered, 422)["errors"][0]["loc"] == ["query", "key"]


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        (1, 200),
        (86400, 200),
        (0, 422),
        (-1, 422),
        (86401, 422),
        ("9", 422),
        (1.5, 422),
        (True, 422),
        (None, 422),
    ],
)
async def test_a_ticket_lasts_a_day_at_most(site: Site, seconds: object, status: int) -> None:
    """`expires_in` is a whole number of seconds from 1 to a day."""
    answered = await site.ask("POST", "/sse/tickets", body={"expires_in": seconds})
    assert answered.status == status, answered.body


@pytest.mark.parametrize("body", [[], "x", 1, {"key": 1}, {"key": "k" * 256}, {"category": "\0"}])
async def test_a_ticket_request_that_is_wrong_is_refused(site: Site, body: object) -> None:
    """Well-formed JSON of the wrong shape: 422."""
    assert_problem(await site.ask("POST", "/sse/tickets", body=body), 422)


async def test_statistics_are_shaped_as_the_contract_says(site: Site) -> None:
    """Contract §6, `/sse/stats`: exactly these members, before anything happened."""
    answered = await site.ask("GET", "/sse/stats")
    assert answered.json() == {
        "subscriptions": {
            "total_created": 0,
            "active": 0,
            "closed": 0,
            "wildcard": 0,
            "by_key": {},
            "by_environment": {},
            "by_category": {},
            "last_created_at": None,
        },
        "events": {
            "total_sent": 0,
            "by_type": {"created": 0, "updated": 0, "deleted": 0, "sync": 0},
            "dropped_queue_full": 0,
            "last_sent_at": None,
        },
        "connection_health": {"keepalive_sent": 0, "disconnections_detected": 0},
        "performance": {"average_subscription_duration_seconds": 0.0, "max_queue_size_reached": 0},
    }


async def test_statistics_count_what_streams_do(site: Site) -> None:
    """Who subscribes to what, what was sent, and when."""
    everything = await site.subscribe()
    filtered = [await site.subscribe("?key=k&environment=e"), await site.subscribe("?key=k&category=c")]
    await site.create("k", category="c")
    for opened in (everything, *filtered):
        await opened.has("created")
    await filtered[0].leave()
    await eventually(lambda: site.registry.active == 2)
    site.registry.report()
    document = (await site.ask("GET", "/sse/stats")).json()
    subscriptions = document["subscriptions"]
    assert {name: subscriptions[name] for name in ("total_created", "active", "closed", "wildcard")} == {
        "total_created": 3,
        "active": 2,
        "closed": 1,
        "wildcard": 1,
    }
    assert (subscriptions["by_key"], subscriptions["by_environment"]) == ({"k": 1}, {})
    assert subscriptions["by_category"] == {"c": 1}
    assert document["events"]["by_type"] == {"created": 3, "updated": 0, "deleted": 0, "sync": 0}
    assert document["events"]["total_sent"] == 3
    for time in (subscriptions["last_created_at"], document["events"]["last_sent_at"]):
        assert time.endswith("Z")
    health = (await site.ask("GET", "/sse/health")).json()
    assert health == {"status": "healthy", "active_subscriptions": 2, "total_events_sent": 3}


async def test_a_merged_backlog_is_told_and_counted(site: Site) -> None:
    """Contract §6: a `sync` goes to each stream, whatever its filter, and into statistics and metrics."""
    streams = [await site.subscribe(), await site.subscribe("?key=none")]
    site.synced.note(3)
    for stream in streams:
        (event,) = await stream.has("sync")
        assert (event.at, event.data["data"], event.data["node_id"]) == (None, {"events": 3}, "tested")
    site.registry.report()
    document = (await site.ask("GET", "/sse/stats")).json()
    assert (document["events"]["by_type"]["sync"], document["events"]["total_sent"]) == (2, 2)
    metrics = (await site.ask("GET", "/metrics")).body
    assert b'sse_events_sent_total{event_type="sync"} 2' in metrics


async def test_open_streams_are_listed(site: Site) -> None:
    """Contract §6, `/sse/subscriptions`: exactly these members for each stream that is open."""
    opened = await site.subscribe("?environment=e")
    (listed,) = (await site.ask("GET", "/sse/subscriptions")).json()
    assert set(listed) == {
        *("subscription_id", "filters", "created_at"),
        *("duration_seconds", "queue_size", "queue_max_size"),
    }
    assert listed["subscription_id"] == opened.stream.events[0].data["subscription_id"]
    assert listed["filters"] == {"key": None, "environment": "e", "category": None}
    assert (listed["queue_size"], listed["queue_max_size"]) == (0, None)
    assert listed["duration_seconds"] >= 0
    await opened.leave()
    await eventually(lambda: site.registry.active == 0)
    assert (await site.ask("GET", "/sse/subscriptions")).json() == []


async def test_health_is_shaped_as_the_contract_says(site: Site) -> None:
    """Contract §6, `/sse/health`: exactly these members, and no key is needed."""
    answered = await site.ask("GET", "/sse/health", user_key=None)
    assert answered.json() == {"status": "healthy", "active_subscriptions": 0, "total_events_sent": 0}


async def test_streams_do_not_count_as_slow_requests(site: Site) -> None:
    """How long a stream lasts is no duration of a request; that it was asked for is counted."""
    await (await site.subscribe()).leave()
    text = (await site.ask("GET", "/metrics")).body.decode()
    assert 'osc_http_requests_total{endpoint="/sse/subscribe",method="GET",status_code="200"} 1.0' in text
    assert 'osc_http_request_duration_seconds_count{endpoint="/sse/subscribe"' not in text
    assert "sse_subscriptions_total 1.0" in text


async def test_a_page_of_another_origin_may_follow_where_it_is_listed(tmp_path: Path) -> None:
    """CORS headers go on a stream as on any answer."""
    async with opened_site(tmp_path, origins=frozenset({"https://page.example"})) as site:
        opened = await site.subscribe("", ("Origin", "https://page.example"))
        assert opened.header("access-control-allow-origin") == "https://page.example"
