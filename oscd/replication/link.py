"""Owns the facts of one link: its state, what is known of the peer, and how both are shown to a person.

Must not wait, nor reach the peer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from oscd.replication.again import Again
from oscd.replication.peers import Peer
from oscd.replication.report import PeerReport, Quarantine
from oscd.replication.said import Said
from oscd.replication.sight import Sight
from oscd.replication.states import Happening, LinkState, after
from oscd.times import is_recent

HEALTHY_MICROSECONDS: Final = 3_000_000
"""A peer that was not heard of for longer is not healthy; it says something each second."""


class Link:
    """The link to one peer.

    Args:
        changed: Told that a person would see something else now.
        before: What an earlier steward of this node reported of it.

    Attributes:
        state: Where it stands.
        sight: What is known of the peer.
        asked_as: The incarnation that the peer was told not to send, and whether this node was still asking where its
            log ended; None before the first stream.
        again: When it asks again for what is held on it.
        backlog: New events taken in since the peer had more than was told yet; a stream that breaks meanwhile leaves
            the count to the next one.
        has_caught_up: Whether all that the peer had was taken once.
        last_error: Why the link failed last; None once it has been live for a while.
    """

    def __init__(self, peer: Peer, changed: Callable[[], object], before: PeerReport | None = None) -> None:
        self.peer = peer
        self.state = LinkState.CONNECTING
        self.sight = Sight()
        self.asked_as: tuple[str | None, bool] | None = None
        self.again = Again()
        self.backlog = 0
        self.has_caught_up = False
        self.last_error: str | None = None
        if before is not None:
            self.sight.node_id, self.sight.last_seen = before.node_id, before.last_seen
            self.last_error = before.last_error
        self._changed = changed
        self._said = Said(peer.name)

    def begin(self) -> None:
        """A task begins to keep the link up, whatever the one before left it at."""
        self.state = LinkState.CONNECTING

    def move(self, happening: Happening) -> None:
        """Take a step in the table of states."""
        before, self.state = self.state, after(self.state, happening)
        if self.state is not before:
            if self.state is LinkState.LIVE:
                self._said.well()
            elif self.state is LinkState.ITSELF:
                self._said.itself()
            self._changed()

    def failed(self, reason: str, *, lasts: bool = False) -> None:
        """The stream could not be had, or has ended.

        Args:
            lasts: Whether somebody has to do something before it may be had again.
        """
        self.last_error = reason
        self._said.trouble(reason)
        self.move(Happening.REFUSED if lasts else Happening.LOST)

    def broke(self, error: Exception) -> None:
        """The stream has ended by an error that nobody foresaw: a fault of ours."""
        self.last_error = f"this node met an error of its own ({type(error).__name__}); its log says more"
        self._said.fault(self.last_error, error)
        self.move(Happening.LOST)

    def report(self, now: int) -> PeerReport:
        """The link, as it may be shown to a person."""
        sight, looked = self.sight, self.sight.looked
        is_open = self.state in (LinkState.LIVE, LinkState.CATCHING_UP)
        was_heard = sight.last_seen is not None and is_recent(sight.last_seen, now, HEALTHY_MICROSECONDS)
        return PeerReport(
            peer=self.peer.name,
            node_id=sight.node_id,
            state=self.state.value,
            is_healthy=is_open and was_heard,
            last_seen=sight.last_seen,
            lag_events=None if looked is None else looked.lag_events,
            lag_seconds=sight.lag_seconds(now),
            skew_seconds=sight.skew_seconds(),
            entries=sight.entries,
            is_synced=None if looked is None else looked.is_synced,
            has_diverged=looked is not None and looked.has_diverged,
            last_error=self.last_error,
        )

    def quarantined(self) -> list[Quarantine]:
        """The origins of which something is not taken from this peer."""
        return [
            Quarantine(held.origin.node_id, held.origin.incarnation, held.seq, self.peer.name, held.reason)
            for held in self.sight.quarantined()
        ]
