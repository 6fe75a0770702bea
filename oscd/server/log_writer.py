"""Log lines on their way out of the process.

Owns: the bounded queue, the thread that drains it, standard output and the rotated file. Must not: make the
caller wait (a full queue drops the line and counts it), end the process when output fails, look into a line.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, RLock, Thread
from typing import Protocol

from concurrent_log_handler import ConcurrentRotatingFileHandler

from oscd.errors import StartRefused

MOST_QUEUED_LINES = 10_000

# A pipe takes this much as one piece (POSIX asks for 512, Linux gives 4096), so lines of several processes
# on one pipe stay whole.
_PIPE_BYTES = 4096
_FILE_BATCH_BYTES = 65_536

# After the first line of a burst the thread waits this long for more: waking it for each would make the event
# loop hand over the interpreter lock with each.
_GATHER_SECONDS = 0.02

REST_SECONDS = 2.0
"""How long an output that writes nothing keeps its file open.

A file that was rotated away meanwhile, by another process of the node or by logrotate(8), would take its space on the
disk for as long as this process has nothing to say.
"""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a log file becomes an older one, and how many of those are kept.

    Attributes:
        file_bytes: The size from which on it does; lines of one write, 64 KiB at most, may go beyond. 0: never.
        files: Older ones, at least one.
    """

    file_bytes: int = 10 * 1024 * 1024
    files: int = 5


class Output(Protocol):
    """Where whole lines go; called from one thread only."""

    batch_bytes: int

    def write(self, lines: bytes) -> None:
        """Write lines, waiting as long as it takes.

        Raises:
            OSError: They were not, or not all, written.
        """

    def rest(self) -> None:
        """Hold nothing open that somebody may want to be rid of; called when nothing was written for a while."""

    def close(self) -> None:
        """Release what is held open."""


class DescriptorOutput:
    """An open file descriptor that somebody else owns: standard output."""

    batch_bytes = _PIPE_BYTES

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: bytes) -> None:
        """Write all of it, also to a descriptor that somebody made non-blocking."""
        rest = memoryview(lines)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [], 1)

    def rest(self) -> None:
        """Nothing is held open."""

    def close(self) -> None:
        """Leave the descriptor to its owner."""


class FileOutput:
    """A file that several processes append to and rotate, mode 0600; older ones are `.1`, `.2` and so on.

    Each write locks a file beside it, looks whether the file open here still is the one at the path, and only then
    rotates or appends. So no two processes rotate one file, none writes on into one that another has rotated, and
    what logrotate(8) has renamed is left at the next line, without a signal.
    """

    batch_bytes = _FILE_BATCH_BYTES

    def __init__(self, path: Path, rotation: Rotation) -> None:
        """Open it once now: the handler opens it with the first line, when nobody can be told any more.

        Raises:
            StartRefused: The file cannot be written.
        """
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StartRefused(f"OSC_LOG_FILE={str(path)!r}: {error.strerror}") from None
        self._file = _RaisingHandler(
            path,
            maxBytes=rotation.file_bytes,
            backupCount=rotation.files,
            chmod=0o600,
            encoding="utf-8",
            unicode_error_policy="replace",
        )

    def write(self, lines: bytes) -> None:
        """Append lines under the lock that all processes share."""
        text = lines.decode(errors="replace").removesuffix("\n")
        self._file.emit(logging.LogRecord("oscd", logging.INFO, "", 0, text, None, None))

    def rest(self) -> None:
        """Close file and lock file; the next line opens them again."""
        self._file.let_go()

    def close(self) -> None:
        """Close file and lock file."""
        self._file.close()


class _RaisingHandler(ConcurrentRotatingFileHandler):
    """Hands a failed write to the writer, which counts it, instead of printing a traceback."""

    def let_go(self) -> None:
        """Close the files as at the end; unlike `close`, the handler stays one that `logging` knows."""
        for stream in (self.stream, self.stream_lock):
            if stream is not None:
                stream.close()
        self.stream = self.stream_lock = None

    def handleError(self, record: logging.LogRecord) -> None:
        raise


class LineWriter:
    """A queue of lines, and the thread that writes them.

    Args:
        output: Where lines go.
        lost_line: Makes the line that tells how many lines were lost.
        most_lines: Lines that may wait; further ones are dropped and counted.
    """

    def __init__(
        self, output: Output, lost_line: Callable[[int], bytes], most_lines: int = MOST_QUEUED_LINES
    ) -> None:
        self._output = output
        self._lost_line = lost_line
        self._most_lines = most_lines
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._lost = 0
        # Re-entrant: a finalizer may run, and log, in the middle of counting.
        self._counting = RLock()
        self._closing = Event()
        self._thread = Thread(target=self._drain, name="oscd-log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, newline included; never waits, never raises."""
        if self._closing.is_set() or self._queue.qsize() >= self._most_lines:
            self._count_lost(1)
        else:
            self._queue.put(line)

    def close(self, timeout: float) -> bool:
        """Write what is queued and stop; tell whether that took less than `timeout` seconds.

        Lines put afterwards are dropped. A second call only waits.
        """
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _drain(self) -> None:
        for lines in self._batches():
            self._write(lines, lines.count(b"\n"))
            lost = self._take_lost()
            if lost:
                self._write(self._lost_line(lost), lost)
        self._output.close()

    def _write(self, lines: bytes, count: int) -> None:
        try:
            self._output.write(lines)
        except Exception:
            # Whatever it throws: the lines are lost, a later line tells of it, and the thread goes on.
            self._count_lost(count)

    def _batches(self) -> Iterator[bytes]:
        """Join what waits into pieces of whole lines, each as large as the output takes at once."""
        batch = b""
        while True:
            try:
                line = self._queue.get_nowait()
            except Empty:
                if batch:
                    yield batch
                batch = b""
                line = self._next()
                self._closing.wait(_GATHER_SECONDS)
            if line is None:
                break
            if batch and len(batch) + len(line) > self._output.batch_bytes:
                yield batch
                batch = b""
            batch += line
        if batch:
            yield batch

    def _next(self) -> bytes | None:
        """Wait for a line; while none comes the output rests."""
        try:
            return self._queue.get(timeout=REST_SECONDS)
        except Empty:
            self._output.rest()
        return self._queue.get()

    def _count_lost(self, count: int) -> None:
        with self._counting:
            self._lost += count

    def _take_lost(self) -> int:
        with self._counting:
            lost, self._lost = self._lost, 0
        return lost
