"""Owns why a node of a cluster may not serve yet, in sentences for `/ready`. Pure.

A node that has been ready stays so, whatever becomes of its peers: reads and writes go on while it is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from oscd.events.standing import Standing
from oscd.replication.link import Link
from oscd.replication.states import LinkState

PATIENCE_SECONDS: Final = 5.0
"""How long a peer may take to answer, before the node serves without what it has."""

ASKING: Final = "This node has started and asks its peers where its own history ended; until then it takes no writes."


def behind(links: Sequence[Link], seconds: float) -> Iterator[str]:
    """Say of which peers the first catch-up is still awaited.

    Args:
        seconds: Since when this worker has been the steward.
    """
    for link in links:
        if link.has_caught_up or link.state in (LinkState.ITSELF, LinkState.REFUSED):
            continue
        if link.sight.position is not None:
            yield f"This node is taking in what {link.peer.name} has and it has not."
        elif seconds < PATIENCE_SECONDS:
            yield f"{link.peer.name} has not answered yet."


def unsettled(standing: Standing | None) -> Iterator[str]:
    """Say whether this node may append to its log at all; None: it is not known yet."""
    if standing in (None, Standing.ASKING):
        yield ASKING
