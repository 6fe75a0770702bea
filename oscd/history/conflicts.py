"""Owns the list of conflicts as a person may act on it: the newest, each event with the position that names it.

Must not know HTTP, nor what counts as a conflict.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from oscd.events.event import Event
from oscd.events.log import EventLog, Reading
from oscd.events.position import Position
from oscd.history.versions import PAGE_WORK
from oscd.listing import LARGE_READ_BYTES
from oscd.projections.conflict_table import conflicts
from oscd.projections.sqlite import totals

# Conflicts one view reads at most.
PAGE_CONFLICTS = 50


@dataclass(frozen=True, slots=True)
class Side:
    """One event of a conflict, and the position that names it to a rollback."""

    event: Event
    position: Position


@dataclass(frozen=True, slots=True)
class Met:
    """Two events of one entry that met; `foreign_key` where two user keys did."""

    winner: Side
    loser: Side
    foreign_key: bool


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The newest conflicts, the newest first, and how many there were in all."""

    newest: list[Met]
    total: int


async def newest_conflicts(log: EventLog[sqlite3.Connection], limit: int) -> Conflicts:
    """The newest conflicts of a node, in short views.

    Raises:
        Unavailable: Not now.
    """
    newest: list[Met] = []
    total: int | None = None
    before: int | None = None
    while True:
        left = limit - len(newest)
        page, found = await log.read(
            lambda reading, before=before, left=left: _page(reading, left, before),  # type: ignore[misc]
            size=LARGE_READ_BYTES,
        )
        total = found if total is None else total
        newest += [met for _, met in page]
        if not page or len(newest) >= limit:
            return Conflicts(newest, total)
        before = page[-1][0]


def _page(
    reading: Reading[sqlite3.Connection], limit: int, before: int | None
) -> tuple[list[tuple[int, Met]], int]:
    """The first of the conflicts before a number, as many as one view should read, and the number of all."""
    found: list[tuple[int, Met]] = []
    work = 0
    for listed in conflicts(reading.store, min(limit, PAGE_CONFLICTS), before=before):
        winner, loser = (_side(reading, event) for event in (listed.winner, listed.loser))
        found.append((listed.number, Met(winner, loser, listed.foreign_key)))
        work += len(winner.position.marks) + len(loser.position.marks)
        if work >= PAGE_WORK:
            break
    return found, totals(reading.store).conflicts


def _side(reading: Reading[sqlite3.Connection], event: Event) -> Side:
    return Side(event, reading.cut_naming(event).position)
