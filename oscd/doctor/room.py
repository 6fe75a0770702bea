"""Owns what a node has room for: its log on the disk, its connections among open files, its time on the clock."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.events.sqlite.file import LogFile, Room, inode_of
from oscd.server.process import OPEN_FILES
from oscd.server.settings import Settings

_SCARCE: Final = 2
"""Times the room that must stay free; with less than that it is time to look."""

_NEARLY: Final = 0.9
"""Of the largest log."""

FILES_BESIDE: Final = 200
"""Files that a worker has open beside its connections: log, counters, bells, links to peers."""

OLDEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A clock outside of these was never set."""

_MIB: Final = 1024 * 1024


def disk(settings: Settings) -> Iterator[Finding]:
    """The disk of the log against OSC_MIN_FREE_BYTES, and the log against OSC_MAX_LOG_BYTES."""
    path = settings.database_path.resolve()
    status = os.statvfs(path if path.exists() else path.parent)
    free, least = status.f_bavail * status.f_frsize, settings.min_free_bytes
    said = f"{_mib(free)} free, {_mib(least)} must stay so (OSC_MIN_FREE_BYTES)"
    if free < least:
        yield fail("disk", f"{said}: writes but deletes get 503", "make room, or give the log a larger disk")
    elif free < _SCARCE * least or (status.f_files and not status.f_favail):
        yield warn("disk", said if status.f_favail else "no file can be made any more", "make room")
    else:
        yield ok("disk", said)
    inode = inode_of(path)
    if inode is not None:
        yield _size(LogFile(path, inode), settings)


def _size(file: LogFile, settings: Settings) -> Finding:
    size, most = file.size(), settings.max_log_bytes
    if most is None:
        return ok("log size", f"{_mib(size)}; OSC_MAX_LOG_BYTES sets no limit")
    said = f"{_mib(size)} of {_mib(most)} (OSC_MAX_LOG_BYTES)"
    if file.lack_of_room(Room(0, most)) is not None:
        return fail("log size", f"{said}: writes but deletes get 503", "raise it, if the disk has room")
    return warn("log size", said, "raise it soon") if size > _NEARLY * most else ok("log size", said)


def open_files(settings: Settings) -> Iterator[Finding]:
    """Whether each worker may open its share of OSC_MAX_CONNECTIONS; it raises its limit to what is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    needed = -(-settings.max_connections // settings.workers) + FILES_BESIDE
    said = f"a worker needs {needed} for its share of OSC_MAX_CONNECTIONS, this user may open {allowed}"
    if allowed < needed:
        yield warn(
            "open files", said, "raise the limit (ulimit -Hn, LimitNOFILE=), or lower OSC_MAX_CONNECTIONS"
        )
    else:
        yield ok("open files", said)


def clock(now: datetime) -> Iterator[Finding]:
    """Whether the clock was ever set; how it stands beside other nodes is told with them."""
    if OLDEST <= now < LATEST:
        yield ok("clock", f"{now:%Y-%m-%dT%H:%M:%SZ}")
    else:
        yield fail(
            "clock",
            f"it says {now:%Y-%m-%dT%H:%M:%SZ}",
            "set it before the node stamps events",
        )


def _mib(number: int) -> str:
    return f"{number // _MIB} MiB" if number >= _MIB else f"{number} bytes"
