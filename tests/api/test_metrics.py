"""`/metrics` and `/stats/operations`: every answer is counted once, under names no client can add to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from oscd.api import edge as edge_module
from oscd.api.edge import Edge, Message, Receive, Scope, Send
from oscd.api.guard import Guard
from oscd.api.throttle import FailureThrottle
from oscd.streams.ticket import Tickets
from tests.api.asgi import OTHER_KEY, USER_KEY, Answer, Site, assert_problem, http_scope, opened_site

API_KEY = "an-api-key-of-this-test"
ENTRY = "/configs/k?environment=e"


async def scraped(site: Site) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answered = await site.ask("GET", "/metrics", user_key=None)
    assert answered.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answered.body.decode())
        for sample in family.samples
    }


def counted(site: Site, name: str, **labels: str) -> float:
    return site.counters.registry.get_sample_value(name, labels) or 0


def requests(site: Site) -> Counter[tuple[str, str, str]]:
    """How often each method, endpoint and status was counted."""
    return Counter(
        {
            (sample.labels["method"], sample.labels["endpoint"], sample.labels["status_code"]): int(
                sample.value
            )
            for family in site.counters.registry.collect()
            for sample in family.samples
            if sample.name == "osc_http_requests_total"
        }
    )


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path, api_keys=(API_KEY.encode(),)) as site:
        yield site


async def test_metrics_are_for_scrapers(site: Site) -> None:
    """The text format by its very name, never stored; `HEAD` works."""
    for method in ("GET", "HEAD"):
        answered = await site.ask(method, "/metrics", user_key=None)
        assert answered.status == 200
        assert answered.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        assert answered.header("cache-control") == "no-store"
    assert ("osc_config_entries", ()) in await scraped(site)


async def test_metrics_need_no_key_and_statistics_do(guarded: Site) -> None:
    """A scraper needs no API key; who wants JSON does."""
    assert (await guarded.ask("GET", "/metrics", user_key=None)).status == 200
    assert_problem(await guarded.ask("GET", "/stats/operations"), 403)
    assert (await guarded.ask("GET", "/stats/operations", ("x-api-key", API_KEY))).status == 200


async def test_every_answer_is_counted_once(site: Site) -> None:
    """Whatever the answer and whichever layer gave it; paths and methods that nothing takes count as one."""
    asked = [
        ("GET", "/", ("GET", "/", "200")),
        ("HEAD", "/health", ("HEAD", "/health", "200")),
        ("GET", "/configs", ("GET", "/configs", "200")),
        ("GET", ENTRY, ("GET", "/configs/:key", "404")),
        ("GET", "/configs/k", ("GET", "/configs/:key", "422")),
        ("BREW", "/configs", ("other", "unmatched", "405")),
        ("OPTIONS", "/configs", ("other", "unmatched", "200")),
        ("GET", "/secret-path", ("other", "unmatched", "404")),
        ("GET", "//configs", ("other", "unmatched", "404")),
        ("GET", "no-path", ("other", "unmatched", "400")),
    ]
    for method, target, _ in asked:
        await site.ask(method, target)
    assert requests(site) == Counter(series for _, _, series in asked)
    await site.ask("GET", "/another-path")
    assert requests(site)["other", "unmatched", "404"] == 3


async def test_refusals_are_counted_by_kind(guarded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused before any route, by a route, and where none is; and faults of our own."""
    key = ("x-api-key", API_KEY)
    await guarded.ask("GET", "/configs")
    await guarded.ask("GET", "/nothing", key)
    await guarded.ask("BREW", "/configs", key)
    await guarded.ask("GET", ENTRY, key)
    await guarded.ask("GET", ENTRY, key, user_key=None)
    await guarded.ask("GET", "/configs/k", key)
    await guarded.ask("POST", "/configs", key, chunks=(b"{",))
    monkeypatch.setattr(guarded.node, "statistics", None)
    await guarded.ask("GET", "/stats", key)
    errors = {
        (sample.labels["endpoint"], sample.labels["error_type"]): sample.value
        for family in guarded.counters.registry.collect()
        for sample in family.samples
        if sample.name == "osc_api_errors_total"
    }
    assert errors == {
        ("unmatched", "auth_error"): 1,
        ("unmatched", "not_found"): 1,
        ("unmatched", "method_not_allowed"): 1,
        ("/configs/:key", "not_found"): 1,
        ("/configs/:key", "auth_error"): 1,
        ("/configs/:key", "validation_error"): 1,
        ("/configs", "bad_request"): 1,
        ("/stats", "internal_error"): 1,
    }


async def test_ten_thousand_keys_add_no_series(site: Site) -> None:
    """Key names, environments, paths and methods are in no label: what they ask for is counted, not who for."""
    await site.ask("GET", "/configs/absent?environment=e")
    await site.ask("GET", "/nothing")
    before = await scraped(site)
    await scraped(site)
    for first in range(0, 10_000, 500):
        await asyncio.gather(
            *(
                site.ask("GET", f"/configs/key-{number}?environment=e{number}")
                for number in range(first, first + 500)
            )
        )
    for number in range(100):
        await site.ask(f"BREW{number}", f"/{number}")
        await site.ask("GET", f"/nothing/{number}")
    after = await scraped(site)
    labels = (("endpoint", "/configs/:key"), ("method", "GET"), ("status_code", "404"))
    assert after["osc_http_requests_total", labels] == 10_001
    own = {series for series in after if "/metrics" in dict(series[1]).values()}
    assert after.keys() - own == before.keys()


async def test_values_are_counted_where_callers_get_or_give_them(site: Site) -> None:
    """A create and an update seal one each, a read opens one, a list each of its entries. What opens an entry to
    show who may write it, and what is refused, counts as none.
    """
    for key in ("a", "b", "c"):
        await site.create(key)
    await site.create("of-somebody-else", user_key=OTHER_KEY)
    sealed, opened = 4, 0
    await site.ask("PUT", "/configs/a?environment=e", body={"value": 2})
    sealed += 1
    await site.ask("POST", "/configs", body={"key": "a", "value": 1, "environment": "e"})
    await site.ask("PUT", "/configs/of-somebody-else?environment=e", body={"value": 2})
    await site.ask("GET", "/configs/of-somebody-else?environment=e")
    await site.ask("DELETE", "/configs/c?environment=e")
    await site.ask("GET", "/configs/a?environment=e")
    opened += 1
    await site.ask("GET", "/configs")
    await site.ask("GET", "/configs?limit=10")
    opened += 4
    assert counted(site, "osc_encryption_operations_total", operation="encrypt") == sealed
    assert counted(site, "osc_encryption_operations_total", operation="decrypt") == opened


async def test_events_are_counted_where_they_are_appended(site: Site) -> None:
    """Each write that changed something is an event; refused ones and looks at the disk are none."""
    await site.create("k")
    await site.ask("PUT", ENTRY, body={"value": 2})
    await site.ask("POST", "/configs", body={"key": "k", "value": 1, "environment": "e"})
    await site.ask("GET", "/ready")
    await site.ask("DELETE", ENTRY)
    found = await scraped(site)
    assert found["osc_log_events_appended_total", ()] == 3
    assert found["osc_log_commit_duration_seconds_count", ()] == 3
    assert found["osc_log_head_offset", ()] == 3
    assert found["osc_config_entries", ()] == 0


async def test_statistics_of_operations_have_the_shape_of_the_contract(site: Site) -> None:
    """Whole numbers, routes with braces, and every outcome there is, at 0 where there was none."""
    await site.create("k")
    await site.ask("GET", ENTRY)
    await site.ask("GET", "/configs/absent?environment=e")
    await site.ask("DELETE", "/configs/absent?environment=e")
    answered = await site.ask("GET", "/stats/operations")
    assert answered.header("content-type") == "application/json"
    assert answered.json() == {
        "read_operations": {"success": 1, "not_found": 1, "error": 0},
        "write_operations": {
            "create_success": 1,
            "create_error": 0,
            "update_success": 0,
            "update_not_found": 0,
            "update_error": 0,
            "delete_success": 0,
            "delete_not_found": 1,
            "delete_error": 0,
        },
        "encryption_operations": {"encrypt": 1, "decrypt": 1},
        "total_http_requests": {
            "POST_/configs_201": 1,
            "GET_/configs/{key}_200": 1,
            "GET_/configs/{key}_404": 1,
            "DELETE_/configs/{key}_404": 1,
        },
    }
    assert b".0" not in answered.body


async def test_no_secret_is_in_a_metric(site: Site) -> None:
    """Neither keys nor values, key names, environments, categories or actors (invariant 7)."""
    await site.create("secret-name", "secret-value", "secret-environment", category="secret-category")
    await site.ask("GET", "/configs/secret-name?environment=secret-environment", ("x-actor", "secret-actor"))
    await site.ask("SECRET", "/secret?secret=secret", ("x-user-key", "secret-user-key"))
    for target in ("/metrics", "/stats/operations"):
        text = (await site.ask("GET", target)).body.lower()
        assert b"secret" not in text
        assert USER_KEY.encode() not in text


@pytest.mark.parametrize("route", ["/sse/subscribe", "/configs"])
async def test_only_what_ends_by_itself_is_timed(route: str) -> None:
    """A stream is counted when it ends, but how long its client stayed is no duration of a request."""
    calls: list[tuple[str, str, int, bool, str | None]] = []

    async def framework(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["oscd"].route = route
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    await ask_edge(framework, calls)
    assert calls == [("GET", route, 200, route != "/sse/subscribe", None)]


async def test_an_answer_that_breaks_off_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Its status went out long before; the fault is counted all the same."""
    calls: list[tuple[str, str, int, bool, str | None]] = []

    async def framework(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError

    await ask_edge(framework, calls)
    assert [call[2:] for call in calls] == [(200, True, "internal_error")]
    assert "could not be finished" in caplog.text


async def ask_edge(framework: edge_module.App, calls: list[tuple[str, str, int, bool, str | None]]) -> None:
    """Send one request to an edge around `framework`; `calls` gets what it counts, and whether that was timed."""

    def count(method: str, route: str, status: int, seconds: float | None, error: str | None) -> None:
        calls.append((method, route, status, seconds is not None, error))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    edge = Edge(
        framework,
        guard=lambda: Guard(api_keys=(), hosts=None, origins=frozenset()),
        throttle=FailureThrottle(),
        trusted_proxies=(),
        max_body_bytes=1024,
        max_import_bytes=1024,
        log=lambda **_: None,
        count=count,
        redeem=Tickets(lambda: bytes(64)).redeem,
    )
    await edge(http_scope("GET", "/"), receive, Answer().send)
