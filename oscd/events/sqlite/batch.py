"""Owns batching: everything that queued while the last batch ran goes into the next one.

It is how one commit, or one hop to a thread, serves many callers. Must not know SQL: what runs a batch comes in.
All of it is bounded (invariant 10): the queue by number, a batch by number and bytes, a job by the time it may wait
to begin and then to end.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from oscd.errors import Unavailable

Result = TypeVar("Result")

MAX_JOBS = 256
MAX_BYTES = 8 * 1024 * 1024
MAX_QUEUED = 4096
BEGIN_SECONDS = 5.0
# A job that has begun is given up only where the disk hangs; whether it was done is then not known.
END_SECONDS = 10.0
# A large write (an import) gets longer, by what it adds. Here it is some 40 MB/s, so this is a slow disk's pace.
SLOWEST_BYTES_PER_SECOND = 2 * 1024 * 1024


class Job:
    """One function that waits for its batch, and what came of it."""

    __slots__ = ("_claim", "error", "function", "future", "result", "size")

    def __init__(self, function: Callable[[Any], Any], size: int, future: asyncio.Future[Any]) -> None:
        self.function = function
        self.size = size
        self.future: asyncio.Future[Any] | None = future
        self.result: Any = None
        self.error: Exception | None = None
        self._claim = threading.Lock()

    def begin(self) -> bool:
        """Claim the job, once: either a thread begins it or its caller gives it up, never both."""
        return self._claim.acquire(blocking=False)

    def give_up(self, error: Exception | None = None) -> bool:
        """Claim the job so that nobody begins it, and let go of all it holds; False where it has begun.

        It stays where it is until its batch comes, and a function may hold all that an import has sealed, as may the
        frames of whoever is given the error.

        Args:
            error: For whoever still waits.
        """
        if not self.begin():
            return False
        future, self.future = self.future, None
        self.function, self.size = _nothing, 0
        if error is not None and future is not None and not future.done():
            future.set_exception(error)
        return True

    def deliver(self) -> None:
        """Hand the outcome to whoever still waits."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _nothing(_: object) -> None:
    """What a job does that was given up."""


def _abandon(job: Job) -> None:
    if job.future is not None and not job.future.done():
        unknown = "The disk of the log does not answer; whether this was done is not known."
        job.future.set_exception(Unavailable(unknown))


class Batcher:
    """A queue of jobs and the task that runs them, batch by batch.

    Args:
        run: Runs the jobs of one batch that it can `begin`, and sets their `result` or `error`. What it raises
            becomes the error of every job in the batch.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], Awaitable[None]], *, begin_seconds: float = BEGIN_SECONDS
    ) -> None:
        self._run = run
        self._begin_seconds = begin_seconds
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._is_between = asyncio.Event()
        self._is_between.set()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run batches."""
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="batcher")

    async def close(self) -> None:
        """Refuse new jobs, finish the queued ones, end the task."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def submit(self, function: Callable[[Any], Result], *, size: int = 0) -> Result:
        """Queue `function` and wait for its outcome.

        Raises:
            Unavailable: The queue is full or closing; or the job did not begin in time, and will never run; or it did
                not end in time, which is told.
            Exception: Whatever the function or the batch raised.
        """
        if self._closing:
            raise Unavailable("The node is shutting down.", retry_after=2)
        if len(self._queue) >= MAX_QUEUED:
            raise Unavailable("Too many requests are waiting for the log.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        job = Job(function, size, future)
        self._queue.append(job)
        self._wake.set()
        expiry = loop.call_later(self._begin_seconds, self._expire, job)
        try:
            return await future
        except asyncio.CancelledError:
            job.give_up()  # The caller is gone: what has not begun need not run.
            raise
        finally:
            expiry.cancel()

    async def settled(self) -> None:
        """Wait until the batch that runs now has ended, if one does; what began before holds nothing then."""
        await self._is_between.wait()

    def _expire(self, job: Job) -> None:
        busy = f"Nothing was changed: the log was busy for {self._begin_seconds:g} s."
        if not job.give_up(Unavailable(busy)):
            seconds = END_SECONDS + job.size / SLOWEST_BYTES_PER_SECOND
            asyncio.get_running_loop().call_later(seconds, _abandon, job)

    async def _serve(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._run_next()

    async def _run_next(self) -> None:
        batch = self._take()
        self._is_between.clear()
        try:
            await self._run(batch)
        except Exception as error:
            for job in batch:
                # One for each: an exception that is raised in many places gathers the frames of all.
                job.error = copy.copy(error)
        self._is_between.set()
        for job in batch:
            job.deliver()

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        size = 0
        while (
            self._queue and len(batch) < MAX_JOBS and (not batch or size + self._queue[0].size <= MAX_BYTES)
        ):
            job = self._queue.popleft()
            size += job.size
            batch.append(job)
        return batch
