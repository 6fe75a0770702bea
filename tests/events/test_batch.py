"""Batching: everything that queued goes together, nothing waits for ever, nothing runs twice."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from oscd.errors import NotFound, Unavailable
from oscd.events.sqlite import batch
from oscd.events.sqlite.batch import MAX_BYTES, MAX_JOBS, MAX_QUEUED, Batcher, Job


class Runner:
    """Runs batches while its gate is open, and notes how large they were."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.sizes: list[int] = []
        self.fail: Exception | None = None

    async def __call__(self, jobs: Sequence[Job]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        begun = [job for job in jobs if job.begin()]
        self.sizes.append(len(begun))
        for job in begun:
            try:
                job.result = job.function(None)
            except Exception as error:
                job.error = error


@asynccontextmanager
async def batching(runner: Runner, begin_seconds: float = 60) -> AsyncIterator[Batcher]:
    batcher = Batcher(runner, begin_seconds=begin_seconds)
    batcher.start()
    try:
        yield batcher
    finally:
        runner.gate.set()
        await batcher.close()


async def closed_behind_one(runner: Runner, batcher: Batcher) -> asyncio.Task[str]:
    """Let one job into the runner and close the gate behind it, so that what follows queues."""
    runner.gate.clear()
    runner.entered.clear()
    first = asyncio.create_task(batcher.submit(lambda _: "first"))
    await runner.entered.wait()
    return first


async def test_what_queued_meanwhile_goes_into_one_batch() -> None:
    """Jobs that arrive while a batch runs share the next one."""
    runner = Runner()
    async with batching(runner) as batcher:
        first = await closed_behind_one(runner, batcher)
        rest = [asyncio.create_task(batcher.submit(lambda _, n=n: n)) for n in range(20)]  # type: ignore[misc]
        await asyncio.sleep(0)
        runner.gate.set()
        assert await first == "first"
        assert await asyncio.gather(*rest) == list(range(20))
    assert runner.sizes == [1, 20]


async def test_batches_are_bounded_by_number_and_bytes() -> None:
    """Invariant 10: no batch has more jobs or bytes than its bound, one huge job apart."""
    runner = Runner()
    async with batching(runner) as batcher:
        first = await closed_behind_one(runner, batcher)
        many = [asyncio.create_task(batcher.submit(lambda _: None)) for _ in range(MAX_JOBS + 5)]
        large = [asyncio.create_task(batcher.submit(lambda _: None, size=MAX_BYTES)) for _ in range(2)]
        await asyncio.sleep(0)
        runner.gate.set()
        await asyncio.gather(first, *many, *large)
    assert runner.sizes == [1, MAX_JOBS, 6, 1]


async def test_a_full_queue_refuses_at_once() -> None:
    """Invariant 10: past the bound of the queue a job is refused, not kept."""
    runner = Runner()
    async with batching(runner) as batcher:
        first = await closed_behind_one(runner, batcher)
        queued = [asyncio.create_task(batcher.submit(lambda _: None)) for _ in range(MAX_QUEUED)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="Too many"):
            await batcher.submit(lambda _: None)
        runner.gate.set()
        await asyncio.gather(first, *queued)


async def test_an_expired_job_never_runs() -> None:
    """A job that did not begin in time is refused, and its function is not called later."""
    runner = Runner()
    calls: list[object] = []
    async with batching(runner, begin_seconds=0.05) as batcher:
        first = await closed_behind_one(runner, batcher)
        with pytest.raises(Unavailable, match="busy"):
            await batcher.submit(calls.append)
        runner.gate.set()
        with pytest.raises(Unavailable, match="busy"):
            await first
    assert calls == []


async def test_a_job_that_hangs_is_given_up_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has begun gets its time to end, and one that adds much gets longer."""
    monkeypatch.setattr(batch, "END_SECONDS", 0.05)
    monkeypatch.setattr(batch, "SLOWEST_BYTES_PER_SECOND", 1)
    go_on = asyncio.Event()

    async def hang(jobs: Sequence[Job]) -> None:
        assert all(job.begin() for job in jobs)
        await go_on.wait()
        for job in jobs:
            job.result = "done"

    small, large = (Batcher(hang, begin_seconds=0.01) for _ in range(2))
    small.start()
    large.start()
    try:
        importing = asyncio.create_task(large.submit(str, size=3600))
        with pytest.raises(Unavailable, match="does not answer"):
            await small.submit(str, size=0)
        assert not importing.done()
        go_on.set()
        assert await importing == "done"
    finally:
        go_on.set()
        await small.close()
        await large.close()


async def test_a_job_whose_caller_left_never_runs() -> None:
    """A caller that is cancelled while its job waits takes the job with it."""
    runner = Runner()
    calls: list[object] = []
    async with batching(runner) as batcher:
        first = await closed_behind_one(runner, batcher)
        gone = asyncio.create_task(batcher.submit(calls.append))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runner.gate.set()
        await first
    assert calls == []


class Held:
    """Stands for what the function of a large job holds."""

    def __call__(self, _: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize("way", ["expired", "left"])
async def test_a_job_that_was_given_up_holds_nothing_in_the_queue(way: str) -> None:
    """Invariant 10: what its function holds, and its share of a batch, are free before its turn comes."""
    runner = Runner()
    async with batching(runner, begin_seconds=0.05 if way == "expired" else 60) as batcher:
        first = await closed_behind_one(runner, batcher)
        held = Held()
        function = weakref.ref(held)
        waiting = asyncio.create_task(batcher.submit(held, size=MAX_BYTES))
        del held
        await asyncio.sleep(0)
        if way == "left":
            waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.exception() is not None if way == "expired" else waiting.cancelled()
        del waiting
        gc.collect()
        assert function() is None
        assert [job.size for job in batcher._queue] == [0]
        runner.gate.set()
        await asyncio.wait([first])


async def test_a_batch_that_runs_is_told_when_it_has_ended() -> None:
    """However its callers were served: one that left does not end it."""
    runner = Runner()
    async with batching(runner) as batcher:
        await batcher.settled()
        first = await closed_behind_one(runner, batcher)
        first.cancel()
        await asyncio.wait([first])
        settled = asyncio.create_task(batcher.settled())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not settled.done()
        runner.gate.set()
        await settled
        runner.fail = Unavailable("trouble")
        with pytest.raises(Unavailable, match="trouble"):
            await batcher.submit(str)
        await batcher.settled()


async def test_errors_reach_their_callers_only() -> None:
    """One job's error is its caller's; an error of the batch is everybody's; the next batch is untouched."""
    runner = Runner()

    def refuse(_: object) -> None:
        raise NotFound("no")

    async with batching(runner) as batcher:
        outcomes = await asyncio.gather(
            batcher.submit(refuse), batcher.submit(lambda _: "fine"), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes] == ["no", "fine"]
        runner.fail = Unavailable("trouble")
        lost = await asyncio.gather(*(batcher.submit(lambda _: 1) for _ in range(3)), return_exceptions=True)
        assert [str(outcome) for outcome in lost] == ["trouble"] * 3
        runner.fail = None
        assert await batcher.submit(lambda _: "again") == "again"


async def test_close_finishes_what_is_queued_and_refuses_more() -> None:
    """Shutting down loses no job that was accepted."""
    runner = Runner()
    async with batching(runner) as batcher:
        first = await closed_behind_one(runner, batcher)
        queued = asyncio.create_task(batcher.submit(lambda _: "queued"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="shutting down"):
            await batcher.submit(lambda _: None)
        runner.gate.set()
        await closing
        assert (await first, await queued) == ("first", "queued")
