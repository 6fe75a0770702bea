"""Owns the process of a command: started, signalled, reaped. Must not decide when.

The command stays in the process group of `oscd exec`. So it may use the terminal, a Ctrl-C or Ctrl-Z there reaches it
without help, and a shell sees one job. A group of its own would have to be given the terminal, and to give it back at
every stop.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from oscd.client import launch
from oscd.client.environment import Environment
from oscd.client.own_process import leave_no_core


class Child:
    """A command that runs until `reap` has said that it ended. It never outlives this process.

    To be made on the main thread: the kernel takes the end of the thread that made it for the end of the parent.
    The caller holds its own signals back; they are let pass just before the command begins.

    Raises:
        OSError: No process could be made.
    """

    def __init__(self, command: Sequence[str], environment: Environment) -> None:
        # -I and -S: nothing in the environment or the directory decides what the launcher runs.
        arguments = [sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid()), *command]
        self.pid = os.posix_spawn(sys.executable, arguments, environment)
        self.status: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it was reaped."""
        return self.status is not None

    def send(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ask_to_end(self) -> None:
        """Send it SIGTERM, which it also gets when it is stopped."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)

    def reap(self) -> None:
        """Take note of every process that ended: the command, and as process 1 of a container its orphans too."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    self.status = ended[1]


def end_like(status: int) -> int:
    """End as a process with this status did: by the same signal, or give its exit status.

    A shell then sees what it would have seen without us, and stops its script at Ctrl-C.

    Args:
        status: As waitpid(2) gives it.
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    number = -code
    sys.stdout.flush()
    with suppress(OSError, ValueError):  # SIGKILL cannot be handled, nor need it be
        signal.signal(number, signal.SIG_DFL)
    leave_no_core()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    return 128 + number
