"""Owns what any worker of a node can say of its cluster: the steward's report, and how far it is to be believed.

Only the steward has links to peers; the other workers read what it wrote. Where it writes no more, nothing is known
of any peer until another worker has taken over. Must not know a link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from oscd.events.log import MicrosecondClock
from oscd.replication.report import ClusterReport, PeerReport, read_report
from oscd.times import is_recent, microseconds_now

FRESH_MICROSECONDS: Final = 200_000
"""For so long one look at the report serves all who ask this worker."""

SILENT_MICROSECONDS: Final = 5_000_000
"""An older report is one that nobody writes any more: it comes each second, and a new steward within another."""

NO_STEWARD: Final = "The worker that talks to the peers of this node has not reported."


class Members:
    """The nodes of a cluster, as one worker of one of them sees them. All its methods belong to one event loop.

    Args:
        configured: The other nodes, as the operator named them.
        path: The steward's report.
        clock: µs since 1970.
    """

    def __init__(
        self, configured: Sequence[str], path: Path, *, clock: MicrosecondClock = microseconds_now
    ) -> None:
        self._configured = tuple(configured)
        self._path = path
        self._clock = clock
        self._turn = asyncio.Lock()
        self._looked_at: int | None = None
        self._found: ClusterReport | None = None

    async def report(self) -> ClusterReport:
        """What is known of the peers now."""
        async with self._turn:
            now = self._clock()
            # A clock that was set back must not make one look last for an hour.
            if self._looked_at is None or not 0 <= now - self._looked_at < FRESH_MICROSECONDS:
                self._found = await asyncio.to_thread(read_report, self._path)
                self._looked_at = now
        # Not as of before the look, which may have waited: what was written meanwhile would be ahead of it.
        return believed(self._found, self._configured, self._clock())


def believed(report: ClusterReport | None, configured: Sequence[str], now: int) -> ClusterReport:
    """What a report says to a reader of `now`.

    Of one that is none, or old, or from before the clock was set back, no peer is known to be well.
    """
    if report is None:
        return ClusterReport(now, (NO_STEWARD,), tuple(PeerReport(peer) for peer in configured))
    if is_recent(report.written_at, now, SILENT_MICROSECONDS):
        return report
    peers = tuple(replace(peer, is_healthy=False) for peer in report.peers)
    return replace(report, not_ready=(*report.not_ready, NO_STEWARD), peers=peers)


def total_nodes(report: ClusterReport) -> int:
    """How many nodes the cluster has, this one included; one of two names counts once, as soon as it was met."""
    return 1 + len(_by_node(report))


def healthy_nodes(report: ClusterReport) -> int:
    """How many of them are well; this one is, as it answers."""
    return 1 + sum(any(peer.is_healthy for peer in names) for names in _by_node(report))


def is_synced(report: ClusterReport) -> bool:
    """Whether every node was equal to this one when last looked at, in all its state, and can still be looked at."""
    return all(any(peer.is_healthy and peer.is_synced for peer in names) for names in _by_node(report))


def _by_node(report: ClusterReport) -> Collection[Sequence[PeerReport]]:
    """What is known under all the names of each node; who was not met yet is taken for another one."""
    nodes: dict[tuple[bool, str], list[PeerReport]] = {}
    for peer in report.peers:
        nodes.setdefault((peer.node_id is None, peer.node_id or peer.peer), []).append(peer)
    return nodes.values()
