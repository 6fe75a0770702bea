"""`oscd exec --watch` on a terminal: to the shell one job, to the command as if it had been started alone."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cli.calling import SERVER, caller, command
from tests.cli.terminal import terminal
from tests.support.node import RunningNode
from tests.support.waiting import wait_until


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
