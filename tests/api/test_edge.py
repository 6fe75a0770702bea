"""The outermost layer: what every answer carries, the log line of each request, bounds that requests share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from oscd.api import edge as edge_module
from oscd.api.service import Readiness
from oscd.api.throttle import BURST
from tests.api.asgi import (
    OTHER_KEY,
    PATIENCE,
    Answer,
    Answered,
    HeldBody,
    Site,
    assert_problem,
    http_scope,
    opened_site,
)

EVERY_KIND = [
    ("GET", "/", 200),
    ("GET", "/configs", 200),
    ("GET", "/configs/absent?environment=e", 404),
    ("GET", "/configs/absent", 422),
    ("BREW", "/configs", 405),
    ("GET", "/nothing", 404),
    ("OPTIONS", "/configs", 200),
    ("HEAD", "/health", 200),
    ("GET", "no-path", 400),
]


@pytest.mark.parametrize(("method", "target", "status"), EVERY_KIND)
async def test_every_answer_carries_the_request_id(site: Site, method: str, target: str, status: int) -> None:
    """The caller's id comes back whatever the answer, and stands in the one log line of the request."""
    answered = await site.ask(method, target, ("x-request-id", "my-id"))
    assert answered.status == status
    assert answered.header("x-request-id") == "my-id"
    assert [(line["request_id"], line["status"]) for line in site.lines] == [("my-id", status)]
    new = (await site.ask(method, target)).header("x-request-id")
    assert new
    assert new != "my-id"
    assert site.lines[1]["request_id"] == new


async def test_a_log_line_names_the_route_and_nothing_of_the_request(site: Site) -> None:
    """Key names, query strings, user keys and unknown methods or paths are not in the log."""
    await site.create("secret-name", environment="secret-environment", value="secret-value")
    await site.ask("GET", "/configs/secret-name?environment=secret-environment", ("x-actor", "secret-actor"))
    await site.ask("SECRETMETHOD", "/secret-path?secret=1")
    assert [(line["method"], line["route"], line["status"]) for line in site.lines] == [
        ("POST", "/configs", 201),
        ("GET", "/configs/{key}", 200),
        ("other", "unmatched", 404),
    ]
    assert "secret" not in str(site.lines).lower()
    assert all(line["client"] == "192.0.2.1" for line in site.lines)


async def test_answers_that_hold_values_are_not_stored(site: Site) -> None:
    """`Cache-Control: no-store` is on every answer with a value and on every refusal."""
    answers = [
        await site.create("k"),
        await site.ask("GET", "/configs/k?environment=e"),
        await site.ask("PUT", "/configs/k?environment=e", body={"value": 2}),
        await site.ask("GET", "/configs"),
        await site.ask("GET", "/configs?limit=1"),
        await site.ask("GET", "/configs/k?environment=e", user_key=OTHER_KEY),
        await site.ask("GET", "/nothing"),
    ]
    assert [answer.header("cache-control") for answer in answers] == ["no-store"] * len(answers)


async def test_head_is_get_without_a_body(site: Site) -> None:
    """`HEAD` has status and headers of `GET`; the server cuts what body there is."""
    await site.create("k")
    for target in (
        "/",
        "/health",
        "/stats",
        "/configs/k?environment=e",
        "/configs/x?environment=e",
        "/openapi.json",
    ):
        get, head = await site.ask("GET", target), await site.ask("HEAD", target)
        assert head.status == get.status
        for name in ("content-type", "etag", "cache-control", "content-length"):
            assert head.header(name) == get.header(name), (target, name)
    listed = await site.ask("HEAD", "/configs")
    assert (listed.status, listed.body) == (200, b"")


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/configs", "GET, HEAD, OPTIONS, POST"),
        ("/configs/a/b", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ],
)
async def test_options_says_what_a_path_takes(site: Site, target: str, allowed: str) -> None:
    """`OPTIONS` needs no key of either kind."""
    answered = await site.ask("OPTIONS", target, user_key=None)
    assert answered.status == 200
    assert ", ".join(sorted(str(answered.header("allow")).split(", "))) == allowed


async def test_repeated_failures_are_slowed_down_and_a_right_key_is_not(site: Site) -> None:
    """Beyond the burst an address that fails waits; meanwhile its right key, and other addresses, are served."""
    await site.create("k")
    target = "/configs/k?environment=e"
    for _ in range(BURST):
        assert_problem(await site.ask("GET", target, user_key="short"), 401)
    async with asyncio.timeout(PATIENCE):
        slow = asyncio.create_task(site.ask("GET", target, user_key="short"))
        assert (await site.ask("GET", target)).status == 200
        assert_problem(await site.ask("GET", target, user_key="short", peer="192.0.2.2"), 401)
        assert not slow.done()
        assert_problem(await slow, 401)


async def test_bodies_of_all_requests_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: when unfinished bodies hold all the room, one more gets 503; what ends gives its room back."""
    monkeypatch.setattr(edge_module, "MAX_BUFFERED_BYTES", 1000)
    async with opened_site(tmp_path) as site:
        answer, body = Answer(), HeldBody(b"x" * 900)
        async with asyncio.timeout(PATIENCE):
            holder = asyncio.create_task(site.app(http_scope("POST", "/configs"), body.receive, answer.send))
            await body.taken.wait()
            refused = await site.ask("POST", "/configs", chunks=[b"y" * 101])
            assert_problem(refused, 503)
            assert refused.header("retry-after") == "1"
            assert (await site.ask("POST", "/configs", chunks=[b"y" * 100])).status == 400
            body.release.set()
            await holder
        assert_problem(answer.whole(), 400)
        await site.create("k", value="v" * 800)


async def test_a_fault_of_its_own_is_500_and_says_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is a problem that holds nothing of its cause."""

    async def broken() -> None:
        raise RuntimeError("secret of the server")

    monkeypatch.setattr(type(site.node), "statistics", lambda _: broken())
    answered = await site.ask("GET", "/stats")
    assert_problem(answered, 500)
    assert b"secret" not in answered.body


async def test_ready_says_why_the_log_cannot_be_written(site: Site, tmp_path: Path) -> None:
    """`/ready` is 200 while the log can be written, else 503 with `reasons`; `/health` is not concerned."""
    assert (await site.ask("GET", "/ready")).json() == {"ready": True}
    moved = (tmp_path / "log.db").rename(tmp_path / "elsewhere")
    problem = assert_problem(await _ready(site, 503), 503)
    assert problem["ready"] is False
    assert len(problem["reasons"]) == 1
    assert str(tmp_path) not in str(problem)
    assert (await site.ask("GET", "/health")).status == 200
    moved.rename(tmp_path / "log.db")
    assert (await _ready(site, 200)).json() == {"ready": True}


async def test_what_a_node_waits_for_is_told_beside_the_trouble_of_its_log() -> None:
    """`/ready` has the sentences of both, each once, and is asked anew each time."""
    awaited = ["The disk is full."]

    async def probe() -> str | None:
        return "The disk is full."

    async def waiting() -> list[str]:
        return awaited

    readiness = Readiness(probe, waiting)
    assert await readiness.reasons() == ["The disk is full."]
    awaited.append("This node has no salt yet.")
    assert await readiness.reasons() == ["The disk is full.", "This node has no salt yet."]


async def _ready(site: Site, status: int) -> Answered:
    """Ask until the answer, which may be a second old, has this status."""
    async with asyncio.timeout(PATIENCE):
        # The answer changes with a clock and a file: there is no event to await.
        while (answered := await site.ask("GET", "/ready")).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answered
