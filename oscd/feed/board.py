"""Owns one number per worker that all workers of a node may read at any time, however busy the others are.

Must not know what is counted. A number of eight aligned bytes is written and read whole.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

_BYTES = 8


class Board:
    """The numbers of all workers, in a file that each of them maps.

    Args:
        path: Made by whoever comes first.
        workers: How many numbers there are.
        index: Which of them is this worker's.
        goes_on: Whether this worker's number goes on from what the worker before it left.

    Attributes:
        abandoned: What the worker before this one, which must have crashed, left its number at; it becomes 0, unless
            the number goes on.
    """

    def __init__(self, path: Path, workers: int, index: int, *, goes_on: bool = False) -> None:
        size = workers * _BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._numbers = memoryview(mmap.mmap(descriptor, size)).cast("q")
        finally:
            os.close(descriptor)
        self._index = index
        self.abandoned = self.own
        if not goes_on:
            self.own = 0

    @property
    def own(self) -> int:
        """This worker's number."""
        return self._numbers[self._index]

    @own.setter
    def own(self, number: int) -> None:
        self._numbers[self._index] = number

    def of(self, index: int) -> int:
        """Another worker's number."""
        return self._numbers[index]

    def total(self) -> int:
        """The sum over all workers."""
        return sum(self._numbers)
