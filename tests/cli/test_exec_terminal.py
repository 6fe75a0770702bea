"""`oscd exec --watch` on a terminal: to the shell one job, to the command as if it had been started alone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.calling import SERVER, caller, command
from tests.support.node import RunningNode
from tests.support.waiting import PATIENCE, wait_until

TAKE_TERMINAL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
"""
"""Run by the leader of a new session: the terminal becomes its own, then a shell has it."""


class Terminal:
    """A terminal with an interactive bash on it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def shows(self, text: str) -> bool:
        """Whether it has shown a text, read as far as it goes."""
        while select.select([self._descriptor], [], [], 0)[0]:
            self._shown += os.read(self._descriptor, 65536)
        return text.encode() in self._shown

    def await_text(self, text: str) -> None:
        wait_until(lambda: self.shows(text), what=f"{text} on {self._shown!r}")
        self._shown = b""


@contextmanager
def terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    ours, theirs = os.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours)
    finally:
        os.close(ours)  # a hangup for whatever runs there
        shell.kill()
        shell.wait(PATIENCE)


def test_job_control_is_the_shells(start_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    """Ctrl-C reaches the command once, Ctrl-Z stops the whole job, fg goes on with it, and its end is the job's."""
    node = start_node()
    log = tmp_path / "log"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    with terminal(caller(node) | {"PS1": "ready> ", "TERM": "dumb"}) as shell:
        shell.await_text("ready> ")
        (tmp_path / "server.py").write_text(SERVER)
        line = command(
            "exec", "-e", "none", "--watch", "--", sys.executable, str(tmp_path / "server.py"), str(log)
        )
        shell.type(" ".join(line) + "\n")
        wait_until(lambda: len(lines()) == 1, what="the start")
        shell.await_text("oscd: warning")
        shell.type("\x03")
        wait_until(lambda: "got SIGINT" in lines(), what="the Ctrl-C")
        shell.type("\x1a")
        shell.await_text("Stopped")
        pid = int(lines()[0].split()[1])
        wait_until(lambda: _state(pid) == "T", what="the command to stop")
        shell.type("fg\n")
        wait_until(lambda: _state(pid) != "T", what="the command to go on")
        shell.type("\x1c")
        wait_until(lambda: "got SIGQUIT" in lines(), what="the Ctrl-\\")
        os.kill(pid, signal.SIGTERM)
        shell.await_text("ready> ")
        shell.type("echo status $?\n")
        shell.await_text("status 0")
    assert lines()[1:] == ["got SIGINT", "got SIGQUIT", "got SIGTERM"]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
