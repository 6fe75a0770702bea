"""Starting, asking and watching a `tiny_service` from a test."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.raw_http import read_to_end

PATIENCE = 30.0
"""Seconds after which a test gives up on something that should happen soon."""

ROOT = Path(__file__).parents[2]


class Service:
    """A running service; its lines of output come in order, those of all its processes together."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = 0

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def join(self) -> None:
        """Wait for the last process that holds the output."""
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive()

    def next_line(self) -> str:
        return self.lines.get(timeout=PATIENCE)

    def wait_ready(self) -> None:
        """Skip what workers print until the service says that it is ready."""
        give_up = time.monotonic() + PATIENCE
        while not (line := self.next_line()).startswith("ready "):
            assert not line.startswith("refused "), line
            assert time.monotonic() < give_up, f"not ready, but still at work: {line}"
        self.port = int(line.split()[1])

    def open(self, path: str, *, keep: bool = False) -> socket.socket:
        """Send a GET and return the socket to read the answer from."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection = "keep-alive" if keep else "close"
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: t\r\nconnection: {connection}\r\n\r\n".encode())
        return client

    def ask(self, path: str = "/") -> dict[str, Any]:
        """Ask one worker, on a connection of its own."""
        with self.open(path) as client:
            head, _, body = read_to_end(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        answer: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
        return answer

    def workers(self) -> set[int]:
        """The processes that serve now, by parentage."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in children if "spawn_main" in command_line(int(pid))}

    def wait_exit(self) -> int:
        return self.process.wait(PATIENCE)


@contextmanager
def service(*, ready: bool = True, **options: object) -> Iterator[Service]:
    """Start a service; kill whatever is left of it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.tiny_service"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.close()
        started = Service(process)
        try:
            if ready:
                started.wait_ready()
            yield started
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            started.join()


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nothing announces."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
