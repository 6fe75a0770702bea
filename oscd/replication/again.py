"""Owns when a link asks again for the origins that are held on it, all of which it would be sent anew.

Where time may cure the reason that is each time it is asked; of anything else, as of a fork, ever more seldom: a
person has to do something first, and an origin may be large. Must not know what is held, nor ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from oscd.replication.take import Held

FIRST_PAUSE_SECONDS: Final = 60.0
MOST_PAUSE_SECONDS: Final = 3600.0
"""Between two tries at what time does not cure; each pause is twice the one before, up to this."""


class Again:
    """What was tried of one link.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = FIRST_PAUSE_SECONDS
        self._due_at: float | None = None

    def is_due(self, held: Collection[Held]) -> bool:
        """Whether the link is to begin anew for what is held on it; taken for done then."""
        if not held:
            self._pause, self._due_at = FIRST_PAUSE_SECONDS, None
            return False
        if any(one.passes for one in held):
            return True
        now = self._clock()
        if self._due_at is None:
            self._due_at = now + self._pause
        if now < self._due_at:
            return False
        self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
        self._due_at = now + self._pause
        return True
