"""Owns of how many nodes a log remembers the latest run, and which of them it forgets to make room for another.

Whoever holds the cluster key can invent names, and must neither make a log grow nor keep real peers out (invariant
10). A node whose run is forgotten is met anew by the next stream of it. Must not know what a run is for.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from oscd.errors import Unavailable

MAX_RUNS: Final = 256
"""More than a log can know origins and a cluster has nodes, so that there is always one to be forgotten."""


def forgotten(noted: Iterable[str], kept: Container[str]) -> str:
    """The node whose run is forgotten.

    Args:
        noted: All of them, whose run was noted longest ago first.
        kept: Those that are known for more than their name: members of the cluster, and whose events are here.

    Raises:
        Unavailable: All are.
    """
    for node_id in noted:
        if node_id not in kept:
            return node_id
    raise Unavailable("This node has met too many others to remember one more.")
