"""Owns the log's files on disk: opening, the write lock beside them, whether they still are what was opened.

Must not know events. Only `create_log_file` makes a file; everybody else opens what is there, so a path that
lost its file never gets an empty one in its place.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from oscd.errors import Unavailable

Inode = tuple[int, int]

CACHE_KIBIBYTES = 8192
# A stranger's lock is waited for this long; the write lock is held meanwhile, so it must stay short.
BUSY_MILLISECONDS = 250
CLOSE_SECONDS = 0.3
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Room:
    """How far the log may grow: bytes that stay free on its disk, and its own largest size (None: no limit)."""

    min_free_bytes: int = 0
    max_log_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LogFile:
    """One SQLite log on disk.

    Attributes:
        path: The database file; its `-wal`, `-shm` and `-write-lock` stand beside it.
        inode: Device and inode the path had when the node started. Only this file is ever written.
        wal: The same of the write-ahead log; None where nobody keeps it open (`KeptOpen`).
        shm: The same of the index to it, by which processes see each other's commits.
        lock: The same of the file whose lock they write under.
    """

    path: Path
    inode: Inode
    wal: Inode | None = None
    shm: Inode | None = None
    lock: Inode | None = None

    @property
    def wal_path(self) -> Path:
        """The write-ahead log."""
        return Path(f"{self.path}-wal")

    @property
    def shm_path(self) -> Path:
        """The index to the write-ahead log, in memory that all processes share."""
        return Path(f"{self.path}-shm")

    @property
    def lock_path(self) -> Path:
        """The file whose `flock` serialises writes and checkpoints of all processes."""
        return Path(f"{self.path}-write-lock")

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """Open the existing file for use from any one thread at a time.

        Raises:
            sqlite3.Error: It cannot be opened.
            Unavailable: The path now leads to another file.
        """
        # Before, too: SQLite would pair another file at the path with the write-ahead log of ours, and ruin both.
        self.require_in_place()
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            configure(connection, read_only=read_only)
            self.require_in_place()
        except BaseException:
            connection.close()
            raise
        return connection

    def require_in_place(self) -> None:
        """Make sure that what is written here will be found here again.

        Raises:
            Unavailable: The path, or a file that SQLite keeps beside it, is no longer the one of the start.
        """
        if not self.is_in_place():
            raise Unavailable(
                "Nothing was changed: the file of the log was moved, deleted or replaced; put the same file back, or"
                " restart the node."
            )

    def require_kept_in_place(self) -> None:
        """As `require_in_place`, after a commit.

        Raises:
            Unavailable: Nobody can tell whether the write stays.
        """
        if not self.is_in_place():
            raise Unavailable(
                "The file of the log was moved, deleted or replaced while this was written; whether it stays is not"
                " known."
            )

    def is_in_place(self) -> bool:
        """Whether every path still leads to the file of the start."""
        return (
            inode_of(self.path) == self.inode
            and self.wal in (None, inode_of(self.wal_path))
            and self.shm in (None, inode_of(self.shm_path))
            and self.lock in (None, inode_of(self.lock_path))
        )

    def lack_of_room(self, room: Room, adding: int = 0) -> str | None:
        """Why the log must not grow now, or None where it may.

        Args:
            adding: By how many bytes.
        """
        disk = os.statvfs(self.path)
        # What is added stands in the write-ahead log and, after a checkpoint, in the database as well. Where nothing
        # has to stay free, the disk itself tells that it is full.
        if room.min_free_bytes and disk.f_bavail * disk.f_frsize - 2 * adding < room.min_free_bytes:
            return f"the disk of the log would have less than {room.min_free_bytes} bytes free (OSC_MIN_FREE_BYTES)"
        if room.max_log_bytes is not None and self.size() + adding >= room.max_log_bytes:
            return f"the log would reach {room.max_log_bytes} bytes (OSC_MAX_LOG_BYTES)"
        return None

    def size(self) -> int:
        """Bytes of the database and its write-ahead log."""
        return self.path.stat().st_size + self.wal_size()

    def wal_size(self) -> int:
        """Bytes of the write-ahead log."""
        try:
            return self.wal_path.stat().st_size
        except FileNotFoundError:
            return 0


def configure(connection: sqlite3.Connection, *, read_only: bool = False) -> None:
    """Set what every connection to a log needs, and open its write-ahead log.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    for pragma in (
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "synchronous = FULL",
        # Checkpoints run in one place, under the write lock (checkpoint.py); never beside a commit.
        "wal_autocheckpoint = 0",
        f"cache_size = -{CACHE_KIBIBYTES}",
        "temp_store = MEMORY",
        f"query_only = {int(read_only)}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def inode_of(path: Path) -> Inode | None:
    """Device and inode of what stands at `path`, None where nothing does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)


class KeptOpen:
    """A connection that is only held, for as long as a node serves.

    It keeps the write-ahead log and its index in being whatever workers come and go, so that each worker can be
    told their inodes: one that opened others, made anew after somebody removed them, would not see what its
    neighbours commit. Closed last, it is also what checkpoints at the end.

    Attributes:
        file: The log, with those inodes.

    Raises:
        sqlite3.Error, Unavailable: The log cannot be opened.
    """

    def __init__(self, file: LogFile) -> None:
        self._lock = WriteLock(file.lock_path)
        self._connection = file.connect(read_only=True)
        self.file = replace(
            file,
            wal=inode_of(file.wal_path),
            shm=inode_of(file.shm_path),
            lock=inode_of(file.lock_path),
        )

    def close(self) -> None:
        """Let go, under the write lock, because the last to close checkpoints.

        Where somebody holds the lock for longer than `CLOSE_SECONDS`, or the disk is in trouble, the file is left as
        it is: the next start reads the write-ahead log.
        """
        with suppress(sqlite3.Error, OSError), self._lock.held_within(CLOSE_SECONDS) as is_held:
            if is_held:
                self._connection.close()
        self._lock.close()


class WriteLock:
    """The lock that every write transaction and every checkpoint of a node runs under.

    `flock` hands over in order of arrival; SQLite's own lock does not (four processes writing back to back
    committed 9720/1/1/1 times in 6 s). The kernel drops it when the process dies.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held_within(self, seconds: float) -> Iterator[bool]:
        """Hold the lock if it is free within so many seconds; tells whether it is held."""
        give_up_at = time.monotonic() + seconds
        while not (is_held := self._try()) and time.monotonic() < give_up_at:
            time.sleep(_POLL_SECONDS)
        try:
            yield is_held
        finally:
            if is_held:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, then hold it. Blocks: only for threads that may."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
