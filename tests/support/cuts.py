"""Cuts made by hand, so that a test can say which events it means."""

from __future__ import annotations

from collections.abc import Sequence

from oscd.events.cut import Cut
from oscd.events.event import Recorded
from oscd.events.position import Position, mark


def cut_covering(first: Sequence[Recorded]) -> Cut:
    """The cut that covers these events, the first ones of a log."""
    lasts = {r.event.origin.incarnation: r for r in first}
    return Cut(
        Position({name: mark(r.event.seq, r.digest) for name, r in lasts.items()}),
        {name: r.event.stamp for name, r in lasts.items()},
    )
