"""The steward: the one worker of a node that runs its node-wide duties.

Owns: the election and the rhythm of the duties. Must not: know what a duty does.

The election is a `flock` on a file beside the log: the kernel drops it with the process that holds it, so
there is no lease to renew and no clock to trust. The descriptor is closed on exec, so no child keeps the
lock alive.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log = logging.getLogger("oscd.steward")

TRY_SECONDS: Final = 0.5
"""How often a worker that is not the steward tries to become it."""


WELL_SECONDS: Final = 60.0
"""A run that lasted so long before it failed was well."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that exactly one worker does, again and again.

    Attributes:
        name: What the log calls it.
        interval_seconds: Pause after one run before the next; the first follows the election at once.
        run: Does it once, and bounds its own waits; or lasts as long as the election, until it is cancelled. What it
            raises is logged and it is run again next time.
    """

    name: str
    interval_seconds: float
    run: Callable[[], Awaitable[None]]


class Steward:
    """A candidate, and while it holds the lock the steward.

    Args:
        lock_path: The file to lock; made if it is missing, never removed.
        duties: What to do while being the steward.
        try_seconds: Pause between two tries for the lock.
    """

    def __init__(self, lock_path: Path, duties: Sequence[Duty], *, try_seconds: float = TRY_SECONDS) -> None:
        self._lock_path = lock_path
        self._duties = tuple(duties)
        self._try_seconds = try_seconds
        self._lock: int | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_steward(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def start(self) -> None:
        """Begin to stand for election on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="steward")

    async def close(self) -> None:
        """Stop the duties, wait for the one that runs to end its cancellation, and let go of the lock."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                self._lock = _try_lock(self._lock_path)
            except OSError as error:
                _log.warning("steward lock cannot be tried: %s", error.strerror)
            if self._lock is not None:
                await self._serve(self._lock)
            await asyncio.sleep(self._try_seconds)

    async def _serve(self, lock: int) -> None:
        """Run the duties until the lock is no longer what other workers would find."""
        _log.info("this worker is the steward")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._repeat(duty), name=duty.name) for duty in self._duties]
                await self._hold(lock)
                _log.warning("the steward's lock file was replaced; standing for election again")
                for task in tasks:
                    task.cancel()
        finally:
            self._lock = None
            os.close(lock)

    async def _hold(self, lock: int) -> None:
        while _is_at(lock, self._lock_path):  # noqa: ASYNC110 - the file system sends no event
            await asyncio.sleep(self._try_seconds)

    async def _repeat(self, duty: Duty) -> None:
        is_failing = False
        while True:
            began = time.monotonic()
            try:
                await duty.run()
            except Exception:
                # Said once, however long the trouble lasts: a log on a full disk would only add to it. What had been
                # well for a while is in new trouble.
                if not is_failing or time.monotonic() - began >= WELL_SECONDS:
                    _log.exception("duty %s fails; it is tried every %g s", duty.name, duty.interval_seconds)
                is_failing = True
            else:
                if is_failing:
                    _log.warning("duty %s works again", duty.name)
                is_failing = False
            await asyncio.sleep(duty.interval_seconds)


def _try_lock(path: Path) -> int | None:
    """Open and lock the file without waiting; None while another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                undo.pop_all()
                return descriptor
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still is the one at `path`: a lock on a file that was removed excludes nobody."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
