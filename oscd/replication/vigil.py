"""Owns what a node notices by comparing itself with its peers and must act on: clocks far apart, states that differ.

Must not reach a peer: it looks at what the links have found.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from oscd.events.log import EventLog, Writing
from oscd.replication.link import Link
from oscd.replication.seldom import Seldom
from oscd.replication.states import LinkState

_log = logging.getLogger("oscd.cluster")

WARN_SKEW_SECONDS: Final = 1.0
"""Two clocks that are further apart are told of once, and again only after they were closer."""

MAX_AHEAD_SECONDS: Final = 24 * 3600.0
"""A node whose clock is further ahead of a live peer's takes no writes: theirs would lose to its own for a day."""

_AGAIN: Final = "this node takes writes again"


class Vigil:
    """What a steward watches over.

    Args:
        clock: Seconds that only rise.

    Attributes:
        held: Why this node takes no writes; None where it does.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        links: Sequence[Link],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held: str | None = None
        self._log = log
        self._links = links
        # A steward before this one may have held the writes; the log says whether.
        self._knows_held = False
        self._skewed: set[Link] = set()
        # A peer may tell another time at each connection; the operator's log must not grow by it (invariant 10).
        self._seldom = Seldom(clock)
        self._told: str | None = None

    async def keep(self) -> None:
        """Hold writes while a clock is far ahead, until a peer's says that it is not; warn of smaller differences.

        That the peer which was far behind is gone says nothing.

        Raises:
            Unavailable: The log cannot be read or written.
        """
        self._warn()
        if not self._knows_held:
            self.held = self._told = await self._log.read(lambda reading: reading.writes_held())
            self._knows_held = True
        reason = ahead_of(self._links)
        if reason != self.held and (reason is not None or is_shown_right(self._links)):
            await self._log.write(partial(_hold, reason=reason), size=0)
            self.held = reason
        self._tell()

    def compare(self) -> None:
        """Say loudly of which peers this node differs though it holds the same events."""
        for link in self._links:
            seen = link.sight.looked
            if seen is not None and seen.has_diverged:
                _log.error(
                    "%s holds the same events as this node and is in another state: one of the two files was changed,"
                    " or oscd has a fault; run `oscd verify` on both",
                    link.peer.name,
                )

    def _tell(self) -> None:
        """Say what has become of writes; where that was said just before, once it may be said again."""
        if self.held == self._told or not self._seldom.is_due(self.held or _AGAIN):
            return
        self._told = self.held
        if self.held is not None:
            _log.error(self.held)
        else:
            _log.warning(_AGAIN)

    def _warn(self) -> None:
        for link in self._links:
            skew = link.sight.skew_seconds()
            if skew is None:
                continue
            if abs(skew) <= WARN_SKEW_SECONDS / 2:
                self._skewed.discard(link)
            elif abs(skew) > WARN_SKEW_SECONDS and link not in self._skewed:
                direction = "ahead of" if skew > 0 else "behind"
                if not self._seldom.is_due(f"{link.peer.name} {direction}"):
                    continue
                self._skewed.add(link)
                _log.warning(
                    "the clock of %s is %.1f s %s this node's; the later one wins where both write an entry",
                    link.peer.name,
                    abs(skew),
                    direction,
                )


def ahead_of(links: Sequence[Link]) -> str | None:
    """Why a node may not stamp events now: its clock is far ahead of a live peer's; None where no peer shows that."""
    for link, skew in _live_skews(links):
        if skew < -MAX_AHEAD_SECONDS:
            return (
                f"This node's clock is more than 24 h ahead of that of {link.peer.name}, so it takes no writes until"
                " the clocks of live peers say otherwise; set the clock of whichever is wrong. Take a peer that will"
                " not come back out of OSC_CLUSTER_NODES."
            )
    return None


def is_shown_right(links: Sequence[Link]) -> bool:
    """Whether a live peer's clock shows that this node's is not far ahead of it."""
    return any(skew >= -MAX_AHEAD_SECONDS for _, skew in _live_skews(links))


def _live_skews(links: Sequence[Link]) -> Iterator[tuple[Link, float]]:
    """Of each live peer its clock minus ours, in seconds."""
    for link in links:
        skew = link.sight.skew_seconds()
        if link.state is LinkState.LIVE and skew is not None:
            yield link, skew


def _hold(writing: Writing[sqlite3.Connection], reason: str | None) -> None:
    writing.hold_writes(reason)
