"""Owns the claim on a log: which process group may serve it, or work on it as if no node did.

The lock file also says which files a node serves from, so that whoever writes beside it can make sure that they are
the same. Must not touch the log.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from oscd.errors import StartRefused
from oscd.events.sqlite.file import Inode, LogFile

_MAX_NOTE = 4096
_POLL_SECONDS = 0.02


class Claimed(StartRefused):
    """Another process holds the claim."""


class NodeClaim:
    """The claim of one process group on a log: held as long as it serves, or works on the file offline.

    Args:
        wait_seconds: How long to wait for it; a command that works beside no node needs it for a moment only.

    Raises:
        Claimed: Another process holds it.
        StartRefused: The directory cannot be written.
    """

    def __init__(self, path: Path, *, wait_seconds: float = 0.0) -> None:
        try:
            self._descriptor = os.open(_claim_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(
                f"OSC_DATABASE_PATH: its directory cannot be used: {error.strerror}."
            ) from error
        give_up_at = time.monotonic() + wait_seconds
        while not (is_held := self._try()) and time.monotonic() < give_up_at:
            time.sleep(_POLL_SECONDS)
        if not is_held:
            os.close(self._descriptor)
            raise Claimed("OSC_DATABASE_PATH: another oscd is using this log; stop it first.")
        self._forget()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def note(self, file: LogFile) -> None:
        """Say which files are served from now on.

        Raises:
            OSError: The disk does not take it.
        """
        inodes = [file.inode, file.wal, file.shm, file.lock]
        os.pwrite(self._descriptor, json.dumps(inodes).encode(), 0)

    def release(self) -> None:
        """Let others have the log."""
        with suppress(OSError):
            self._forget()
        os.close(self._descriptor)

    def _forget(self) -> None:
        """Remove what was noted, by this process or by one that was killed."""
        if os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, 0)


def is_claimed(path: Path) -> bool:
    """Whether somebody holds the claim, or may do so as far as this user can see; takes it from nobody."""
    try:
        descriptor = os.open(_claim_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def served_file(path: Path) -> LogFile | None:
    """The files that the holder of the claim has noted; None where it serves none, or not yet."""
    try:
        with _claim_path(path).open("rb") as note:
            inodes = [_inode(pair) for pair in json.loads(note.read(_MAX_NOTE))]
    except (OSError, ValueError, TypeError):
        return None
    return LogFile(path, *inodes) if len(inodes) == 4 else None


def _inode(pair: list[int]) -> Inode:
    device, number = pair
    return (int(device), int(number))


def _claim_path(path: Path) -> Path:
    return Path(f"{path}-node-lock")
