"""Positions in headers: `X-OSC-Position` of each write, `X-OSC-After` of reads that must see one."""

from __future__ import annotations

import asyncio

import pytest

from oscd.events.log import Found
from oscd.events.position import Mark, Position, decode_position
from oscd.events.sqlite.reading import SqliteReading
from tests.api.asgi import PATIENCE, Site, assert_problem

TARGET = "/configs/k?environment=e"


async def test_every_write_tells_a_position_past_the_one_before(site: Site) -> None:
    """Create, update and delete answer a position each; a read tells none."""
    answers = [
        await site.create("k"),
        await site.ask("PUT", TARGET, body={"value": 2}),
        await site.ask("DELETE", TARGET),
        await site.ask("PUT", TARGET, ("if-none-match", "*"), body={"value": 3}),
    ]
    seqs = []
    for answer in answers:
        (mark,) = decode_position(str(answer.header("x-osc-position"))).marks.values()
        seqs.append(mark.seq)
    assert seqs == [1, 2, 3, 4]
    assert (await site.ask("GET", TARGET)).header("x-osc-position") is None


@pytest.mark.parametrize("target", [TARGET, "/configs", "/configs?limit=1", "/stats"])
async def test_a_read_after_a_position_the_node_has_is_answered(site: Site, target: str) -> None:
    """Any position the node has issued, and an empty one, is behind it."""
    first = str((await site.create("k")).header("x-osc-position"))
    second = str((await site.ask("PUT", TARGET, body={"value": 2})).header("x-osc-position"))
    for position in (first, second, Position({}).encode(), ""):
        assert (await site.ask("GET", target, ("x-osc-after", position))).status == 200


@pytest.mark.parametrize(
    "text", ["x", "AQ==", "!!!!", "Ag", "AQ" + "A" * 20, "A" * 5000, "\xe9", "AQ AQ", "0", "null"]
)
@pytest.mark.parametrize("target", [TARGET, "/configs", "/stats"])
async def test_what_is_no_position_is_422(site: Site, target: str, text: str) -> None:
    """Text no node has issued is refused at once, by the name of its header."""
    await site.create("k")
    problem = assert_problem(await site.ask("GET", target, ("x-osc-after", text)), 422)
    assert problem["errors"][0]["loc"] == ["header", "X-OSC-After"]


@pytest.mark.parametrize("target", [TARGET, "/configs", "/stats"])
@pytest.mark.parametrize("how", ["unknown origin", "future", "other chain"])
async def test_a_position_out_of_reach_is_503(
    site: Site, monkeypatch: pytest.MonkeyPatch, target: str, how: str
) -> None:
    """A position of another log, of the future, or of a chain that was replaced is waited for, then 503."""
    monkeypatch.setattr("oscd.node.POSITION_WAIT_SECONDS", 0.1)
    position = decode_position(str((await site.create("k")).header("x-osc-position")))
    ((incarnation, mark),) = position.marks.items()
    marks = {
        "unknown origin": {"0123456789abcdef": Mark(1, b"abcd")},
        "future": {incarnation: Mark(mark.seq + 1, b"abcd")},
        "other chain": {incarnation: Mark(mark.seq, b"\0\0\0\0")},
    }[how]
    answered = await site.ask("GET", target, ("x-osc-after", Position(marks).encode()))
    assert "X-OSC-After" in assert_problem(answered, 503)["detail"]
    assert answered.header("retry-after") in {"1", "2"}


async def test_a_read_waits_until_the_position_is_reached(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read ahead of the log is held until the log has come there, and then answered with what it holds."""
    position = str((await site.create("k")).header("x-osc-position"))
    find, asked, reached = SqliteReading.find, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def late(reading: SqliteReading, incarnation: str, seq: int) -> Found | None:
        loop.call_soon_threadsafe(asked.set)
        return find(reading, incarnation, seq) if reached.is_set() else None

    monkeypatch.setattr(SqliteReading, "find", late)
    async with asyncio.timeout(PATIENCE):
        reading = asyncio.create_task(site.ask("GET", TARGET, ("x-osc-after", position)))
        await asked.wait()
        await site.ask("PUT", TARGET, body={"value": "ahead"})
        assert not reading.done()
        reached.set()
        assert (await reading).json()["value"] == "ahead"
