"""Owns strace on a running process: a trace of its system calls, or faults injected into them.

Must not outlive the block it is used in: the tracee is detached at its end, and runs on unharmed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import skip_unless_ci
from tests.support.waiting import PATIENCE, wait_until


@contextmanager
def traced(pid: int, trace: Path, *expressions: str) -> Iterator[None]:
    """Trace every thread of a process for as long as the block runs.

    Args:
        pid: The process to attach to.
        trace: File that takes the trace, complete when the block has ended; descriptors with their paths.
        expressions: What strace's `-e` takes, e.g. `trace=fsync` or `inject=fsync:error=EIO`.
    """
    program = shutil.which("strace")
    if program is None:
        skip_unless_ci("strace is not installed (`make test` installs it where it may)")
    said = trace.with_name(f"{trace.name}.said")
    options = [part for expression in expressions for part in ("-e", expression)]
    with said.open("wb") as output:
        strace = subprocess.Popen(
            [program, "-f", "-y", "-s", "128", "-o", str(trace), *options, "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        # It attaches to every thread before it lets any of them go on, and then names them all at once.
        wait_until(
            lambda: strace.poll() is not None or " attached" in said.read_text(),
            what="strace to attach",
        )
        if strace.poll() is not None:
            skip_unless_ci(f"strace may not attach here: {said.read_text().strip()}")
        yield
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)
        strace.wait(PATIENCE)
