"""Owns how a worker learns how its node is: whether the log takes writes, what room it has, who of the workers beats.

Must not decide what is bad: whoever reads the metrics does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from oscd.api.service import Readiness
from oscd.events.sqlite.file import LogFile, Room
from oscd.feed.board import Board
from oscd.metrics.health import Health, Space

PROBE_SECONDS: Final = 2.0
"""A log that has not taken a write for so long counts as one that takes none; scrapes are given up after 10 s."""

_MILLISECOND: Final = 0.001


class NodeHealth:
    """How the node is, as one of its workers sees it. All its methods belong to one event loop.

    Args:
        log: Tells whether the log can be written; looks at it as seldom as probes do.
        beats: A number per worker: when its event loop last turned, in ms on the clock that all processes share.
        workers: How many there are.
        certificates: When each certificate of this node ends, in seconds since 1970, by use.
    """

    def __init__(
        self,
        log: Readiness,
        file: LogFile,
        room: Room,
        beats: Board,
        workers: int,
        certificates: Callable[[], Mapping[str, float]],
    ) -> None:
        self._log = log
        self._file = file
        self._room = room
        self._beats = beats
        self._workers = workers
        self._certificates = certificates

    def beat(self) -> None:
        """Note that this worker's event loop turns."""
        self._beats.own = _now()

    async def look(self) -> Health:
        """How the node is now."""
        is_writable, space = await asyncio.gather(self._is_writable(), asyncio.to_thread(self._space))
        return Health(is_writable, space, self._certificates(), self._ages())

    async def _is_writable(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                return not await self._log.reasons()
        return False

    def _space(self) -> Space | None:
        """Runs on a thread."""
        try:
            disk, log = os.statvfs(self._file.path), self._file.size()
        except OSError:
            return None
        free = disk.f_bavail * disk.f_frsize
        rooms = [free - self._room.min_free_bytes]
        if self._room.max_log_bytes is not None:
            rooms.append(self._room.max_log_bytes - log)
        return Space(log, free, max(0, min(rooms)))

    def _ages(self) -> dict[int, float]:
        """Of the workers that have been there; one that was killed is as old as its last beat."""
        now = _now()
        beats = {index: self._beats.of(index) for index in range(self._workers)}
        return {index: max(0, now - beat) * _MILLISECOND for index, beat in beats.items() if beat}


def _now() -> int:
    # As Linux keeps it, it is the same for all processes of a machine, and nobody sets it.
    return int(time.monotonic() / _MILLISECOND)
