"""Owns what one link tells the operator's log: each trouble when it is new, and when all is well again.

A link may fail ten times a second for ever; its log must not (invariant 10). Must not decide what is a trouble.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("oscd.cluster")

QUIET_SECONDS: Final = 60.0
"""For so long one sentence is not said again."""

MOST_SENTENCES: Final = 8
"""Different ones within that time; of further ones nothing is said."""

_WELL: Final = "is in step"


class Said:
    """What was said of one peer lately.

    Args:
        peer: As configured.
        clock: Seconds that only rise.
    """

    def __init__(self, peer: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._clock = clock
        self._said: dict[str, float] = {}
        self._current: str | None = None

    def trouble(self, sentence: str) -> None:
        """The link failed for this reason."""
        self._say(logging.WARNING, sentence)

    def well(self) -> None:
        """The link is live."""
        self._say(logging.INFO, _WELL)

    def _say(self, level: int, sentence: str) -> None:
        if sentence == self._current:
            return
        now = self._clock()
        self._said = {said: at for said, at in self._said.items() if now - at < QUIET_SECONDS}
        if sentence in self._said or len(self._said) >= MOST_SENTENCES:
            return
        self._said[sentence] = now
        self._current = sentence
        _log.log(level, "%s: %s", self._peer, sentence)
