"""The steward's election: exactly one holder, a successor at once, duties that survive their failures."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from oscd.server.steward import Duty, Steward
from tests.server.processes import PATIENCE, service

SOON = 0.01
"""Seconds between tries and runs: as good as at once, for a test."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the steward announces nothing
            await asyncio.sleep(SOON)


async def test_one_of_several_candidates_is_steward_and_the_next_follows(tmp_path: Path) -> None:
    """Of three candidates one is elected; each time the steward closes, one of the others takes over."""
    candidates = [Steward(tmp_path / "lock", [], try_seconds=SOON) for _ in range(3)]
    for candidate in candidates:
        candidate.start()
    while candidates:
        await until(lambda: any(candidate.is_steward for candidate in candidates))
        (holder,) = (candidate for candidate in candidates if candidate.is_steward)
        await holder.close()
        assert not holder.is_steward
        candidates.remove(holder)


async def test_only_the_steward_runs_its_duties_again_and_again(tmp_path: Path) -> None:
    """Duties run on and on at the steward, never at another candidate, and not after it has closed."""
    runs = {"first": 0, "second": 0}

    def counting(name: str) -> Duty:
        async def run() -> None:
            runs[name] += 1

        return Duty("count", SOON, run)

    first, second = (Steward(tmp_path / "lock", [counting(name)], try_seconds=SOON) for name in runs)
    first.start()
    await until(lambda: runs["first"] > 2)
    second.start()
    await until(lambda: runs["first"] > 5)
    assert runs["second"] == 0
    await first.close()
    after_close = runs["first"]
    await until(lambda: runs["second"] > 2)
    assert runs["first"] == after_close
    await second.close()


async def test_a_failing_duty_is_logged_once_and_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A duty that raises stops neither itself nor others; the log tells when it begins to fail, and when it ends."""
    runs = {"failing": 0, "other": 0}

    async def failing() -> None:
        runs["failing"] += 1
        if runs["failing"] <= 3:
            raise RuntimeError("no luck")

    async def other() -> None:
        runs["other"] += 1

    steward = Steward(tmp_path / "lock", [Duty("failing", SOON, failing), Duty("other", SOON, other)])
    with caplog.at_level(logging.WARNING, "oscd.steward"):
        steward.start()
        await until(lambda: runs["failing"] > 4 and runs["other"] > 2)
    assert steward.is_steward
    told = [record.getMessage() for record in caplog.records if record.name == "oscd.steward"]
    assert [text[: text.index(";")] if ";" in text else text for text in told] == [
        "duty failing fails",
        "duty failing works again",
    ]
    await steward.close()


async def test_a_lock_file_that_was_removed_makes_no_second_steward(tmp_path: Path) -> None:
    """Who holds a lock on a file that is no longer there steps down before it goes on."""
    path = tmp_path / "lock"
    first, second = (Steward(path, [], try_seconds=SOON) for _ in range(2))
    first.start()
    await until(lambda: first.is_steward)
    path.unlink()
    await until(lambda: not first.is_steward or path.exists())
    second.start()
    await until(lambda: path.exists() and first.is_steward != second.is_steward)
    await first.close()
    await until(lambda: second.is_steward)
    await second.close()


async def test_a_lock_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    """A missing directory is no reason to give up: the election goes on once it is there."""
    steward = Steward(tmp_path / "later" / "lock", [], try_seconds=SOON)
    steward.start()
    await asyncio.sleep(3 * SOON)
    assert not steward.is_steward
    (tmp_path / "later").mkdir()
    await until(lambda: steward.is_steward)
    await steward.close()


def test_when_the_steward_is_killed_another_worker_takes_over(tmp_path: Path) -> None:
    """After kill -9 of the steward another worker's duties run; the two never overlap."""
    with service(workers=3, lock=str(tmp_path / "lock")) as running:
        first = _next_steward(running.next_line)
        assert _next_steward(running.next_line) == first
        os.kill(first, signal.SIGKILL)
        seen = [first]
        while seen[-1] == first:
            seen.append(_next_steward(running.next_line))
        successors = {_next_steward(running.next_line) for _ in range(10)}
        assert successors == {seen[-1]}
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def _next_steward(next_line: Callable[[], str]) -> int:
    word, _, pid = next_line().partition(" ")
    assert word == "steward"
    return int(pid)
