"""Owns how a file comes into being whole or not at all: under a name nobody reads, then under its own.

Must not know what is in it. A process that is killed leaves at most the draft, `.NAME.<16 hexadecimal digits>`, which
may be removed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from oscd.events.salt import sync_directory

_MODE = 0o600


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """An empty file of mode 0600 beside where it will be; gone afterwards, whatever happens.

    Raises:
        OSError: The directory does not take it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    try:
        yield draft
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Give the draft its own name, durably.

    Raises:
        FileExistsError: The name is taken; what has it is not touched.
        OSError: The disk does not take it; nothing has that name then.
    """
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # A rename would replace what is there; a link fails.
    os.link(draft, path)
    try:
        draft.unlink()
        sync_directory(path.parent)
    except BaseException:
        # Nobody was told of it yet, and perhaps it would not survive.
        with suppress(OSError):
            path.unlink()
        raise
