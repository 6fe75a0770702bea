"""Owns logs drawn at random and what a faultless node tells of them. Must not share a rule with the validators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.support.history import Attempt, Filters, History, Received
from tests.support.truth import Effect, Event, Held, Truth

ENVIRONMENTS = ("prod", "dev")
KEYS = ("a", "b", "c")
CATEGORIES = (None, "db", "web")

Step = tuple[str, str, str | None]
"""Environment, key, and the category it gets; a step deletes where the category is "gone"."""

_steps = st.tuples(
    st.sampled_from(ENVIRONMENTS), st.sampled_from(KEYS), st.sampled_from([*CATEGORIES, *CATEGORIES, "gone"])
)
writes = st.lists(st.lists(_steps, min_size=1, max_size=4), max_size=20)
filters = st.builds(
    Filters,
    key=st.none() | st.sampled_from(KEYS),
    environment=st.none() | st.sampled_from(ENVIRONMENTS),
    category=st.none() | st.sampled_from(["db", "web"]),
)


def log_of(steps_of_writes: Sequence[Sequence[Step]]) -> Truth:
    """The log that these writes make; every place of it has an id `p<number>`, also inside writes.

    A delete of what is not there is passed over, and a write of nothing else is none.
    """
    held: dict[tuple[str, str], Held] = {}
    events: list[Event] = []
    for write, steps in enumerate(steps_of_writes):
        for environment, key, category in steps:
            now = held.get((environment, key))
            if category == "gone":
                if now is None:
                    continue
                effect = Effect("deleted", environment, key, now.version + 1, now.category, None)
                del held[environment, key]
            elif now is None:
                effect = Effect("created", environment, key, 1, None, category)
                held[environment, key] = Held(1, category)
            else:
                effect = Effect("updated", environment, key, now.version + 1, now.category, category)
                held[environment, key] = Held(now.version + 1, category)
            events.append(Event(effect, f"2026-01-01T00:00:00.{len(events):06d}Z", write))
    return Truth(events, {f"p{cut}": cut for cut in range(len(events) + 1)})


def frame_of(event: Event, identifier: str | None) -> Received:
    """The frame of a change."""
    effect = event.effect
    category = effect.before if effect.event == "deleted" else effect.after
    return Received(effect.event, identifier, _data(effect, category, event.timestamp))


def _data(effect: Effect, category: str | None, timestamp: str) -> dict[str, Any]:
    return {
        "key": effect.key,
        "environment": effect.environment,
        "category": category,
        "timestamp": timestamp,
        "node_id": "node1",
        "version": effect.version,
        "data": None,
    }


@dataclass(slots=True)
class Ideal:
    """A node that makes no mistake, and a subscriber of it that is cut off at random."""

    truth: Truth
    history: History
    random: Random

    def tell(self, *, snapshot: bool, cuts: int) -> History:
        """Connect at a random place, with or without a snapshot, be cut off so often, and read to the end."""
        for left in range(cuts, -1, -1):
            attempt = Attempt(last_event_id=self.history.last_id, snapshot=snapshot, status=200)
            frames = self._stream(attempt)
            if left:
                frames = frames[: self.random.randrange(len(frames) + 1)]
                attempt.ended = "cut off"
            attempt.frames = frames
            self.history.attempts.append(attempt)
        return self.history

    def _stream(self, attempt: Attempt) -> list[Received]:
        if attempt.last_event_id is not None:
            at = int(attempt.last_event_id[1:])
            return [Received("connected", f"p{at}"), *self._live(at)]
        at = self.random.choice(
            [cut for cut in range(len(self.truth.events) + 1) if self._between_writes(cut)]
        )
        if not attempt.snapshot:
            return [Received("connected", f"p{at}"), *self._live(at)]
        last: dict[tuple[str, str], Event] = {}
        for event in self.truth.events[:at]:
            last[event.effect.environment, event.effect.key] = event
        shown = [
            Received("snapshot", None, frame_of(event, None).data)
            for event in last.values()
            if event.effect.event != "deleted" and self._heard(event, after_only=True)
        ]
        return [Received("connected", None), *shown, Received("bookmark", f"p{at}"), *self._live(at)]

    def _live(self, at: int) -> list[Received]:
        frames: list[Received] = []
        events = self.truth.events
        while at < len(events):
            stop = at
            while stop < len(events) and events[stop].write == events[at].write:
                stop += 1
            heard = [event for event in events[at:stop] if self._heard(event)]
            # Within a write an id may say again where it began; that of its end comes with the last change or alone.
            again, alone = (self.random.random() < 0.5 for _ in range(2))
            began = f"p{at}" if again else None
            frames += [frame_of(event, began) for event in (heard if alone else heard[:-1])]
            if heard:
                frames.append(Received("", f"p{stop}") if alone else frame_of(heard[-1], f"p{stop}"))
            at = stop
            if self.random.random() < 0.3:
                frames.append(Received("", f"p{at}"))
        return [*frames, Received("", f"p{at}")]

    def _between_writes(self, cut: int) -> bool:
        events = self.truth.events
        return cut in {0, len(events)} or events[cut - 1].write != events[cut].write

    def _heard(self, event: Event, *, after_only: bool = False) -> bool:
        wanted, effect = self.history.filters, event.effect
        if wanted.key not in {None, effect.key} or wanted.environment not in {None, effect.environment}:
            return False
        if wanted.category is None:
            return True
        return wanted.category == effect.after or (not after_only and wanted.category == effect.before)
