"""The right to derive a key: one for all workers of a node, so random user keys never take a second core.

Owns: the lock file's protocol, its time limit and its fairness between workers. Must not: run on the event
loop, or know what is derived while the slot is held.

The lock is a `flock` on a file of its own: the kernel takes it back from a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from oscd.errors import TooManyRequests, Unavailable

_POLL_SECONDS: Final = 0.005
_STEP_ASIDE_SECONDS: Final = 2 * _POLL_SECONDS


class DerivationSlot:
    """One worker's access to the slot.

    Args:
        path: The lock file, the same for every worker. It is made when first needed and never holds a byte.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._not_before = 0.0

    @contextlib.contextmanager
    def hold(self, seconds: float, given_up: threading.Event) -> Iterator[None]:
        """Hold the slot for the length of the block. Blocks its thread: never call it on the event loop.

        Args:
            seconds: How long to wait for the slot; zero or less refuses without trying.
            given_up: Ends the waiting early.

        Raises:
            TooManyRequests: The slot was not free in time, or the waiting was given up.
            Unavailable: The lock file can be neither opened nor made.
        """
        try:
            # reading is enough for flock, so a file system that turned read-only still serves readers
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"user keys cannot be derived: {error.strerror}") from None
        try:
            self._take(descriptor, seconds, given_up)
            yield
            self._not_before = time.monotonic() + _STEP_ASIDE_SECONDS
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, seconds: float, given_up: threading.Event) -> None:
        # A blocking flock has no time limit, so this polls. And as a poller would hardly ever beat the
        # worker that has just let go and wants it again, that worker first steps aside for two polls.
        deadline = time.monotonic() + seconds
        pause = max(0.0, self._not_before - time.monotonic())
        while not given_up.wait(pause) and time.monotonic() < deadline:
            if _try_lock(descriptor):
                return
            pause = _POLL_SECONDS
        raise TooManyRequests("too many new user keys are waiting; keys already in use are still served")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
