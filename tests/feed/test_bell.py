"""The announcement within a worker and across the workers of a node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oscd.feed.bell import Bell, Bells, until
from oscd.feed.board import Board
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def bells() -> Iterator[Bells]:
    bells = Bells.make(3)
    yield bells
    bells.close()


@pytest.fixture
async def workers(bells: Bells) -> AsyncIterator[list[Bell]]:
    workers = [Bell(bells, index) for index in range(3)]
    for worker in workers:
        worker.open()
    yield workers
    for worker in workers:
        worker.close()


class Heard:
    """A listener that counts how often it was called."""

    def __init__(self, *bells: Bell) -> None:
        self.times = 0
        for bell in bells:
            bell.listen(self)

    def __call__(self) -> None:
        self.times += 1


def test_a_process_that_is_alone_tells_its_listeners_at_once() -> None:
    """Who listens in the worker that committed is called before the answer goes out."""
    bell = Bell()
    first, second = Heard(bell), Heard(bell)
    bell.ring()
    assert (first.times, second.times) == (1, 1)


def test_who_listens_twice_is_called_once() -> None:
    """A listener is known by itself: a second time changes nothing, and taking it away once is enough."""
    bell = Bell()
    rung = asyncio.Event()
    bell.listen(rung.set)
    bell.listen(rung.set)
    bell.unlisten(rung.set)
    bell.unlisten(rung.set)
    bell.ring()
    assert not rung.is_set()


def test_a_listener_may_leave_while_it_is_called() -> None:
    """One that takes itself away disturbs no other."""
    bell = Bell()

    def leave() -> None:
        bell.unlisten(leave)

    bell.listen(leave)
    heard = Heard(bell)
    bell.ring()
    bell.ring()
    assert heard.times == 2


async def test_each_worker_hears_each_other(workers: list[Bell]) -> None:
    """Whichever worker rings, all hear it."""
    heard = [Heard(worker) for worker in workers]
    for rings, ringing in enumerate(workers, start=1):
        ringing.ring()
        await eventually(lambda rings=rings: all(one.times == rings for one in heard))  # type: ignore[misc]


async def test_several_rings_may_be_heard_as_one(bells: Bells) -> None:
    """An announcement carries no data: what rang while a worker was busy calls its listeners once."""
    ringing, hearing = Bell(bells, 0), Bell(bells, 1)
    heard = Heard(hearing)
    for _ in range(100):
        ringing.ring()
    hearing.open()
    await eventually(lambda: heard.times)
    with pytest.raises(BlockingIOError):
        bells.hear[1].recv(1)
    assert heard.times == 1
    hearing.close()


async def test_a_worker_that_does_not_listen_holds_nobody_up(bells: Bells) -> None:
    """Invariant 4: a ring that finds the buffer full is dropped, and the worker still hears of it, once it can."""
    with suppress(BlockingIOError):
        while True:
            bells.ring[1].send(bytes(4096))
    ringing, hearing, third = (Bell(bells, index) for index in range(3))
    own, heard, other = Heard(ringing), Heard(hearing), Heard(third)
    third.open()
    ringing.ring()
    assert own.times == 1
    await eventually(lambda: other.times == 1)
    hearing.open()
    await eventually(lambda: heard.times)
    hearing.close()
    third.close()


async def test_what_rang_while_a_worker_was_replaced_is_heard_by_its_successor(bells: Bells) -> None:
    """The bells are the supervisor's: a worker that dies takes none of them with it."""
    Bell(bells, 1)
    Bell(bells, 0).ring()
    successor = Bell(bells, 1)
    heard = Heard(successor)
    successor.open()
    await eventually(lambda: heard.times)
    successor.close()


async def test_a_closed_bell_is_heard_no_more(workers: list[Bell]) -> None:
    """After `close` the listeners rest, while the others still hear."""
    heard, witness = Heard(workers[1]), Heard(workers[2])
    workers[1].close()
    workers[0].ring()
    await eventually(lambda: witness.times)
    assert heard.times == 0


def test_ringing_at_the_end_of_a_node_does_no_harm() -> None:
    """A commit that is answered while the supervisor takes the bells down still tells its own worker."""
    bells = Bells.make(2)
    bell = Bell(bells, 0)
    heard = Heard(bell)
    bells.hear[1].close()
    bell.ring()
    bells.close()
    bell.ring()
    assert heard.times == 2


def test_no_end_ever_blocks(bells: Bells) -> None:
    """Every end is non-blocking, in whichever process it is used."""
    ends: list[socket.socket] = [*bells.hear, *bells.ring]
    assert [end.getblocking() for end in ends] == [False] * 6


async def test_until_looks_before_it_waits() -> None:
    """What holds already needs no ring."""
    bell = Bell()

    async def holds() -> bool:
        return True

    async with asyncio.timeout(PATIENCE):
        assert await until(bell, holds, PATIENCE)


async def test_until_is_woken_by_the_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that has come true is seen with the next ring, not with the next look."""
    monkeypatch.setattr("oscd.feed.bell.POLL_SECONDS", 3600.0)
    bell, looks, state = Bell(), Heard(), {"true": False}

    async def holds() -> bool:
        looks()
        return state["true"]

    waiting = asyncio.ensure_future(until(bell, holds, 2 * PATIENCE))
    await eventually(lambda: looks.times == 1)
    bell.ring()
    await eventually(lambda: looks.times == 2)
    assert not waiting.done()
    state["true"] = True
    bell.ring()
    async with asyncio.timeout(PATIENCE):
        assert await waiting
    assert not bell._listeners


async def test_until_does_not_lose_a_ring_that_comes_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed just after the condition was read is seen all the same."""
    monkeypatch.setattr("oscd.feed.bell.POLL_SECONDS", 3600.0)
    bell, looks = Bell(), Heard()

    async def holds() -> bool:
        looks()
        if looks.times == 1:
            bell.ring()
            return False
        return True

    async with asyncio.timeout(PATIENCE):
        assert await until(bell, holds, 2 * PATIENCE)


async def test_until_notices_what_nobody_rang_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 4: a lost ring delays, never loses."""
    monkeypatch.setattr("oscd.feed.bell.POLL_SECONDS", 0.01)
    looks = Heard()

    async def holds() -> bool:
        looks()
        return looks.times == 3

    assert await until(Bell(), holds, PATIENCE)


async def test_until_gives_up() -> None:
    """Invariant 10: a wait has a bound, also where looking itself does not end; nothing is left listening."""
    bell = Bell()

    async def never() -> bool:
        return False

    async def stuck() -> bool:
        await asyncio.Event().wait()
        return True

    assert not await until(bell, never, 0.01)
    assert not await until(bell, stuck, 0.01)
    assert not bell._listeners


async def test_what_the_condition_raises_is_raised() -> None:
    """Trouble with the log is the caller's to answer; nothing is left listening."""
    bell = Bell()

    async def broken() -> bool:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await until(bell, broken, PATIENCE)
    assert not bell._listeners


async def test_a_worker_where_nobody_listens_is_not_woken(bells: Bells, tmp_path: Path) -> None:
    """A ring costs nothing where it concerns nobody; from the moment on that somebody listens there it is heard."""
    workers = [Bell(bells, index, Board(tmp_path / "ears", 3, index)) for index in range(3)]
    workers[0].ring()
    for end in bells.hear:
        with pytest.raises(BlockingIOError):
            end.recv(1)
    heard = Heard(workers[1])
    for worker in workers:
        worker.open()
    workers[0].ring()
    await eventually(lambda: heard.times == 1)
    workers[1].unlisten(heard)
    workers[0].ring()
    with pytest.raises(BlockingIOError):
        bells.hear[1].recv(1)
    for worker in workers:
        worker.close()
