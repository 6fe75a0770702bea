"""Owns what one link tells the operator's log: each trouble when it is new, and when all is well again.

A link may fail ten times a second for ever; its log must not (invariant 10). Must not decide what is a trouble.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from oscd.replication.seldom import Seldom

_log = logging.getLogger("oscd.cluster")

MOST_SENTENCES: Final = 8
"""Different ones while one is not said again (`seldom.py`); of further ones nothing is said."""

_WELL: Final = "is in step"
_ITSELF: Final = (
    "leads to this very node, so there is nothing to pull from it; it is looked at again each sync interval"
)


class Said:
    """What was said of one peer lately.

    Args:
        peer: As configured.
        clock: Seconds that only rise.
    """

    def __init__(self, peer: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._sentences = Seldom(clock, most=MOST_SENTENCES)
        self._current: str | None = None

    def trouble(self, sentence: str) -> None:
        """The link failed for this reason."""
        self._say(logging.WARNING, sentence)

    def fault(self, sentence: str, error: Exception) -> None:
        """The link failed by a fault of this node's own; where it happened is told with it."""
        self._say(logging.ERROR, sentence, error)

    def well(self) -> None:
        """The link is live."""
        # Not held back: it comes once for each trouble that was told, and without it that would stand.
        if self._current != _WELL:
            self._tell(logging.INFO, _WELL)

    def itself(self) -> None:
        """The address is this node's own."""
        self._say(logging.INFO, _ITSELF)

    def _say(self, level: int, sentence: str, error: Exception | None = None) -> None:
        if sentence != self._current and self._sentences.is_due(sentence):
            self._tell(level, sentence, error)

    def _tell(self, level: int, sentence: str, error: Exception | None = None) -> None:
        self._current = sentence
        _log.log(level, "%s: %s", self._peer, sentence, exc_info=error)
