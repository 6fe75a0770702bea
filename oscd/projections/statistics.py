"""Owns what an entry's change means for the statistics. Pure; the SQL is in `sqlite.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from oscd.projections.entry import Entry


class Count(NamedTuple):
    """How many live entries one category (None: uncategorized) or environment gains or loses."""

    kind: str
    name: str | None
    change: int


def counts(before: Entry | None, after: Entry) -> Iterator[Count]:
    """The changes to the statistics when an entry goes from one state to the next."""
    if before is not None and (before.deleted, before.category) == (after.deleted, after.category):
        return  # An update in place, by far the commonest change: an entry never changes its environment.
    gained = list(_contributions(after, 1))
    lost = [] if before is None else list(_contributions(before, -1))
    for count in lost:
        opposite = Count(count.kind, count.name, 1)
        if opposite in gained:
            gained.remove(opposite)
        else:
            yield count
    yield from gained


def _contributions(entry: Entry, change: int) -> Iterator[Count]:
    if not entry.deleted:
        yield Count("category", entry.category, change)
        yield Count("environment", entry.environment, change)


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many live entries there are, by category (None: uncategorized) and by environment."""

    entries: int
    by_category: dict[str | None, int]
    by_environment: dict[str, int]
