"""Owns how often the same is said in the log: of one peer, or one stranger, once in a while.

A node that is refused asks again for ever, and so may a stranger; neither may fill the log or the memory
(invariant 10). Must not know what is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

QUIET_SECONDS: Final = 60.0
"""For so long nothing more is said of a name."""

MOST_NAMES: Final = 32
"""Names of which something is said within that time; of further ones nothing is."""


class Seldom:
    """Of whom something was said lately; lives as long as its worker.

    Args:
        clock: Seconds that only rise.
        most: As `MOST_NAMES`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST_NAMES) -> None:
        self._clock = clock
        self._most = most
        self._said: dict[str, float] = {}

    def is_due(self, name: str) -> bool:
        """Whether something may be said of a name now; taken for said then."""
        now = self._clock()
        self._said = {who: at for who, at in self._said.items() if now - at < QUIET_SECONDS}
        if name in self._said or len(self._said) >= self._most:
            return False
        self._said[name] = now
        return True
