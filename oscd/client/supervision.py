"""Owns `oscd exec --watch`: one command, its signals, its restarts, how it all ends.

One thread waits for signals and moments, and does everything; the follower's thread only rings. Must not read a node,
nor know what entries are: what the environment is now, it asks.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from oscd.client.child import Child
from oscd.client.environment import Environment
from oscd.client.errors import UsageRefused

QUIET_SECONDS: Final = 0.5
"""A restart waits until no change came for so long, so that a burst of them is one."""

LONGEST_SECONDS: Final = 10.0
"""… but no longer than this after the first of them, should they never cease."""

GRACE_SECONDS: Final = 10.0
"""What a command has between SIGTERM and SIGKILL at a restart."""

RING: Final = signal.SIGURG
"""Which signal the follower rings with. Anybody else's does no harm: it is a look at what there is."""

ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
PASSED: Final = ENDING | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
_WAITED: Final = PASSED | {signal.SIGCHLD, signal.SIGTSTP, signal.SIGCONT, signal.SIGALRM, RING}

_SOONEST: Final = 1e-6
"""A timer of 0 s is none."""

_SI_KERNEL: Final = 0x80
"""`si_code` of a signal from the terminal (sigaction(2)): the kernel sent it to the command, too."""


@dataclass(slots=True)
class Due:
    """When a restart is due, given when changes came; seconds of one clock."""

    first: float | None = None
    last: float = 0.0

    def changed(self, now: float) -> None:
        """A change came."""
        self.first = now if self.first is None else self.first
        self.last = now

    @property
    def at(self) -> float | None:
        """When; None while nothing came."""
        return None if self.first is None else min(self.last + QUIET_SECONDS, self.first + LONGEST_SECONDS)


class Supervision:
    """One command that is started anew when its environment is another.

    Args:
        environment: What it is now; raises `UsageRefused` where entries do not make one.
        tell: Called with a line for a person.
        grace: Seconds between SIGTERM and SIGKILL; also how long a command that was asked to end is not restarted.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Callable[[], Environment],
        tell: Callable[[str], None],
        *,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._command = command
        self._environment = environment
        self._tell = tell
        self._grace = grace
        self._due = Due()
        self._kill_at: float | None = None
        self._restarting = False
        self._asked_at: float | None = None
        self._refusal: str | None = None

    def run(self, follow: Callable[[Callable[[], None]], None]) -> int:
        """Run the command until it ends by itself; gives its status as waitpid(2) does.

        Args:
            follow: Begins to follow changes, given what to ring with.

        Raises:
            UsageRefused: The first environment does not do.
            OSError: No process could be made.
        """
        environment = self._environment()
        # Who started us may have had it ignored, and then the kernel tells of no child's end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Before any thread is made, which takes the mask over.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
        main = threading.get_ident()
        self._start(environment)
        follow(lambda: signal.pthread_kill(main, RING))
        while not self._child.has_ended:
            self._wait()
        assert self._child.status is not None
        return self._child.status

    def _wait(self) -> None:
        """Wait for the next signal or moment, and do what it asks for."""
        moments = [moment for moment in (self._kill_at, self._due.at) if moment is not None]
        # A timer's signal, not signal.sigtimedwait: where its time is over when a stopped process is continued, that
        # gives a signal that never came (CPython 3.11 to 3.13 return a siginfo they have not filled).
        signal.setitimer(signal.ITIMER_REAL, max(_SOONEST, min(moments) - time.monotonic()) if moments else 0)
        came = signal.sigwaitinfo(_WAITED)
        self._take(came.si_signo, from_terminal=came.si_code == _SI_KERNEL)
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._child.send(signal.SIGKILL)
        if self._due.at is not None and now >= self._due.at:
            self._due = Due()
            self._consider()

    def _take(self, number: int, *, from_terminal: bool) -> None:
        match number:
            case signal.SIGCHLD:
                self._child.reap()
                if self._child.has_ended:
                    self._after_end()
            case signal.SIGURG:
                self._due.changed(time.monotonic())
            case signal.SIGTSTP:
                if not from_terminal:
                    self._child.send(signal.SIGTSTP)
                _stop()
            case signal.SIGCONT:
                self._child.send(signal.SIGCONT)
            case signal.SIGALRM:
                pass  # a moment has come
            case _ if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1): nor does the command get it
                if number in ENDING:
                    self._asked_at = time.monotonic()
                if not from_terminal:
                    self._child.send(number)
            case _:
                pass

    def _consider(self) -> None:
        """Begin a restart, if the entries now make another environment."""
        self._child.reap()
        now = time.monotonic()
        if self._child.has_ended or self._restarting:
            return
        if self._asked_at is not None and now < self._asked_at + self._grace:
            # It may be about to end, as it was asked to; that must not become a restart.
            self._due.changed(now)
        elif self._changed() is not None:
            self._restarting = True
            self._asked_at = None
            self._child.ask_to_end()
            self._kill_at = now + self._grace

    def _changed(self) -> Environment | None:
        """The environment to start with; None where it is the one that runs, or is refused, which is said once."""
        try:
            environment = self._environment()
        except UsageRefused as refused:
            if str(refused) != self._refusal:
                self._refusal = str(refused)
                self._tell(f"{refused}; the command goes on as it is")
            return None
        self._refusal = None
        return None if environment == self._running else environment

    def _after_end(self) -> None:
        """Start anew where that was meant, unless somebody asked for the end meanwhile."""
        self._kill_at = None
        if not self._restarting or self._asked_at is not None or _taken_endings():
            return
        self._restarting = False
        self._start(self._changed() or self._running)

    def _start(self, environment: Environment) -> None:
        self._running = environment
        self._child = Child(self._command, environment)
        # What the terminal sent before there was a command has not reached it. What came since has; but it holds its
        # signals back while it is launched, where two of a kind are one.
        for number in _taken_endings():
            self._asked_at = time.monotonic()
            self._child.send(number)


def _taken_endings() -> list[int]:
    """Which signals that ask for the end are there already; they are taken."""
    there = [
        number for number in ENDING & signal.sigpending() if signal.getsignal(number) is not signal.SIG_IGN
    ]
    return [signal.sigwaitinfo([number]).si_signo for number in there]


def _stop() -> None:
    """Stop as SIGTSTP does, so that a shell sees its job stop; not where the kernel finds no shell to continue us."""
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
