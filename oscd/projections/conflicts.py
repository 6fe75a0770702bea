"""Owns the rule by which two events of one entry count as a conflict. Pure; the table is in `conflict_table.py`.

Nodes that cannot see each other may write one entry at the same time. Merge keeps the greater stamp (`entry.py`).
That the other write lost is no error, but somebody meant it, and so the pair is listed. Which pairs meet depends on
the order in which events reach a log: conflicts are this node's, and no part of the state digest.
"""

from __future__ import annotations

from dataclasses import dataclass

from oscd.events.event import Recorded
from oscd.projections.entry import Entry


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two events of one entry, neither of which was decided against the other.

    Attributes:
        winner: Offset of the one that the entry kept when they met.
        loser: Offset of the other one. The greater offset is of the event that came later.
        foreign_key: Whether two user keys met.
    """

    winner: int
    loser: int
    foreign_key: bool


def conflict(current: Entry | None, recorded: Recorded) -> Conflict | None:
    """What an event meets that it was not decided against; None where it meets nothing, or follows it.

    Args:
        current: The entry before the event; None where this log never held one.
    """
    if current is None:
        return None
    event = recorded.event
    wins = event.precedence > current.precedence
    if wins and event.replaces == current.winner:
        return None
    is_foreign = None not in (event.key_id, current.key_id) and event.key_id != current.key_id
    if wins:
        return Conflict(recorded.offset, current.offset, is_foreign)
    return Conflict(current.offset, recorded.offset, is_foreign)
