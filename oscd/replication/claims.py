"""Owns what peers have named of this node's own events, whoever of them has, and whether or not it is still there.

A peer that knew of an event may be put back or leave before this node has asked everybody; what it said then still
counts (invariant 9). Must not judge who is right.
"""

from __future__ import annotations

from oscd.events.position import Position


class Claims:
    """What was heard since this steward was elected; shared by the links of a node, on one event loop."""

    def __init__(self) -> None:
        # By incarnation of this very node, so that peers cannot make it grow.
        self._greatest: dict[str, int] = {}

    def heard(self, incarnation: str, position: Position) -> None:
        """Take in where a peer stands.

        Args:
            incarnation: That of this node, as of the question that the peer answers.
        """
        theirs = position.marks.get(incarnation)
        if theirs is not None:
            self._greatest[incarnation] = max(theirs.seq, self.greatest(incarnation))

    def greatest(self, incarnation: str) -> int:
        """The greatest seq that was named of an incarnation of this node; 0 where none was."""
        return self._greatest.get(incarnation, 0)
