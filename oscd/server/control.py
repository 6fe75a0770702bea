"""The worker's end of the channel to its supervisor: ready, alive, shut down.

Owns: signals and the event loop of a worker process, and what goes over the channel. Must not: know what
the worker serves.

The channel is a socket pair. Towards the supervisor goes one byte `READY`, once, `BEAT` each second *from the event
loop*, so a blocked loop falls silent, and `RELOADED` once all that SIGHUPs have asked for is done. Nothing comes
back: its end means that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from oscd.server.resolver import Resolver

_log = logging.getLogger("oscd.worker")

READY: Final = b"r"
BEAT: Final = b"b"
RELOADED: Final = b"l"

BEAT_SECONDS: Final = 1.0

ALONE_SECONDS: Final = 6
"""How long a worker without a supervisor may take to shut down; nobody else is left to kill it."""

CONTROL_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Blocked while the supervisor starts a worker, so that none meets a process without handlers."""


class WorkerControl:
    """What a worker tells its supervisor, and hears from it.

    Args:
        channel: The worker's end of the channel.

    Attributes:
        shutdown: Set by SIGTERM, and when the supervisor is gone.
        on_hangup: Awaited on the event loop after SIGHUP, one at a time; those that came meanwhile are one more.
        on_beat: Called on the event loop with each beat.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.shutdown = asyncio.Event()
        self.on_hangup: Callable[[], Awaitable[None]] = _ignore_hangup
        self.on_beat: Callable[[], None] = _ignore
        self._channel = channel
        self._beat: asyncio.TimerHandle | None = None
        self._reload: asyncio.Task[None] | None = None
        self._is_reload_wanted = False

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take over signals and channel, and begin to beat."""
        self._channel.setblocking(False)
        # A terminal sends SIGINT to the whole group; only the supervisor decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self.shutdown.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CONTROL_SIGNALS)
        loop.add_reader(self._channel.fileno(), self._hear)
        self._beat_on(loop)

    def ready(self) -> None:
        """Tell the supervisor that this worker serves."""
        self._tell(READY)

    def close(self) -> None:
        """Stop beating and hang up."""
        if self._beat is not None:
            self._beat.cancel()
        if self._reload is not None:
            self._reload.cancel()
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()

    def _hang_up(self) -> None:
        self._is_reload_wanted = True
        if self._reload is None:
            self._reload = asyncio.get_running_loop().create_task(self._reload_on(), name="reload")

    async def _reload_on(self) -> None:
        while self._is_reload_wanted:
            self._is_reload_wanted = False
            try:
                await self.on_hangup()
            except Exception:
                # Whatever could not be read again, the worker serves on with what it has.
                _log.exception("what SIGHUP asks for failed")
        # Only now: after the first of two in a row the second's files are not read yet.
        self._tell(RELOADED)
        self._reload = None

    def _beat_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tell(BEAT)
        self.on_beat()
        self._beat = loop.call_later(BEAT_SECONDS, self._beat_on, loop)

    def _tell(self, what: bytes) -> None:
        try:
            self._channel.send(what)
        except BlockingIOError:
            pass  # a stopped supervisor reads nothing; it has thousands of our beats to read when it goes on
        except OSError:
            self._alone()

    def _hear(self) -> None:
        try:
            gone = not self._channel.recv(64)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            self._alone()

    def _alone(self) -> None:
        if self._channel.fileno() < 0:
            return
        self.close()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ALONE_SECONDS)
        self.shutdown.set()


def run_worker(main: Callable[[WorkerControl], Awaitable[None]], channel: socket.socket) -> None:
    """Run a worker's coroutine on an event loop of its own, uvloop where there is one.

    Args:
        main: The worker's work. It calls `ready()` once it serves and returns soon after `shutdown` is set.
        channel: The worker's end of the channel.

    Raises:
        Exception: What `main` raises; the process then ends with status 1 and is replaced.
    """
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_controlled(main, channel))


async def _controlled(main: Callable[[WorkerControl], Awaitable[None]], channel: socket.socket) -> None:
    control = WorkerControl(channel)
    control.install(asyncio.get_running_loop())
    try:
        await main(control)
    finally:
        control.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = _fastest_loop()
    # Its own is waited for at the end of the process, however long the system's resolver hangs.
    loop.getaddrinfo = Resolver(loop).getaddrinfo  # type: ignore[method-assign]
    return loop


def _fastest_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _ignore() -> None:
    """What a beat does until somebody wants it."""


async def _ignore_hangup() -> None:
    """What SIGHUP does until somebody wants it."""
