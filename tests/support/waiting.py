"""Owns waiting for a condition. Must not sleep longer than the condition takes to come true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 60.0
"""Seconds after which a test gives up on what takes well under one on an idle machine."""

_PAUSE = 0.02


def wait_until(condition: Callable[[], Found | None], seconds: float = PATIENCE, *, what: str = "") -> Found:
    """Call `condition` until what it gives is true, and give that.

    Args:
        seconds: How long to go on; generous, as it only matters when the test fails anyway.
        what: What is waited for, told when it does not come.

    Raises:
        AssertionError: The time is over.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(_PAUSE)
    return found


async def eventually(
    condition: Callable[[], Found | None], seconds: float = PATIENCE, *, what: str = ""
) -> Found:
    """As `wait_until`, while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(_PAUSE / 10)
    return found
