"""Owns telling the operator of callers that show a wrong cluster key: one line for each address, now and then.

A peer whose key is wrong asks for ever, and so may a stranger; neither may fill the log or the memory (invariant 10).
Must not decide who is a stranger, nor see a key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("oscd.api")

QUIET_SECONDS: Final = 60.0
"""For so long nothing more is said of an address."""

MOST_ADDRESSES: Final = 32
"""Addresses that are told of within that time; of further ones nothing is said."""


class Strangers:
    """Who was told of lately; lives as long as its worker.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def met(self, address: str) -> None:
        """Tell of a caller with a wrong cluster key, unless its address was told of lately."""
        now = self._clock()
        self._told = {who: at for who, at in self._told.items() if now - at < QUIET_SECONDS}
        if address in self._told or len(self._told) >= MOST_ADDRESSES:
            return
        self._told[address] = now
        _log.warning(
            "%s shows a wrong cluster key: if it is a node of this cluster, OSC_CLUSTER_KEY has to be the same"
            " on both; otherwise somebody is trying keys",
            address,
        )
