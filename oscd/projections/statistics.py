"""Owns what an entry's change means for the statistics. Pure; the SQL is in `sqlite.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from oscd.projections.entry import Entry


class Count(NamedTuple):
    """How many live entries one category (None: uncategorized) or environment gains or loses."""

    kind: str
    name: str | None
    change: int


def counts(before: Entry | None, after: Entry) -> Sequence[Count]:
    """The changes to the statistics when an entry goes from one state to the next."""
    if before is None or before.deleted:
        return () if after.deleted else _contributions(after, 1)
    if after.deleted:
        return _contributions(before, -1)
    if before.category == after.category:
        return ()  # An update in place, by far the commonest change: an entry never changes its environment.
    return (Count("category", before.category, -1), Count("category", after.category, 1))


def _contributions(entry: Entry, change: int) -> Sequence[Count]:
    return (Count("category", entry.category, change), Count("environment", entry.environment, change))


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many live entries there are, by category (None: uncategorized) and by environment."""

    entries: int
    by_category: dict[str | None, int]
    by_environment: dict[str, int]
