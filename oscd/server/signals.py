"""Owns how the signals of the supervisor become something it can wait for beside everything else.

Must not know what a signal means.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from oscd.server.control import CONTROL_SIGNALS


@contextmanager
def signals_as_bytes() -> Iterator[socket.socket]:
    """Turn signals into bytes to wait for: nothing can happen between a look and the wait that follows it."""
    ours, python = socket.socketpair()
    with ours, python:
        ours.setblocking(False)
        python.setblocking(False)
        before = signal.set_wakeup_fd(python.fileno(), warn_on_full_buffer=False)
        for number in CONTROL_SIGNALS:
            signal.signal(number, _noted)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(before)
            for number in CONTROL_SIGNALS:
                # Everything is stopped; an impatient signal must not change the status the process exits with.
                signal.signal(number, signal.SIG_IGN)


def _noted(number: int, frame: object) -> None:
    """Let the wake-up byte do the work."""
