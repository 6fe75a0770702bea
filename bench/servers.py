"""Owns the processes that are measured: starting them on free ports of loopback, finding their workers, ending them.

Must not measure. Ends only what it started, by process id.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 10.0
_ROOT = Path(__file__).parent.parent
_SERVING = re.compile(rb" is serving on http://[^ ]*:(\d+) with ")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up.

    Attributes:
        pid: Of its parent process.
        started_at: Just before it was started, on the clock of `time.perf_counter`.
    """

    port: int
    pid: int
    started_at: float

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def cpu_seconds(self) -> float:
        """Processor time its workers have taken since they began."""
        return sum(_cpu_seconds(pid) for pid in self.workers())


@contextmanager
def oscd(directory: Path, workers: int, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A node over the log in `directory`, with the settings it has by default, its request log included.

    Args:
        settings: Further ones.
    """
    lines = directory / "serve.log"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    environment |= {"OSC_HOST_PORT": "0", "OSC_WORKERS": str(workers), "OSC_CLUSTER_NODE_ID": "bench"}
    environment |= settings or {}
    begun = time.perf_counter()
    with (
        lines.open("wb") as out,
        _process([sys.executable, "-m", "oscd", "serve"], directory, environment, out.fileno()) as process,
    ):
        port = _wait(process, lambda: _port_told(lines))
        yield Server(port, process.pid, begun)


@contextmanager
def bare(workers: int) -> Iterator[Server]:
    """The bare application under Hypercorn's own runner."""
    port = free_port()
    command = ["hypercorn", "--config", "bench/hypercorn.toml", "--workers", str(workers)]
    with _bare([*command, "--bind", f"127.0.0.1:{port}", "bench.bare:app"], port) as server:
        yield server


@contextmanager
def bare_on_listener(workers: int) -> Iterator[Server]:
    """The bare application under oscd's supervisor and listener."""
    port = free_port()
    with _bare(["bench.bare", str(port), str(workers)], port) as server:
        yield server


@contextmanager
def _bare(module: Sequence[str], port: int) -> Iterator[Server]:
    begun = time.perf_counter()
    command = [sys.executable, "-m", *module]
    with _process(command, _ROOT, dict(os.environ), subprocess.DEVNULL) as process:
        _wait(process, lambda: _listens(port))
        yield Server(port, process.pid, begun)


@contextmanager
def _process(
    command: Sequence[str], directory: Path, environment: dict[str, str], out: int
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], find_port: Callable[[], int | None]) -> int:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if (port := find_port()) is not None:
            return port
        time.sleep(0.005)
    raise RuntimeError(f"a server did not start; it ended with {process.poll()}")


def _port_told(lines: Path) -> int | None:
    """The port in the line with which oscd says that it serves."""
    told = _SERVING.search(lines.read_bytes())
    return int(told[1]) if told else None


def _listens(port: int) -> int | None:
    with socket.socket() as probe:
        return port if probe.connect_ex(("127.0.0.1", port)) == 0 else None


def _cpu_seconds(pid: int) -> float:
    # proc(5): the name in parentheses may hold anything; of what follows it, utime and stime are 11 and 12.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
