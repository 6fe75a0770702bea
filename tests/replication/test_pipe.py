"""The way from bytes to what is done with them: order, what came before an end, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from oscd.replication import pipe
from oscd.replication.errors import PeerRefused
from oscd.replication.pipe import INBOX_BYTES, deliver
from oscd.replication.puller import FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, REFUSED_PAUSE_SECONDS, _pause
from oscd.replication.reception import LARGE_EVENTS, Received, Recent, Reception
from oscd.replication.states import LinkState
from oscd.replication.trouble import PeerTrouble
from oscd.replication.wire import Goodbye, goodbye_frame
from oscd.replication.writes import LargeWrite, Writes
from tests.replication.shipping import BOUNDS, log_of
from tests.support.waiting import eventually


class Parts:
    """A stream that gives these parts and then ends."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.given = 0
        self._parts = parts

    async def read(self) -> bytes:
        if self.given == len(self._parts):
            raise PeerTrouble("it ended the stream")
        self.given += 1
        return self._parts[self.given - 1]


def reception(directory: Path) -> Reception:
    return Reception(BOUNDS, directory, Recent())


async def test_what_came_before_the_end_is_handed_over_first(tmp_path: Path) -> None:
    """However soon the end follows, and however slow the handling is, nothing whole is dropped, and order stays."""
    parts = [goodbye_frame(f"reason {number}") for number in range(50)]
    got: list[Received] = []

    async def handle(item: Received) -> None:
        await asyncio.sleep(0)
        got.append(item)

    with pytest.raises(PeerTrouble, match="it ended the stream"):
        await deliver(Parts(parts), reception(tmp_path), handle)
    assert got == [Goodbye(f"reason {number}") for number in range(50)]


@pytest.mark.parametrize("count", [1, LARGE_EVENTS + 2], ids=["on the loop", "in a thread"])
async def test_what_came_before_what_is_refused_is_handed_over_first(tmp_path: Path, count: int) -> None:
    """Also of the bytes that were read with it; nothing large of them is left open by whoever was to have it."""
    source = log_of("node-b")
    source.write("a")
    source.write(*(f"k{number}" for number in range(count)))
    source.write("b")
    got: list[str] = []

    async def handle(item: Received) -> None:
        assert isinstance(item, Writes | LargeWrite)
        got.extend(candidate.event.key for candidate in item.candidates())

    with pytest.raises(PeerRefused, match="no frame of events"):
        await deliver(Parts([source.shipped() + b"garbage"]), reception(tmp_path), handle)
    assert got == ["a", *(f"k{number}" for number in range(count)), "b"]


async def test_no_more_is_read_ahead_than_there_is_room_for(tmp_path: Path) -> None:
    """While a batch is slow to be taken, a fast peer fills a bounded buffer, and waits."""
    frame = goodbye_frame("x" * 200)
    part = frame * (pipe.INBOX_BYTES // 16 // len(frame))
    stream = Parts([part] * 1000)
    goes_on = asyncio.Event()

    async def stuck(item: Received) -> None:
        await goes_on.wait()

    delivering = asyncio.ensure_future(deliver(stream, reception(tmp_path), stuck))
    await eventually(lambda: stream.given * len(part) >= INBOX_BYTES)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert stream.given * len(part) < 3 * INBOX_BYTES
    delivering.cancel()
    await asyncio.wait({delivering})


async def test_what_handling_raises_ends_the_stream(tmp_path: Path) -> None:
    """It comes out as it was raised, and no task stays behind."""

    async def fails(item: Received) -> None:
        raise RuntimeError("no luck")

    before = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="no luck"):
        await deliver(Parts([goodbye_frame("x")]), reception(tmp_path), fails)
    assert asyncio.all_tasks() == before


def test_pauses_grow_to_a_bound_and_are_long_where_somebody_must_act() -> None:
    """From a tenth of a second to one, by chance a quarter more or less; after a refusal some seconds."""
    assert FIRST_PAUSE_SECONDS * 0.75 <= _pause(LinkState.BACKING_OFF, 0, 30) <= FIRST_PAUSE_SECONDS * 1.25
    for failures in (4, 100, 10_000):
        assert (
            MOST_PAUSE_SECONDS * 0.75
            <= _pause(LinkState.BACKING_OFF, failures, 30)
            <= MOST_PAUSE_SECONDS * 1.25
        )
    assert _pause(LinkState.REFUSED, 0, 30) >= REFUSED_PAUSE_SECONDS * 0.75
