"""What a worker tells its supervisor, without one: a reload that is asked for again is over when the last one is."""

from __future__ import annotations

import asyncio
import signal
import socket

from oscd.server.control import RELOADED, WorkerControl, run_worker


def test_a_reload_that_is_asked_for_again_is_over_once() -> None:
    """The supervisor hears of it when what was asked for last has been done, and not after the one before."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    begun: list[int] = []
    heard: list[bytes] = []

    def said() -> bytes:
        try:
            return ours.recv(4096)
        except BlockingIOError:
            return b""

    async def main(control: WorkerControl) -> None:
        go_on = [asyncio.Event(), asyncio.Event()]
        has_begun = [asyncio.Event(), asyncio.Event()]

        async def reload() -> None:
            number = len(begun)
            begun.append(number)
            has_begun[number].set()
            await go_on[number].wait()

        control.on_hangup = reload
        control._hang_up()
        await has_begun[0].wait()
        control._hang_up()
        go_on[0].set()
        await has_begun[1].wait()
        heard.append(said())
        task = control._reload
        assert task is not None
        go_on[1].set()
        await task
        heard.append(said())

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        run_worker(main, theirs)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
    assert begun == [0, 1]
    assert [each.count(RELOADED) for each in heard] == [0, 1]
