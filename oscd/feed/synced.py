"""Owns how many events of backlogs this node has taken in from peers, as all its workers see it.

A total that only rises: whoever compares it with what it was knows how many there were since. Must not know what is
told of them, nor of links.
"""

from __future__ import annotations

from oscd.feed.bell import Bell
from oscd.feed.board import Board


class Synced:
    """The total, of which each worker has the part that it added while it was the steward.

    Args:
        board: A worker that replaces another goes on from its number, so that the total never falls.
        bell: Rung when there are more, so that readers are told at once.
    """

    def __init__(self, board: Board, bell: Bell) -> None:
        self._board = board
        self._bell = bell

    def note(self, events: int) -> None:
        """So many events of a peer's backlog are in the log now, committed; the last of them has been taken in."""
        if events > 0:
            self._board.own += events
            self._bell.ring()

    def total(self) -> int:
        """How many this node has noted since it started."""
        return self._board.total()
