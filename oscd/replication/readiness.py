"""Owns why a node of a cluster may not serve yet, in sentences for `/ready`.

A node that has been ready stays so, whatever becomes of its peers: reads and writes go on while it is cut off. Must
not wait for anything itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from oscd.events.standing import Own, Standing
from oscd.replication.link import Link
from oscd.replication.states import LinkState
from oscd.replication.twins import stands_in

PATIENCE_SECONDS: Final = 5.0
"""How long a peer may take to answer, before the node serves without what it has."""

ASKING: Final = (
    "This node asks its peers where its own history ended; until they have answered it takes no writes."
)


class Readiness:
    """What a steward's node waits for.

    Args:
        is_ready: Whether it was ready before this steward.
        clock: Seconds that only rise.

    Attributes:
        is_ready: Whether the first catch-up with the peers is over.
        salt: For whom this node waits to have a salt; None where it has one.
        own: What is known of its own origin; None where nothing is yet.
        held: Why it takes no writes although it is settled; None where it does.
    """

    def __init__(
        self, links: Sequence[Link], *, is_ready: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_ready = is_ready
        self.salt: str | None = None
        self.own: Own | None = None
        self.held: str | None = None
        self._links = links
        self._clock = clock
        self._elected_at = clock()

    def reasons(self) -> tuple[str, ...]:
        """Why the node may not serve; none where it may."""
        if self.salt is not None:
            return (self.salt,)
        reasons: list[str] = []
        if not self.is_ready:
            reasons += self._behind()
            self.is_ready = self.own is not None and not reasons
        if self.own is None or self.own.standing is Standing.ASKING:
            reasons.append(ASKING)
        if self.held is not None:
            reasons.append(self.held)
        return tuple(reasons)

    def _behind(self) -> Iterator[str]:
        """Say of which peers the first catch-up is still awaited."""
        is_over = self._clock() - self._elected_at >= PATIENCE_SECONDS
        for link in self._links:
            if link.state in (LinkState.ITSELF, LinkState.REFUSED) or self._has_caught_up(link):
                continue
            if link.sight.position is not None:
                yield f"This node is taking in what {link.peer.name} has and it has not."
            elif not is_over:
                yield f"{link.peer.name} has not answered yet."

    def _has_caught_up(self, link: Link) -> bool:
        """Whether all that the peer had was taken once, under this name or another one of it."""
        return any(other.has_caught_up and (other is link or stands_in(other, link)) for other in self._links)
