"""Owns what is made of one node that is configured under two names: it is said, and it counts once.

Pure but for the log. Must not close a link: which of the two names is the good one is for the operator to say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from oscd.replication.link import Link

_log = logging.getLogger("oscd.cluster")


class Twins:
    """What was said of links that lead to one node; lives as long as they do."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = links
        self._told: set[tuple[Link, Link]] = set()

    def look(self) -> None:
        """Tell of links that have met one node; of two of them once."""
        for first, second in twins(self._links):
            if (first, second) not in self._told:
                self._told.add((first, second))
                _log.warning(
                    "OSC_CLUSTER_NODES: %s and %s are one node, %s, which counts once; remove one of them",
                    first.peer.name,
                    second.peer.name,
                    first.sight.node_id,
                )


def twins(links: Sequence[Link]) -> Iterator[tuple[Link, Link]]:
    """Pairs of links whose streams come from one run of one node; the first one only with each other one."""
    met: dict[tuple[str | None, str | None], Link] = {}
    for link in links:
        if link.sight.position is not None:
            first = met.setdefault((link.sight.node_id, link.sight.run), link)
            if first is not link:
                yield first, link


def stands_in(other: Link, link: Link) -> bool:
    """Whether what another link knows holds for this one, as both have met one node."""
    return link.sight.node_id is not None and other.sight.node_id == link.sight.node_id
