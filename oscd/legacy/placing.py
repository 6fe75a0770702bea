"""Owns what becomes of each row in the log it comes to: an event, or nothing. No I/O: the log comes as functions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from oscd.events.event import EVENT_ID_BYTES, Body, Draft, EventType
from oscd.legacy.row import Row, Unfit
from oscd.projections.entry import Entry

MAX_ID: Final = 2**53 - 1
"""Greatest id that is kept: what JavaScript clients can hold, and far from where SQLite's integers end."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows that can be taken over.

    Attributes:
        added: Became entries that were not there.
        replaced: Took the place of an entry the log had an older write of.
        outdated: Were left out: the log has a write of the same entry that is as new, or newer, or a delete.
        renumbered: Of the added, those whose id this log had already given.
    """

    added: int = 0
    replaced: int = 0
    outdated: int = 0
    renumbered: int = 0

    @property
    def imported(self) -> int:
        """Events appended."""
        return self.added + self.replaced


class Placing:
    """One import into one log.

    Args:
        now: µs since 1970.
        last_id: The greatest entry id the log has ever given. Ids up to it are not given again, not even those of
            deleted entries: history goes on naming them.
        greatest_id: The greatest id among the rows, up to `MAX_ID`.
    """

    def __init__(self, *, now: int, last_id: int, greatest_id: int) -> None:
        self.tally = Tally()
        self._now = now
        self._last_id = last_id
        self._next_id = max(last_id, greatest_id) + 1

    def draft(self, row: Row, current: Entry | None) -> Draft | None:
        """The event a row becomes; None where the log's own write stands.

        A time that has not come yet is taken as now, or every later write would have to be stamped later still.
        When such a row really was written nobody knows, so it beats nothing that is there.

        Args:
            current: The entry as the log has it, or its tombstone.
        """
        if current is not None and (row.updated_at <= current.stamp or row.updated_at > self._now):
            self.tally = replace(self.tally, outdated=self.tally.outdated + 1)
            return None
        return Draft(
            type=EventType.CREATED,
            environment=row.environment,
            key=row.key,
            category=row.category,
            version=1,
            created_at=min(row.created_at, self._now),
            updated_at=min(row.updated_at, self._now),
            event_id=secrets.token_bytes(EVENT_ID_BYTES),
            key_id=None,
            # Decided against nothing: where it takes an entry over, the older write shows as superseded.
            replaces=None,
            body=Body(row.token),
            imported=True,
            stamp=min(row.updated_at, self._now),
            entry_id=self._entry_id(row, is_live=current is not None and not current.deleted),
        )

    def _entry_id(self, row: Row, *, is_live: bool) -> int | None:
        """Count the event, and give the id of the life it begins; None where it goes on with a live one."""
        tally = self.tally
        if is_live:
            self.tally = replace(tally, replaced=tally.replaced + 1)
            return None
        if self._last_id < row.id <= MAX_ID:
            self.tally = replace(tally, added=tally.added + 1)
            return row.id
        self.tally = replace(tally, added=tally.added + 1, renumbered=tally.renumbered + 1)
        self._next_id += 1
        return self._next_id - 1


def place_rows(
    rows: Iterable[Row | Unfit],
    placing: Placing,
    *,
    find: Callable[[Row], Entry | None],
    append: Callable[[Draft], object],
    progress: Callable[[int], None],
) -> Tally:
    """Place every fit row; no row meets another one's event, as at most one is fit for each entry.

    Args:
        find: The entry, or its tombstone, that the log has for a row.
        append: Told each event, in order.
        progress: Told the number of rows that are done.
    """
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Row) and (draft := placing.draft(row, find(row))) is not None:
            append(draft)
        progress(number)
    return placing.tally
