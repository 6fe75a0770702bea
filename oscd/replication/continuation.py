"""Owns the rule of invariant 9: whether a node that has started goes on with its numbers or begins a new incarnation.

Pure: who was asked, and for how long, comes in. Must not wait, nor write the answer down.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from oscd.events.log import Reading, Store
from oscd.events.position import Position, mark
from oscd.events.standing import Own, Standing

ASK_SECONDS: Final = 5.0
"""How long peers may take to answer."""

RECOVER_SECONDS: Final = 60.0
"""How long it may take, after that, to take back what a peer has of this node's own events."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one peer knows of the origin this log appends to.

    Attributes:
        seq: The last event of it that the peer holds; 0 where it holds none.
        is_contradicted: Whether this log holds another event under that number.
    """

    seq: int
    is_contradicted: bool


def answer(reading: Reading[Store], own: Own, position: Position) -> Answer:
    """What a peer's position says of this log's own origin."""
    theirs = position.marks.get(own.origin.incarnation)
    if theirs is None:
        return Answer(0, is_contradicted=False)
    here = reading.find(own.origin.incarnation, theirs.seq)
    return Answer(theirs.seq, here is not None and mark(theirs.seq, here.digest) != theirs)


def decide(
    own: Own,
    answers: Collection[Answer | None],
    *,
    is_over: bool,
    is_given_up: bool,
    claimed: int,
) -> Standing:
    """The standing of a log, by what the peers have answered so far.

    Args:
        answers: One of each configured peer; None where it has not answered, or is gone again.
        claimed: The greatest seq of this origin that any peer has named since this log began to ask. Who named it may
            have been put back itself meanwhile, and whom it had told may have answered before that.
        is_over: Whether they had `ASK_SECONDS`.
        is_given_up: Whether what they have of this origin was not to be had in `RECOVER_SECONDS` more.
    """
    if own.standing is Standing.CONTINUES:
        return Standing.CONTINUES
    given = [one for one in answers if one is not None]
    if any(one.is_contradicted for one in given):
        return Standing.BEGINS
    is_behind = any(one.seq > own.seq for one in given)
    if len(given) == len(answers) and not is_behind and claimed <= own.seq:
        return Standing.CONTINUES
    if is_given_up or (is_over and not is_behind):
        return Standing.BEGINS
    return own.standing
