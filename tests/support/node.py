"""Owns a real oscd node for tests: its processes, its directory, its output.

Each node is a process group of its own, so that exactly what was started here can be killed, however it was
left. Its output goes to a file, which never blocks it. Must not know what a test asks of the node.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.waiting import PATIENCE, wait_until

USER_KEY = "correct-horse-battery"
OTHER_USER_KEY = "staple-of-another-tenant"

_TOLD = 4000
"""Characters of a node's last words that a failed test shows."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: a context of their own would take them longer to make than all they then do."""

_SERVING = re.compile(r"is serving on (https?://[^\s\"]+:(\d+)) with \d+ worker")


class RunningNode:
    """`oscd serve` in a directory, on a port the kernel chose; started by the constructor.

    Args:
        directory: Working directory of the node; made if it is missing. Logs on it go beside it, so that it
            holds nothing but what oscd made.
        settings: `OSC_*` variables; no other reaches the node.
        program: What the interpreter runs, before `serve`.

    Attributes:
        port: Where it serves; another one after each `restart`, unless the settings name one.
        base_url: The same as a URL without a trailing slash.

    Raises:
        AssertionError: It does not serve in time, or ended before it did.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str], program: Sequence[str] = ("-m", "oscd")
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.settings = dict(settings)
        self._program = tuple(program)
        self.port = 0
        self.base_url = ""
        self._output = directory.with_name(f"{directory.name}.output")
        self._process = self._start()

    @property
    def database(self) -> Path:
        """The file of the log."""
        return self.directory / self.settings.get("OSC_DATABASE_PATH", "configurations.db")

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything the node wrote to standard output and standard error, over all its starts."""
        return self._output.read_text(errors="replace")

    def processes(self) -> list[int]:
        """Every live process of the node, the supervisor included."""
        return _living_members(self.pid)

    def worker_pids(self) -> list[int]:
        """The worker processes that live now."""
        return [pid for pid in self.processes() if b"--multiprocessing-fork" in command_line(pid)]

    def steward_pid(self) -> int | None:
        """The worker that holds the steward's lock; None between two."""
        lock = self.database.with_name(f"{self.database.name}-steward-lock")
        if not lock.exists():
            return None
        # proc(5): "number: FLOCK ADVISORY WRITE pid major:minor:inode start end"
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pids = [int(one[4]) for one in held if one[5].endswith(f":{lock.stat().st_ino}")]
        return next((pid for pid in pids if pid in self.worker_pids()), None)

    def client(
        self,
        user_key: str = USER_KEY,
        *,
        api_key: str | None = None,
        tls: ssl.SSLContext = NO_TLS,
        http2: bool = False,
    ) -> httpx.Client:
        """A client whose requests carry these keys; the caller closes it.

        Args:
            tls: What it trusts and shows, for a node that serves HTTPS.
            http2: Whether it offers HTTP/2 beside HTTP/1.1, which the node then takes; only with TLS.
        """
        return httpx.Client(
            base_url=self.base_url,
            headers=key_headers(user_key, api_key),
            timeout=PATIENCE,
            trust_env=False,
            verify=tls,
            http2=http2,
        )

    def terminate(self) -> int:
        """Send SIGTERM to the supervisor and give the exit status of the node."""
        return self._stop(signal.SIGTERM)

    def interrupt(self) -> int:
        """Send SIGINT to the supervisor and give the exit status of the node."""
        return self._stop(signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor and go on."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Give the exit status of the node once it has ended by itself."""
        return self._process.wait(PATIENCE)

    def kill_all(self) -> int:
        """Send SIGKILL to every process of the node at once and wait until none is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait(PATIENCE)
        wait_until(lambda: not self.processes(), what="the end of every process of the node")
        return status

    def freeze(self) -> None:
        """Stop every process of the node where it is (SIGSTOP); the kernel still takes connections for it."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start again in the same directory; a node that still runs is terminated first."""
        if self._process.poll() is None:
            self.terminate()
        self._process = self._start()

    def _stop(self, number: signal.Signals) -> int:
        self.send(number)
        status = self.wait()
        wait_until(lambda: not self.processes(), what="the end of every process of the node")
        return status

    def _start(self) -> subprocess.Popen[bytes]:
        seen = len(self._said()) if self._output.exists() else 0
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *self._program, "serve"],
                cwd=self.directory,
                env=_environment({"OSC_HOST_PORT": "0", "OSC_CLUSTER_NODE_ID": "tested"} | self.settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        try:
            serving = wait_until(lambda: self._serving(seen), what="the line that says where the node serves")
        except BaseException:
            self.kill_all()
            raise
        self.base_url, self.port = serving[1], int(serving[2])
        return process

    def _serving(self, seen: int) -> re.Match[str] | None:
        ended = self._process.poll()
        found = _SERVING.search(self._said(), seen)
        assert found or ended is None, f"the node ended with status {ended}:\n{self.output[-_TOLD:]}"
        return found

    def _said(self) -> str:
        """The output and, after it, the log file: that line is in one of the two."""
        log = self.settings.get("OSC_LOG_FILE")
        path = self.directory / log if log else self._output
        return path.read_text(errors="replace") if path.exists() else ""


def run_oscd(
    *arguments: str, directory: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of oscd to its end; for `serve`, one that is expected to be refused.

    Raises:
        subprocess.TimeoutExpired: It does not end; it was killed.
    """
    return subprocess.run(
        [sys.executable, "-m", "oscd", *arguments],
        cwd=directory,
        env=_environment({"OSC_HOST_PORT": "0", "OSC_CLUSTER_NODE_ID": "tested"} | dict(settings or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def key_headers(user_key: str = USER_KEY, api_key: str | None = None) -> dict[str, str]:
    """Headers that carry these keys."""
    return {"X-User-Key": user_key} | ({} if api_key is None else {"X-API-Key": api_key})


def command_line(pid: int) -> bytes:
    """The arguments of a process, each ended by a zero byte; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The tests' own environment without the settings of whoever runs them."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("OSC_", "CORS_"))}
    return kept | dict(settings)


def _living_members(group: int) -> list[int]:
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return sorted(pid for pid in found if _is_living_member(pid, group))


def _is_living_member(pid: int, group: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # proc(5): "pid (name) state ppid pgrp …"; the name may hold spaces and parentheses.
    state, _, process_group = stat.rpartition(") ")[2].split()[:3]
    return int(process_group) == group and state not in "ZX"
