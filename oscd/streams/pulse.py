"""Owns when a stream has something to do: it was woken, or has been quiet and must show that it lives.

Must not know what a stream sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pulse:
    """The sleep and the clocks of one stream. All its methods belong to one event loop.

    Args:
        keepalive_seconds: After so long without a word a stream is quiet, and is woken for it.
    """

    def __init__(self, keepalive_seconds: float) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._loop = asyncio.get_running_loop()
        self._began = self._spoke_at = self._loop.time()
        self._waiting: asyncio.Future[None] | None = None
        self._is_awake = False
        self._beat: asyncio.TimerHandle | None = None
        self._alarms: list[asyncio.TimerHandle] = []

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return self._loop.time() - self._began

    @property
    def is_quiet(self) -> bool:
        """Whether it is time to show that the stream lives."""
        return self._loop.time() >= self._spoke_at + self._keepalive_seconds

    def start(self) -> None:
        """Begin to wake the stream when it has been quiet; until `close`."""
        # One timer that looks again, not one that is set anew with every word.
        due = self._spoke_at + self._keepalive_seconds
        if self.is_quiet:
            self.wake()
            due = self._loop.time() + self._keepalive_seconds
        self._beat = self._loop.call_at(due, self.start)

    def close(self) -> None:
        """Stop every clock."""
        for timer in (self._beat, *self._alarms):
            if timer is not None:
                timer.cancel()

    def spoke(self) -> None:
        """Something goes out just now."""
        self._spoke_at = self._loop.time()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something once, unless `close` comes first."""
        self._alarms.append(self._loop.call_later(max(0.0, seconds), call))

    def wake(self) -> None:
        """Have the stream look what there is to do."""
        self._is_awake = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def sleep(self) -> None:
        """Wait to be woken; not at all if that happened since the last time."""
        if not self._is_awake:
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        self._is_awake = False
