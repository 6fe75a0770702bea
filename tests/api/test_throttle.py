"""Repeated failures of one address are slowed down, within bounds, and nobody else is."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from oscd.api.throttle import (
    BURST,
    DELAY_SECONDS,
    MAX_ADDRESSES,
    MAX_DELAYED,
    REFILL_PER_SECOND,
    FailureThrottle,
)
from oscd.errors import TooManyRequests


class World:
    """A clock that stands still and a sleep that lasts until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.asleep = asyncio.Semaphore(0)
        self.awake = asyncio.Event()
        self.awake.set()
        self.throttle = FailureThrottle(lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.release()
        await self.awake.wait()

    async def until_asleep(self, sleepers: int) -> None:
        for _ in range(sleepers):
            await self.asleep.acquire()

    async def fail(self, address: str, times: int) -> None:
        for _ in range(times):
            await self.throttle.failed(address)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_burst_goes_undelayed(world: World) -> None:
    """Twenty wrong keys in a row cost nothing; the next ones half a second each."""
    await world.fail("192.0.2.1", BURST)
    assert world.slept == []
    await world.fail("192.0.2.1", 2)
    assert world.slept == [DELAY_SECONDS, DELAY_SECONDS]


async def test_addresses_do_not_pay_for_each_other(world: World) -> None:
    """One that fails without end leaves the burst of another whole."""
    await world.fail("192.0.2.1", BURST + 5)
    world.slept.clear()
    await world.fail("192.0.2.2", BURST)
    assert world.slept == []


async def test_time_gives_the_burst_back(world: World) -> None:
    """Two failures a second are earned back, and never more than the burst."""
    await world.fail("192.0.2.1", BURST)
    world.now += 3 / REFILL_PER_SECOND
    await world.fail("192.0.2.1", 3)
    assert world.slept == []
    await world.fail("192.0.2.1", 1)
    assert len(world.slept) == 1
    world.now += 1e6
    await world.fail("192.0.2.1", BURST + 1)
    assert len(world.slept) == 2


async def test_answers_held_back_are_bounded(world: World) -> None:
    """Invariant 10: at most sixty-four failing answers wait; one more is refused, and room comes back."""
    await world.fail("192.0.2.1", BURST)
    world.awake.clear()
    async with asyncio.TaskGroup() as held:
        for _ in range(MAX_DELAYED):
            held.create_task(world.throttle.failed("192.0.2.1"))
        await world.until_asleep(MAX_DELAYED)
        with pytest.raises(TooManyRequests):
            await world.throttle.failed("192.0.2.1")
        await world.throttle.failed("192.0.2.2")
        world.awake.set()
    await world.fail("192.0.2.1", 1)
    assert len(world.slept) == MAX_DELAYED + 1


async def test_a_client_that_leaves_frees_its_place(world: World) -> None:
    """Cancelled waits count no longer: after a full house left, another full house fits."""
    await world.fail("192.0.2.1", BURST)
    world.awake.clear()
    for _ in range(2):
        waits = [asyncio.ensure_future(world.throttle.failed("192.0.2.1")) for _ in range(MAX_DELAYED)]
        await world.until_asleep(MAX_DELAYED)
        for wait in waits:
            wait.cancel()
            with suppress(asyncio.CancelledError):
                await wait


async def test_addresses_remembered_are_bounded(world: World) -> None:
    """Invariant 10: beyond 4096 addresses the one that failed longest ago is forgotten, no other."""
    await world.fail("first", BURST)
    await world.fail("second", BURST)
    for number in range(MAX_ADDRESSES - 2):
        await world.throttle.failed(f"other {number}")
    await world.fail("first", 1)
    assert len(world.slept) == 1
    await world.throttle.failed("one too many")
    await world.fail("second", BURST)
    assert len(world.slept) == 1
    await world.fail("first", 1)
    assert len(world.slept) == 2


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("unix:a", "unix:b", False),
    ],
)
async def test_an_ipv6_subscriber_is_one_address(world: World, one: str, other: str, shared: bool) -> None:
    """Whoever owns 2^64 addresses does not have as many bursts; a mapped IPv4 address is that address."""
    await world.fail(one, BURST)
    await world.fail(other, 1)
    assert len(world.slept) == shared
