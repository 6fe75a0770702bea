"""`oscd exec --watch` on a terminal: to the shell one job, to the command as if it had been started alone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cli.calling import SERVER, caller, command
from tests.support.node import RunningNode
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

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._shown = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def await_text(self, text: str) -> None:
        wait_until(lambda: self._shows(text), what=f"{text} on {self._shown!r}")
        self._shown = b""

    def _shows(self, text: str) -> bool:
        while select.select([self._descriptor], [], [], 0)[0]:
            self._shown += os.read(self._descriptor, 65536)
        return text.encode() in self._shown


@contextmanager
def terminal(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[Terminal]:
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
        yield Terminal(process.pid, ours)
    finally:
        os.close(ours)
        # A hangup ends neither the server nor what watches it; a shell's jobs are in groups of their own.
        for pid in _session_of(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE)


@dataclass(frozen=True, slots=True)
class Watched:
    """`oscd exec --watch` over `SERVER`, to be run on a terminal."""

    directory: Path

    def arguments(self) -> list[str]:
        (self.directory / "server.py").write_text(SERVER)
        server = [sys.executable, str(self.directory / "server.py"), str(self.directory / "log")]
        return command("exec", "-e", "none", "--watch", "--", *server)

    def lines(self) -> list[str]:
        log = self.directory / "log"
        return log.read_text().splitlines() if log.exists() else []

    def await_line(self, line: str) -> None:
        wait_until(lambda: any(found.startswith(line) for found in self.lines()), what=line)

    def pid(self) -> int:
        return int(self.lines()[0].split()[1])


def test_a_ctrl_c_reaches_the_command_once(shared_node: RunningNode, tmp_path: Path) -> None:
    """The terminal sends it to both; exec does not send it again. What somebody sends exec alone, it does."""
    watched = Watched(tmp_path)
    with terminal(watched.arguments(), caller(shared_node)) as on:
        watched.await_line("start")
        # Exec is held up, or the system might make one signal of two.
        os.kill(on.pid, signal.SIGSTOP)
        on.type("\x03")
        watched.await_line("got SIGINT")
        os.kill(on.pid, signal.SIGCONT)
        os.kill(on.pid, signal.SIGUSR1)
        watched.await_line("got SIGUSR1")
        assert watched.lines()[1:] == ["got SIGINT", "got SIGUSR1"]


def test_job_control_is_the_shells(shared_node: RunningNode, tmp_path: Path) -> None:
    """Ctrl-Z stops the whole job, fg goes on with it, and its end is the job's."""
    watched = Watched(tmp_path)
    bash = ["bash", "--norc", "--noprofile", "-i"]
    with terminal(bash, caller(shared_node) | {"PS1": "ready> ", "TERM": "dumb"}) as shell:
        shell.await_text("ready> ")
        shell.type(" ".join(watched.arguments()) + "\n")
        watched.await_line("start")
        shell.await_text("oscd: warning")
        shell.type("\x1a")
        shell.await_text("Stopped")
        wait_until(lambda: _state(watched.pid()) == "T", what="the command to stop")
        shell.type("fg\n")
        wait_until(lambda: _state(watched.pid()) != "T", what="the command to go on")
        shell.type("\x1c")
        watched.await_line("got SIGQUIT")
        os.kill(watched.pid(), signal.SIGTERM)
        shell.await_text("ready> ")
        shell.type("echo status $?\n")
        shell.await_text("status 0")
    assert watched.lines()[1:] == ["got SIGQUIT", "got SIGTERM"]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _session_of(leader: int) -> list[int]:
    """The processes of a session, its leader included."""
    found = []
    for path in Path("/proc").iterdir():
        with suppress(ProcessLookupError, ValueError):
            if os.getsid(int(path.name)) == leader:
                found.append(int(path.name))
    return found
