"""Owns the directory of one run: what its workers share besides the log, and nobody needs after them.

It is in memory where the system has such a place. Counters are mapped from its files, and a page of a mapped file
that a full disk cannot take kills the process that touches it (SIGBUS): the disk of the log is no place for them.
Must not hold anything that a restart must not lose.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the directory made in it is new and private
_PREFIX: Final = "oscd-run-"
# As `mkdtemp` names them. What else begins like this is somebody's data, whoever named it.
_NAME: Final = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")


class RuntimeDirectory:
    """A private directory, locked for as long as its node lives, and removed with it.

    One that a killed node has left behind is removed by the next node of the same user.

    Raises:
        OSError: None can be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = _place() if parent is None else parent
        _remove_abandoned(parent)
        self.path, self._lock = _make(parent)

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _place() -> Path:
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # Another node came between the two calls and took it for abandoned …
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # … or between these two.


def _remove_abandoned(parent: Path) -> None:
    for path in filter(lambda path: _NAME.fullmatch(path.name), parent.iterdir()):
        # Somebody else's, or gone by now.
        with suppress(OSError):
            _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
    finally:
        os.close(lock)
