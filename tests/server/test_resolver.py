"""Looking up names while the system's resolver hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from oscd.server import resolver as resolver_module
from oscd.server.resolver import Resolver
from tests.support.waiting import eventually

ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class System:
    """The system's resolver, which answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.error: Exception | None = None

    def getaddrinfo(self, name: str, *_rest: object) -> list[tuple[Any, ...]]:
        self.asked.append(name)
        assert threading.current_thread().daemon
        assert self.answers.wait(60)
        if self.error is not None:
            raise self.error
        return ADDRESS


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    system = System()
    monkeypatch.setattr(socket, "getaddrinfo", system.getaddrinfo)
    return system


async def test_who_asks_the_same_shares_a_look_up(system: System) -> None:
    """One of them may give up; the others get the answer, and the next one asks anew."""
    resolver = Resolver(asyncio.get_running_loop())
    first, second = (asyncio.ensure_future(resolver.getaddrinfo("a", 80)) for _ in range(2))
    await eventually(lambda: system.asked)
    first.cancel()
    system.answers.set()
    assert await second == ADDRESS
    assert first.cancelled()
    assert await resolver.getaddrinfo("a", 80) == ADDRESS
    assert system.asked == ["a", "a"]


async def test_an_error_is_raised_and_bothers_nobody_who_gave_up(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    """`gaierror` reaches each who waits for it."""
    system.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    resolver = Resolver(asyncio.get_running_loop())
    waiting = [asyncio.ensure_future(resolver.getaddrinfo("a", 80)) for _ in range(2)]
    gone = asyncio.ensure_future(resolver.getaddrinfo("b", 80))
    await eventually(lambda: len(system.asked) == 2)
    gone.cancel()
    system.answers.set()
    for one in waiting:
        with pytest.raises(socket.gaierror, match="no such name"):
            await one
    assert caplog.messages == []


async def test_names_that_hang_are_bounded(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over so many a further one is refused at once; there is room again when one is answered."""
    monkeypatch.setattr(resolver_module, "MOST_LOOKUPS", 2)
    resolver = Resolver(asyncio.get_running_loop())
    hanging = [asyncio.ensure_future(resolver.getaddrinfo(name, 80)) for name in "ab"]
    await eventually(lambda: len(system.asked) == 2)
    with pytest.raises(socket.gaierror, match="does not answer"):
        await resolver.getaddrinfo("c", 80)
    system.answers.set()
    await asyncio.gather(*hanging)
    assert await resolver.getaddrinfo("c", 80) == ADDRESS


def test_the_loop_does_not_wait_for_a_name_that_hangs(system: System) -> None:
    """It closes; the answer that comes later is nobody's."""
    with asyncio.Runner() as runner:
        resolver = Resolver(runner.get_loop())

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await resolver.getaddrinfo("a", 80)

        runner.run(give_up())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "resolver")
    system.answers.set()
    thread.join(60)
    assert not thread.is_alive()
