"""Owns the announcement that something was committed, within a worker and across the workers of a node.

An announcement carries no data: whoever hears it looks at the log. A lost one delays, never loses (invariant 4), as
every listener looks by itself now and then. Must not know a log.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from oscd.feed.board import Board

Listener = Callable[[], None]

POLL_SECONDS = 0.5
"""`until` looks so often even if no bell rang."""

_DRAIN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Bells:
    """The bells of all workers of a node: one pair of connected sockets for each place, made by the supervisor.

    They outlive the workers: what rings while a worker is being replaced is heard by its successor.

    Attributes:
        hear: By worker, the end it listens at.
        ring: By worker, the end the others ring.
    """

    hear: tuple[socket.socket, ...]
    ring: tuple[socket.socket, ...]

    @classmethod
    def make(cls, workers: int) -> Bells:
        """Make one for each worker.

        Raises:
            OSError: The system has no more descriptors.
        """
        pairs = [socket.socketpair() for _ in range(workers)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
        return cls(tuple(hear for hear, _ in pairs), tuple(ring for _, ring in pairs))

    def close(self) -> None:
        """Close every end."""
        for end in (*self.hear, *self.ring):
            end.close()


class Bell:
    """The bell as one worker has it. All its methods belong to one event loop.

    Args:
        bells: Those of the node; None where this process is alone.
        index: Which of them is this worker's.
        ears: How many listeners each worker has; None where that is not known, and all are rung.
    """

    def __init__(self, bells: Bells | None = None, index: int = 0, ears: Board | None = None) -> None:
        self._hear = None if bells is None else bells.hear[index]
        ends = () if bells is None else bells.ring
        self._others = tuple((i, end) for i, end in enumerate(ends) if i != index)
        self._ears = ears
        self._listeners: dict[Listener, None] = {}

    def open(self) -> None:
        """Begin to hear the other workers."""
        if self._hear is not None:
            asyncio.get_running_loop().add_reader(self._hear.fileno(), self._heard)

    def close(self) -> None:
        """Hear nothing any more."""
        if self._hear is not None:
            asyncio.get_running_loop().remove_reader(self._hear.fileno())

    def ring(self) -> None:
        """Announce: something was committed. Never waits."""
        for index, end in self._others:
            # To wake a worker costs it and us more than a commit may. Who begins to listen looks at the log after it
            # has said so, and so finds what was committed before.
            if self._ears is not None and not self._ears.of(index):
                continue
            # A full buffer means that the worker has not yet listened to the rings before; one is as good as many.
            with suppress(OSError):
                end.send(b"\0")
        self._tell()

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each announcement, or once after several."""
        self._listeners[listener] = None
        self._count()

    def unlisten(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)
        self._count()

    def _count(self) -> None:
        if self._ears is not None:
            self._ears.own = len(self._listeners)

    def _heard(self) -> None:
        assert self._hear is not None
        with suppress(BlockingIOError):
            self._hear.recv(_DRAIN_BYTES)
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


async def until(bell: Bell, condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait until a condition of the log holds; False where it does not within so many seconds.

    Raises:
        Exception: Whatever `condition` raises.
    """
    rung = asyncio.Event()
    bell.listen(rung.set)
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await rung.wait()
                rung.clear()
            return True
    except TimeoutError:
        return False
    finally:
        bell.unlisten(rung.set)
