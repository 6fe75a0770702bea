"""The parent of the workers: starts them, replaces those that die or fall silent, ends them in bounded time.

Owns: which workers run, the parent's signals, the order of start and stop. Must not: know what a worker
does, open the log, or run an event loop.

It is one blocking wait over signals, channels and ends of processes, so nothing changes between two looks
at the world, and an idle node costs one wake-up per worker and second.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Final, Protocol, TypeVar, cast

from oscd.errors import StartRefused
from oscd.server.control import BEAT_SECONDS
from oscd.server.notify import ServiceManager
from oscd.server.signals import signals_as_bytes
from oscd.server.slot import Slot, Timing

_log = logging.getLogger("oscd.supervisor")

FIRST_TRIES: Final = 3
"""Deaths in a row of one worker that was never ready, after which the start of the service is given up."""

KILL_SECONDS: Final = 0.3
"""How long to wait for the end of a process that was sent SIGKILL; one that hangs in the kernel takes
longer."""

LONGEST_LOOK_AWAY_SECONDS: Final = 2 * BEAT_SECONDS
"""Between two looks at the workers. If it takes longer, the supervisor was stopped itself (SIGSTOP, a suspended
machine) or had no processor, wherever in its round that was."""

Spec = TypeVar("Spec", contravariant=True)


class WorkerMain(Protocol[Spec]):
    """A worker process's main function; importable by name, as processes are spawned."""

    def __call__(self, spec: Spec, index: int, listener: socket.socket, channel: socket.socket, /) -> None:
        """Work until told to stop; see `control.run_worker`. `index` tells the workers apart, from 0."""


def run_supervisor(
    main: WorkerMain[Spec],
    spec: Spec,
    listeners: Sequence[socket.socket],
    *,
    on_ready: Callable[[], None],
    manager: ServiceManager | None = None,
    timing: Timing | None = None,
) -> int:
    """Keep one worker per listening socket running until SIGTERM or SIGINT; return the exit status.

    Must run in the main thread. SIGHUP is passed on to the workers. A second SIGINT kills them at once.

    Args:
        main: What each worker process runs.
        spec: Its first argument; pickled and sent through a pipe, so it never shows on a command line.
        listeners: From `binding.bind_listeners`; closed when the service stops.
        on_ready: Called once, when all workers are ready for the first time.
        manager: Told how the workers do; by default nobody.
        timing: Limits other than the usual ones.

    Raises:
        StartRefused: The workers die before they are ready, or are not ready in time.
    """
    with signals_as_bytes() as signals:
        supervisor = _Supervisor(
            main, spec, listeners, on_ready, manager or ServiceManager(), timing or Timing(), signals
        )
        supervisor.run()
    return 0


class _Supervisor:
    def __init__(
        self,
        main: Callable[..., None],
        spec: object,
        listeners: Sequence[socket.socket],
        on_ready: Callable[[], None],
        manager: ServiceManager,
        timing: Timing,
        signals: socket.socket,
    ) -> None:
        self._main = main
        self._spec = spec
        self._slots = [Slot(index, sock, timing) for index, sock in enumerate(listeners)]
        self._on_ready: Callable[[], None] | None = on_ready
        self._manager = manager
        self._is_reloading = False
        self._timing = timing
        self._signals = signals
        self._stop_by: float | None = None
        self._interrupts = 0
        self._looked_at = time.monotonic()

    def run(self) -> None:
        try:
            while not self._is_over():
                now = self._look()
                for slot in self._slots:
                    self._tend(slot, now)
                self._announce()
                self._report()
                self._wait()
                self._obey()
        finally:
            self._kill_all()

    def _is_over(self) -> bool:
        if self._stop_by is None:
            return False
        return time.monotonic() >= self._stop_by or not self._running()

    def _running(self) -> list[SpawnProcess]:
        return [slot.process for slot in self._slots if slot.process and slot.process.exitcode is None]

    def _look(self) -> float:
        """The time of this round; the workers' silence is forgiven where the supervisor itself was away.

        All of a round goes by this one time, so that a stop in the middle of it is found by the next, before anybody
        is judged.
        """
        now = time.monotonic()
        if now - self._looked_at > LONGEST_LOOK_AWAY_SECONDS:
            for slot in self._slots:
                slot.excuse(now)
        self._looked_at = now
        return now

    def _tend(self, slot: Slot, now: float) -> None:
        """Do what one worker's state asks for."""
        slot.hear(now)
        if slot.process is not None and slot.process.exitcode is not None:
            self._bury(slot, slot.process.exitcode)
        elif self._stop_by is None and now >= slot.due():
            if slot.process is None:
                self._start(slot, now)
            else:
                self._put_down(slot, slot.process)

    def _start(self, slot: Slot, now: float) -> None:
        """Start a worker; where the system has no room for one now, try again as after a death."""
        try:
            slot.start(self._main, self._spec, now)
        except OSError as error:
            _log.error("%s could not be started: %s", slot.name, error.strerror)
            slot.bury(now)

    def _bury(self, slot: Slot, status: int) -> None:
        slot.bury(time.monotonic())
        if self._stop_by is not None:
            return
        _log.error("%s ended with %s", slot.name, _in_words(status))
        if self._on_ready is not None and slot.failures >= FIRST_TRIES:
            raise StartRefused(
                f"a worker ended {slot.failures} times before it was ready, "
                f"at last with {_in_words(status)}; the log says why"
            )

    def _put_down(self, slot: Slot, process: SpawnProcess) -> None:
        """End a worker that is late; it is buried, and replaced, as any dead one."""
        if self._on_ready is not None and not slot.is_ready:
            raise StartRefused(
                f"the workers were not ready within {self._timing.start:g} s; the log says why"
            )
        _log.error("%s (pid %s) has fallen silent; killing it", slot.name, process.pid)
        process.kill()
        process.join(KILL_SECONDS)
        self._bury(slot, process.exitcode or -signal.SIGKILL)

    def _announce(self) -> None:
        if (
            self._on_ready is not None
            and self._stop_by is None
            and all(slot.is_ready for slot in self._slots)
        ):
            self._on_ready()
            self._on_ready = None
            self._manager.ready(self._in_service())

    def _report(self) -> None:
        """Tell the service manager how the workers do.

        A sign of life takes a worker that serves: where none has come up for as long as the manager waits, a start
        from scratch is the last thing to try. A hung one is killed here, and counts until then.
        """
        if self._stop_by is not None or self._on_ready is not None:
            return
        if self._is_reloading and not any(slot.is_reloading for slot in self._slots):
            self._is_reloading = False
            self._manager.ready(self._in_service())
        self._manager.status(self._in_service())
        if any(slot.serves for slot in self._slots):
            self._manager.alive(time.monotonic())

    def _in_service(self) -> str:
        serving = sum(slot.serves for slot in self._slots)
        return f"{serving} of {len(self._slots)} workers serve"

    def _due(self) -> float:
        """When something is to be done even if nothing happens."""
        if self._stop_by is not None:
            return self._stop_by
        due = min(slot.due() for slot in self._slots)
        return min(due, self._manager.due()) if any(slot.serves for slot in self._slots) else due

    def _wait(self) -> None:
        """Sleep until there is news or something is due."""
        timeout = min(max(0.0, self._due() - time.monotonic()), BEAT_SECONDS)
        wait([self._signals, *(source for slot in self._slots for source in slot.sources())], timeout)

    def _obey(self) -> None:
        """Do what the signals since the last look ask for."""
        try:
            received = self._signals.recv(4096)
        except BlockingIOError:
            return
        for number in received:
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._interrupts += number == signal.SIGINT
                self._stop()

    def _reload(self) -> None:
        """Have the workers read anew what they read at SIGHUP."""
        if self._on_ready is None and self._stop_by is None:
            self._is_reloading = True
            self._manager.reloading()
        for slot in self._slots:
            slot.expect_reload()
        self._pass_on(signal.SIGHUP)

    def _stop(self) -> None:
        now = time.monotonic()
        if self._stop_by is None:
            self._manager.stopping()
            self._stop_by = now + self._timing.stop
            for slot in self._slots:
                slot.listener.close()
            self._pass_on(signal.SIGTERM)
        if self._interrupts > 1:
            self._stop_by = now

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._running():
            # Not reaped by the look just taken, so the number still is this process's.
            os.kill(cast("int", process.pid), number)

    def _kill_all(self) -> None:
        left = self._running()
        for process in left:
            if self._stop_by is not None:
                _log.warning("%s (pid %s) did not stop in time; killing it", process.name, process.pid)
            process.kill()
        for process in left:
            process.join(KILL_SECONDS)


def _in_words(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
