"""The salt file: made once, whole or not at all, and never beside events that another salt encrypted.

Owns: reading, making and judging the file that `OSC_SALT_FILE_PATH` names. Must not: overwrite a salt for any
reason, or know where the log keeps the digest it noted (the caller hands it in).

The salt alone opens nothing, but without it no user key opens anything, and nothing brings it back. Hence
the care in making it, and the refusal to start with one that is not the log's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused
from oscd.events.cipher import SALT_BYTES

SaltSource = Callable[[], bytes]
"""Gives the salt; raises `Unavailable` while this node has none, as it may for a while in a new cluster."""

_SETTING: Final = "OSC_SALT_FILE_PATH"
_MODE: Final = 0o600
_REPLACE: Final = "restore the right one, or remove it if the log is empty"
_RESTORE: Final = "restore the one its events were written with, from a backup or another node of the cluster"


def ensure_salt(path: Path, noted_digest: bytes | None, log_is_empty: bool) -> bytes:
    """Return the salt that belongs to a log, making one where the log is empty and there is none.

    An empty log accepts any salt, as nothing was encrypted yet. So the caller notes the `salt_digest` of
    what is returned, in place of one noted before, no later than it appends the first event.

    Args:
        path: The salt file.
        noted_digest: The digest the log keeps, or None while it keeps none.
        log_is_empty: Whether the log has no event at all.

    Raises:
        StartRefused: The log has events and the file is missing, is another salt than theirs, or no digest
            was noted to tell; or, whatever the log holds, the file is not a salt, cannot be read or cannot
            be made.
    """
    if log_is_empty:
        return load_salt(path) if os.path.lexists(path) else create_salt(path)
    salt = load_salt(path)
    if noted_digest is None:
        raise _refused(path, f"the log has events but notes no salt to compare this one with; {_RESTORE}")
    if salt_digest(salt) != noted_digest:
        raise _refused(path, f"this is not the salt of the log; {_RESTORE}")
    return salt


def salt_digest(salt: bytes) -> bytes:
    """Return the SHA-256 by which a log recognises its salt."""
    return hashlib.sha256(salt).digest()


def load_salt(path: Path) -> bytes:
    """Read the salt.

    Raises:
        StartRefused: The file is missing, cannot be read, or does not hold exactly `SALT_BYTES` bytes.
    """
    try:
        with path.open("rb") as file:
            salt = file.read(SALT_BYTES + 1)
    except FileNotFoundError:
        raise _refused(path, f"there is no such file, but the log needs its salt; {_RESTORE}") from None
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror}); let this user read it") from None
    if len(salt) != SALT_BYTES:
        raise _refused(path, f"a salt is exactly {SALT_BYTES} bytes, this file is not; {_REPLACE}")
    return salt


def salt_warning(path: Path) -> str | None:
    """Return what to tell the operator about the file's permissions; None where they are as they should be.

    A warning, neither a refusal nor a chmod: files mounted by an orchestrator are often group-readable, and
    on a read-only file system.

    Raises:
        StartRefused: The file is missing or cannot be looked at.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise _refused(path, f"cannot be looked at ({error.strerror})") from None
    if mode & 0o077 == 0:
        return None
    return f"{_SETTING}={path}: mode is {mode:04o}, so others than its owner may use it; chmod {_MODE:o} it"


def create_salt(path: Path) -> bytes:
    """Make a new salt file; see `keep_salt`.

    Raises:
        StartRefused: The file exists, or the directory does not take it.
    """
    salt = os.urandom(SALT_BYTES)
    keep_salt(path, salt)
    return salt


def keep_salt(path: Path, salt: bytes) -> None:
    """Put a salt that has no file here yet into one, mode 0600, durable before this returns.

    It is written and synced under a random name beside its own and then linked, which is atomic and fails
    where the name is taken: a crash at any point leaves no salt or a whole one (and perhaps the draft, which
    nothing ever reads), and an existing one is not touched.

    Raises:
        StartRefused: The file exists, or the directory does not take it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_durably(draft, salt)
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise _refused(path, "another process has just made this file; start again to use it") from None
    except OSError as error:
        advice = f"make the directory writable, or put {SALT_BYTES} random bytes there yourself"
        raise _refused(path, f"cannot be made ({error.strerror}); {advice}") from None


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def sync_directory(path: Path) -> None:
    """Make a new directory entry survive power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, reason: str) -> StartRefused:
    return StartRefused(f"{_SETTING}={path}: {reason}")
