"""Owns what a worker that takes a dead one's place goes by where the files of the settings will not do.

That is what was in force in this place before: keys and certificates that were rotated since the start of the node,
and that the other workers go by. It lies in memory without a name (memfd_create(2)), which ends with the node, as a
private key is among it: no file of a disk. Must not judge what it keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import reduction
from typing import Any, Final

_DIGEST_BYTES: Final = 32

PLACE: Final = "/proc/self/fd"
"""Where a process finds its open files by number, however closed it is to others."""


class InForce:
    """The memory of one place under the supervisor: written by its worker, read by the worker's successor.

    Travels to workers as an open file. Where the system has no such memory it keeps nothing.

    Raises:
        OSError: The system has no more descriptors.
    """

    def __init__(self) -> None:
        self._descriptor = memory("oscd-in-force", b"")

    def keep(self, words: Mapping[str, bytes]) -> None:
        """Note what is in force, beside what was noted under other names."""
        if self._descriptor is None:
            return
        text = json.dumps({name: word.decode("latin-1") for name, word in {**self.kept(), **words}.items()})
        with suppress(OSError):  # No room: a successor finds nothing, and depends on the files.
            _write(self._descriptor, hashlib.sha256(text.encode()).digest() + text.encode())

    def kept(self) -> dict[str, bytes]:
        """What was noted last; nothing where a worker ended in the middle of noting it."""
        if self._descriptor is None:
            return {}
        noted = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        digest, text = noted[:_DIGEST_BYTES], noted[_DIGEST_BYTES:]
        if hashlib.sha256(text).digest() != digest:
            return {}
        return {name: word.encode("latin-1") for name, word in json.loads(text).items()}

    def close(self) -> None:
        """Let go of it in this process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __reduce__(self) -> tuple[Callable[..., InForce], tuple[Any]]:
        """Through the pipe to a worker goes a number; the file itself is handed on beside it."""
        descriptor = self._descriptor
        return _arrived, (None if descriptor is None else reduction.DupFd(descriptor),)


def memory(name: str, content: bytes) -> int | None:
    """A file in memory, without a place in any directory; the caller closes it. None where the system has none.

    Raises:
        OSError: The system has no more descriptors, or no room.
    """
    if sys.platform != "linux":
        return None
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    _write(descriptor, content)
    return descriptor


def _write(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)


def _arrived(handed_on: Any) -> InForce:  # noqa: ANN401 - multiprocessing has no name for it
    kept = InForce.__new__(InForce)
    kept._descriptor = None if handed_on is None else handed_on.detach()
    return kept
