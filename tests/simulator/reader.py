"""Owns a subscriber that moves between nodes: where it stands, what it was told, what it holds of it.

It is what a careful client would be: it takes a write's frames together, resumes from the last whole write, and
re-reads after a reset. Its place and its frames come from the code that serves streams. Must not look into a log for
anything but that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oscd.events.event import EventRef, EventType, Origin
from oscd.events.position import decode_position
from oscd.feed.bell import Bell
from oscd.feed.frame import Frame, StreamFilter
from oscd.feed.place import NoPlace, Place, place_at_head, place_of
from oscd.feed.tail import Tail, Told
from oscd.projections.sqlite import entries_after
from oscd.streams.subscription import HOLD_SECONDS
from tests.simulator import ledger
from tests.simulator.log import MemoryFileLog, at_once
from tests.simulator.world import SECOND, World

Precedence = tuple[int, Origin]


@dataclass(frozen=True, slots=True)
class Held:
    """An entry as a subscriber knows it: the event that made it so."""

    winner: EventRef
    category: str | None


class Reader:
    """One subscriber.

    Args:
        truth: What really happened.

    Attributes:
        held: The matching entries.
        at: What it would resume from.
    """

    def __init__(self, world: World, wanted: StreamFilter, truth: ledger.Ledger) -> None:
        self.held: dict[ledger.Place, Held] = {}
        self.at: str | None = None
        self._world = world
        self._wanted = wanted
        self._truth = truth
        self._told: dict[ledger.Place, Precedence] = {}
        self._log: MemoryFileLog | None = None
        self._tail: Tail | None = None
        self._is_served: Callable[[], bool] = lambda: False
        self._place: Place | None = None
        self._part: list[Frame] = []
        self._held_since = 0

    def connect(self, log: MemoryFileLog, is_served: Callable[[], bool]) -> None:
        """Go to a node, from where it stands.

        Args:
            is_served: Whether the process it came to still runs.
        """
        self.leave()
        self._log, self._tail, self._is_served = log, Tail(log, Bell()), is_served
        self._held_since = self._world.now
        self._find_place()

    def leave(self) -> None:
        """Be cut off; of a write that it was told in part it keeps nothing."""
        if self._part:
            self._world.counts["reader cut inside a write"] += 1
        self._log = self._tail = self._place = None
        self._part = []

    def read(self, pages: int) -> bool:
        """Read on; whether there was anything."""
        if not self._is_served():
            self.leave()
        if self._log is None:
            return False
        if self._place is None:
            self._find_place()
        has_read = False
        for _ in range(pages):
            if self._place is None or self._tail is None:
                break
            told, self._place = at_once(self._tail.reread(self._place))
            if not told:
                break
            has_read = True
            for one in told:
                self._hear(one)
        if self._place is not None and not self._part and self._world.random.random() < 0.5:
            self.at = self._place.at  # A keep-alive.
        return has_read

    def judge(self, *, is_final: bool = False) -> None:
        """Compare what it holds with the merge of what its position covers.

        Args:
            is_final: Whether that must be everything.

        Raises:
            AssertionError: It holds something else.
        """
        if self.at is None:
            return
        covers = self._truth.at(decode_position(self.at))
        if is_final:
            assert self._place is not None, "a reader was left without a place"
            covers = self._truth.at(decode_position(self._place.at))
            assert len(covers) == self._place.offset, "a reader was not told all"
        covered = ledger.winners(covers)
        expected = {
            place: Held(event.ref, event.category)
            for place, event in covered.items()
            if event.type != EventType.DELETED and self._matches(place, event.category)
        }
        assert self.held == expected, f"a reader of {self._wanted} does not hold what its position covers"

    def _find_place(self) -> None:
        assert self._log is not None
        reading = self._log.reading()
        if self.at is None:
            self._read_anew()
            return
        found = place_of(reading, decode_position(self.at))
        if isinstance(found, Place):
            self._place = found
            self._world.counts["reader ahead" if found.ahead else "reader resumed"] += 1
        elif found is NoPlace.CONTRADICTED:
            self._world.counts["reader contradicted"] += 1
            self._read_anew()
        elif self._world.now - self._held_since >= HOLD_SECONDS * SECOND:
            self._world.counts["reader not reached"] += 1
            self._read_anew()
        else:
            self._world.counts["reader held"] += 1

    def _read_anew(self) -> None:
        """What `reset` asks for: the matching entries as they stand, and then what follows."""
        assert self._log is not None
        reading = self._log.reading()
        self._place = place_at_head(reading)
        self.at = self._place.at
        self._told.clear()
        self.held.clear()
        for entry in entries_after(reading.store, ("", "")):
            place = (entry.environment, entry.key)
            if not entry.deleted and self._matches(place, entry.category):
                self.held[place] = Held(entry.winner, entry.category)
                self._told[place] = entry.precedence

    def _hear(self, told: Told) -> None:
        is_for_us = told.frame is not None and self._wanted.matches(told.frame)
        if told.frame is not None and is_for_us:
            self._part.append(told.frame)
        if not told.ends_write or not self._part:
            return
        for frame in self._part:
            self._apply(frame)
        self._part = []
        self.at = told.at

    def _apply(self, frame: Frame) -> None:
        event = frame.event
        place = (event.environment, event.key)
        before = self._told.get(place)
        assert before is None or before < event.precedence, f"a frame of {place} goes back in stamp"
        self._told[place] = event.precedence
        if frame.effect is EventType.DELETED or not self._matches(place, event.category):
            self.held.pop(place, None)
        else:
            self.held[place] = Held(event.ref, event.category)

    def _matches(self, place: ledger.Place, category: str | None) -> bool:
        environment, key = place
        wanted = self._wanted
        return (
            wanted.key in (None, key)
            and wanted.environment in (None, environment)
            and wanted.category in (None, category)
        )
