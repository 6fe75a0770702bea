"""Owns processes that end with the one that started them: each a group of its own, ended by its id.

Must not know what runs in one, or let a setting of whoever starts it through.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from oscd.client import launch

STOP_SECONDS: Final = 10.0
_LAUNCHER: Final = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
"""Becomes the command that follows, once the kernel knows that it shall not outlive us."""

OSCD: Final = (sys.executable, "-m", "oscd")


def started(
    command: Sequence[str], home: Path, settings: Mapping[str, str], output: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program that is killed with the thread that calls this, which is to be the main one.

    Args:
        home: Its working directory.
        settings: `OSC_*` variables; no others reach it.
        output: Takes what it writes, errors too; `subprocess.PIPE` for somebody who reads it.

    Raises:
        OSError: There is no such program, or no room for it.
    """
    return subprocess.Popen(  # noqa: S603 - nothing of what it runs is somebody else's
        [*_LAUNCHER, str(os.getpid()), *command],
        cwd=home,
        env=_inherited(os.environ) | dict(settings),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for us: we end them, in our order
    )


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End all of them, in bounded time."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environ.items() if not name.startswith(("OSC_", "CORS_"))}
