"""Owns files that hold values: only their owner may read them, and each is there whole or not at all.

Must not know what is in one.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from oscd.client.errors import UsageRefused


def write_private(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file of mode 0600 that is on disk when this returns.

    Args:
        replace: Whether a file that is there may be replaced.

    Raises:
        UsageRefused: It exists and may not be replaced, is no regular file, or cannot be written; nothing changed.
    """
    target = path.resolve()  # a link stays one
    _require_free(target, path, replace=replace)
    try:
        temporary = _written(target.parent, content)
        try:
            _place(temporary, target, replace=replace)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_directory(target.parent)
    except FileExistsError:
        raise UsageRefused(_exists(path)) from None
    except OSError as error:
        raise UsageRefused(f"{path}: cannot be written: {error.strerror}") from None


def _require_free(target: Path, shown: Path, *, replace: bool) -> None:
    try:
        mode = target.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise UsageRefused(f"{shown}: is no regular file; without -o the text goes to standard output")
    if not replace:
        raise UsageRefused(_exists(shown))


def _exists(shown: Path) -> str:
    return f"{shown}: exists; --force replaces it"


def _written(directory: Path, content: bytes) -> str:
    descriptor, temporary = tempfile.mkstemp(prefix=".oscd-", dir=directory)  # mode 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _place(temporary: str, target: Path, *, replace: bool) -> None:
    if replace:
        os.replace(temporary, target)
    else:
        os.link(temporary, target)  # unlike a rename it never replaces what somebody else has just put there


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
