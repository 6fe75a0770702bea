"""Owns what really happened, as streams are judged by it: the changes in log order, and the state they make.

It comes from a replay of the log on one node, which the writers' own acknowledgements must agree with. Must not do
I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.history import Filters, History, Received

EntryName = tuple[str, str]
"""Environment and key."""

Identity = tuple[str, str, str, int, str]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one change did to its entry.

    Attributes:
        event: created, updated or deleted.
        before: The category it had; None for none, and before a create.
        after: The category it has; None for none, and after a delete.
    """

    event: str
    environment: str
    key: str
    version: int
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.event} {self.environment}/{self.key} v{self.version} [{self.before} → {self.after}]"


@dataclass(frozen=True, slots=True)
class Write:
    """What one acknowledged request did, and the position it was answered with."""

    position: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A change as the log has it.

    Attributes:
        write: Number of the write it belongs to; rises with the log.
    """

    effect: Effect
    timestamp: str
    write: int

    def __str__(self) -> str:
        return str(self.effect)


@dataclass(frozen=True, slots=True)
class Held:
    """The state of an entry as streams show it."""

    version: int
    category: str | None


class Truth:
    """The changes of one node's log, from a place on.

    A *place* is the number of an event; a *cut* lies before the event of its number, so it is how many come before.

    Args:
        events: In log order, the first written to a log whose entries are `base`.
        cuts: What each known id stands for. It may know of places inside writes.
        base: The entries at the start.
    """

    def __init__(
        self, events: Sequence[Event], cuts: Mapping[str, int], base: Mapping[EntryName, Held] | None = None
    ) -> None:
        self.events = tuple(events)
        self._cuts = dict(cuts)
        self._base = dict(base or {})
        self._places = {_identity(event): place for place, event in enumerate(self.events)}
        assert len(self._places) == len(self.events), "two events of the log have one identity"
        self._writes: dict[int, list[int]] = {}
        for place, event in enumerate(self.events):
            self._writes.setdefault(event.write, []).append(place)

    @staticmethod
    def identity(frame: Received) -> Identity:
        """What makes a told change the one it is."""
        data = frame.data
        return (frame.event, data["environment"], data["key"], data["version"], data["timestamp"])

    def place(self, frame: Received) -> int | None:
        """Where a told change stands; None where the log has no such event, or has it in another category."""
        place = self._places.get(self.identity(frame))
        if place is None or frame.data["category"] != told_category(self.events[place].effect):
            return None
        return place

    def cut(self, identifier: str) -> int | None:
        """The cut an id stands for; None where it is not one of this log."""
        return self._cuts.get(identifier)

    def is_whole(self, cut: int) -> bool:
        """Whether no write has events on both sides of it."""
        return not 0 < cut < len(self.events) or self.events[cut - 1].write != self.events[cut].write

    def matching(self, filters: Filters, start: int = 0, stop: int | None = None) -> list[int]:
        """The places from `start` to before `stop` that concern a subscriber."""
        return [
            place
            for place in range(start, len(self.events) if stop is None else stop)
            if concerns(filters, self.events[place].effect)
        ]

    def write_of(self, place: int, filters: Filters) -> list[int]:
        """The places of the write that an event belongs to, those that concern a subscriber."""
        return [
            one
            for one in self._writes[self.events[place].write]
            if concerns(filters, self.events[one].effect)
        ]

    def state(self, cut: int, filters: Filters) -> dict[EntryName, Held]:
        """The entries that exist at a cut and match."""
        state = dict(self._base)
        for event in self.events[:cut]:
            effect = event.effect
            if effect.event == "deleted":
                state.pop((effect.environment, effect.key), None)
            else:
                state[effect.environment, effect.key] = Held(effect.version, effect.after)
        return {name: held for name, held in state.items() if filters.match(*name, held.category)}


def concerns(filters: Filters, effect: Effect) -> bool:
    """Whether a subscriber is to hear of a change."""
    return filters.match(effect.environment, effect.key, effect.before, effect.after)


def told_category(effect: Effect) -> str | None:
    """The category a frame names: the new one, of a delete that which it had."""
    return effect.before if effect.event == "deleted" else effect.after


def _identity(event: Event) -> Identity:
    effect = event.effect
    return (effect.event, effect.environment, effect.key, effect.version, event.timestamp)


def judged(replay: History, writes: Iterable[Write]) -> tuple[Truth, list[str]]:
    """The truth as a subscriber without filters was told it, from before the first write to after the last.

    Returns:
        The truth, and where it disagrees with the acknowledgements: it must hold exactly their effects, each write
        whole and in one piece, with the very position it was answered with as the id of its last frame.
    """
    run = replay.last_run()
    acknowledged = {write.position: write for write in writes}
    start = run.attempts[0].after
    assert start is not None, "a replay starts from a given position"
    assert len(run.attempts) == 1, "a replay is read in one piece"
    cuts = {start: 0}
    events: list[Event] = []
    found: list[str] = []
    categories: dict[EntryName, str | None] = {}
    part: list[Event] = []
    for frame in run.attempts[0].frames:
        if frame.is_change:
            part.append(Event(_effect(frame, categories), frame.data["timestamp"], len(cuts)))
        if frame.id is None or frame.id in cuts or not part:
            continue  # An id that is known says again where the write began.
        events += part
        effects = tuple(event.effect for event in part)
        write = acknowledged.pop(frame.id, None)
        if write is None:
            found.append(f"{frame.id} is the position of no acknowledged write: {_listed(effects)}")
        elif write.effects != effects:
            found.append(
                f"{frame.id} was answered to {_listed(write.effects)} and told as {_listed(effects)}"
            )
        cuts[frame.id] = len(events)
        part = []
    if part:
        found.append(f"no id follows {_listed(event.effect for event in part)}")
    found += [f"{_listed(write.effects)} was acknowledged and is not told" for write in acknowledged.values()]
    return Truth(events, cuts), found


def _effect(frame: Received, categories: dict[EntryName, str | None]) -> Effect:
    data: Mapping[str, Any] = frame.data
    before = categories.pop(frame.entry, None)
    if frame.event != "deleted":
        categories[frame.entry] = data["category"]
    after = categories.get(frame.entry)
    return Effect(frame.event, data["environment"], data["key"], data["version"], before, after)


def _listed(effects: Iterable[Effect]) -> str:
    return ", ".join(str(effect) for effect in effects)


class Model:
    """What a subscriber holds that applies the frames it is told, one after the other.

    It knows nothing but the frames and its filters, so it is what a careful client would be. A part of a write that
    is told again after a cut changes nothing, as the write is then told from its beginning.

    Attributes:
        held: The matching entries.
    """

    def __init__(self, filters: Filters) -> None:
        self.held: dict[EntryName, Held] = {}
        self._filters = filters

    @classmethod
    def of(cls, history: History) -> Model:
        """What a subscriber holds at the end of its last run."""
        model = cls(history.filters)
        for frame in history.last_run().frames():
            model.apply(frame)
        return model

    def apply(self, frame: Received) -> None:
        """Take the next frame. A change that moves an entry out of the category ends what is held of it."""
        if frame.event != "snapshot" and not frame.is_change:
            return
        category = frame.data["category"]
        if frame.event == "deleted" or not self._filters.match(*frame.entry, category):
            self.held.pop(frame.entry, None)
        else:
            self.held[frame.entry] = Held(frame.data["version"], category)
