"""Owns how many origins a log may know, and what is said where one of its own would be too many.

A position names every origin and has a bound, so other nodes take in only so many. What this node acknowledged under
an origin that nobody takes would stay here alone. Must not know who is a member.
"""

from __future__ import annotations

from typing import Final

from oscd.errors import Unavailable

MAX_ORIGINS: Final = 128
"""Origins a log takes in: with these a position stays under its 4 KiB."""

MAX_ORIGINS_WITH_MEMBERS: Final = 160
"""… and with those of nodes that are known as members, so that nobody's inventions keep a member out."""

MAX_ORIGINS_TO_BEGIN: Final = 144
"""With so many others a log begins no origin of its own: the places that are left are for nodes that begin one at the
same time, cut off from each other."""


def require_place(others: int) -> None:
    """Make sure that other nodes will take in a new origin of this log.

    Args:
        others: Origins this log knows, without the new one.

    Raises:
        Unavailable: They will not.
    """
    if others >= MAX_ORIGINS_TO_BEGIN:
        raise Unavailable(
            f"This node's next event would begin an origin, and its log knows {others} others, so that other nodes"
            " may not take it. If not every node of OSC_CLUSTER_NODES is up, start those, so that this one can go on"
            " where it was; else back up the entries with each user key, and import them into a new cluster."
        )
