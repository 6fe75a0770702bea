"""The place of one worker under the supervisor: its listening socket for life, its process for now.

Owns: one worker process, the supervisor's end of its channel, and when the next one may start. Must not:
decide anything about other workers, or wait.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Final

from oscd.server.control import CONTROL_SIGNALS, READY, RELOADED

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Timing:
    """The supervisor's limits, all in seconds.

    Attributes:
        start: From a worker's start until it must be ready.
        silence: Between two beats, after which a worker that has begun to beat is hung and gets killed.
        stop: From the wish to stop until workers that still run are killed.
        first_pause: Between a worker's death and the start of the next; doubles with each death ...
        longest_pause: ... up to this ...
        healthy: ... and is `first_pause` again for a worker that was ready for so long.
    """

    start: float = 60.0
    silence: float = 20.0
    stop: float = 4.4
    first_pause: float = 0.1
    longest_pause: float = 5.0
    healthy: float = 30.0


class Slot:
    """One worker's place.

    Args:
        index: Which worker this is, from 0; its successors are the same one to everybody else.
        listener: Handed to each process that has this place.
        timing: When the worker is late and how soon the next may start.

    Attributes:
        name: Of the worker, in the log and as process name.
        process: The running worker, or None between two.
        is_reloading: Whether the worker was told to reload and has not said yet that it has.
        failures: Workers in a row that died before they were ready.
        start_at: Earliest time, on the monotonic clock, at which the next worker may start.
    """

    def __init__(self, index: int, listener: socket.socket, timing: Timing) -> None:
        self.index = index
        self.name = f"worker-{index}"
        self.listener = listener
        self.process: SpawnProcess | None = None
        self.is_reloading = False
        self.failures = 0
        self.start_at = 0.0
        self._timing = timing
        self._pause = timing.first_pause
        self._channel: socket.socket | None = None
        self._started = 0.0
        self._heard: float | None = None
        self._ready_since: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the present process has said that it serves."""
        return self._ready_since is not None

    @property
    def serves(self) -> bool:
        """Whether there is a process, and it has said so."""
        return self.process is not None and self.is_ready

    def start(self, main: Callable[..., None], spec: object, now: float) -> None:
        """Spawn a worker."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process = multiprocessing.get_context("spawn").Process(
            target=main, args=(spec, self.index, self.listener, theirs), name=self.name
        )
        try:
            with theirs, _control_signals_blocked():
                process.start()
        except OSError:
            ours.close()
            raise
        self.process, self._channel = process, ours
        self._started, self._heard, self._ready_since = now, None, None

    def sources(self) -> list[int | socket.socket]:
        """What becomes readable when there is news of this worker."""
        found: list[int | socket.socket] = [] if self.process is None else [self.process.sentinel]
        return found if self._channel is None else [*found, self._channel]

    def hear(self, now: float) -> None:
        """Take in what the worker has said."""
        if self._channel is None:
            return
        try:
            said = self._channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._hang_up()
            return
        self._heard = now
        if RELOADED in said:
            self.is_reloading = False
        if READY in said and self._ready_since is None:
            self._ready_since = now

    def due(self) -> float:
        """When something has to be done about this worker: it must have spoken, or it may start."""
        if self.process is None:
            return self.start_at
        ready_by = _NEVER if self.is_ready else self._started + self._timing.start
        heard_by = _NEVER if self._heard is None else self._heard + self._timing.silence
        return min(ready_by, heard_by)

    def expect_reload(self) -> None:
        """Note that the worker is told to reload; one that starts later reads everything anew."""
        self.is_reloading = self.process is not None

    def excuse(self, now: float) -> None:
        """Count all silence so far as the supervisor's own."""
        if self._heard is not None:
            self._heard = now

    def bury(self, now: float) -> None:
        """Note that the process has ended, and when the next may start."""
        self._hang_up()
        self.process = None
        self.is_reloading = False
        self.failures = 0 if self.is_ready else self.failures + 1
        if self._ready_since is not None and now - self._ready_since >= self._timing.healthy:
            self._pause = self._timing.first_pause
        self.start_at = now + self._pause
        self._pause = min(self._pause * 2, self._timing.longest_pause)

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


@contextmanager
def _control_signals_blocked() -> Iterator[None]:
    """Have a spawned process start with these signals blocked, hence kept until it has handlers for them."""
    # Starting the tracker unblocks SIGINT and SIGTERM as a side effect, so not in between.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CONTROL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
