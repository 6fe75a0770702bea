"""Owns a terminal with a command on it, as a person has one. Must not judge what is shown."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import PATIENCE, wait_until

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Run by the leader of a new session: the terminal becomes its own, then a command has it."""


class Terminal:
    """A terminal with a command on it.

    Attributes:
        pid: The command's process.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.pid = process.pid
        self._process = process
        self._descriptor = descriptor
        self._shown = b""
        self._seen = 0

    @property
    def shown(self) -> str:
        """All that was shown."""
        return self._shown.decode(errors="replace")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def await_text(self, text: str) -> None:
        """Wait until a text is shown, after what was waited for before."""
        wait_until(lambda: self._shows(text), what=f"{text} on {self._shown[self._seen :]!r}")
        self._seen = len(self._shown)

    def end(self) -> int:
        """Read to the end and give the exit status."""
        wait_until(self._is_closed, what=f"the end of {self._shown!r}")
        return self._process.wait(PATIENCE)

    def interrupt(self) -> int:
        """Press Ctrl-C, again where nothing comes of it, and give the exit status.

        A signal that comes between Python's last look at its flags and the system call that waits for a line is
        noticed with the next one only; a person presses again, too.
        """
        while True:
            with suppress(OSError):
                self.type("\x03")
            while select.select([self._descriptor], [], [], 0.5)[0]:
                if self._is_closed():
                    return self.end()

    def _shows(self, text: str) -> bool:
        self._is_closed()
        return text.encode() in self._shown[self._seen :]

    def _is_closed(self) -> bool:
        """Read what there is; gives whether nobody is on the other side any more."""
        while select.select([self._descriptor], [], [], 0)[0]:
            try:
                part = os.read(self._descriptor, 65536)
            except OSError:  # Linux: the other side is closed
                return True
            if not part:
                return True
            self._shown += part
        return False


@contextmanager
def terminal(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """A command on a terminal of its own; it is killed in the end, with all of its session."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *arguments],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        os.close(ours)
        # A hangup ends neither a server nor what watches it; a shell's jobs are in groups of their own.
        for pid in _session_of(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE)


def _session_of(leader: int) -> list[int]:
    """The processes of a session, its leader included."""
    found = []
    for path in Path("/proc").iterdir():
        with suppress(ProcessLookupError, ValueError):
            if os.getsid(int(path.name)) == leader:
                found.append(int(path.name))
    return found
