"""Changes for ever: streams of a node, one after the other, as one without gap or repeat (contract §6).

Owns: the place in the log, when to come back, and which frames were told already. Must not know a terminal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from oscd.client.errors import NO_NODE, AnswerUnreadable, NodeUnavailable, Unreachable
from oscd.client.frames import Frame, FrameReader
from oscd.client.service import Service

MOST_PAUSE_SECONDS: Final = 30.0
_CHANGES: Final = frozenset({"created", "updated", "deleted"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to be told of; None matches all.

    Attributes:
        after: The position to go on from; None: from now, or from the snapshot.
        snapshot: First the entries as they stand, then `bookmark`.
        values: With the values that the user key opens.
    """

    key: str | None = None
    environment: str | None = None
    category: str | None = None
    after: str | None = None
    snapshot: bool = False
    values: bool = False

    def query(self) -> dict[str, str]:
        """The query of `GET /sse/subscribe`."""
        filters = {"key": self.key, "environment": self.environment, "category": self.category}
        query = {name: text for name, text in filters.items() if text is not None}
        query |= {"from": "snapshot"} if self.snapshot else {}
        return query | ({"values": "true"} if self.values else {})


class Place:
    """Where a subscriber stands: the last position, and what it was told past it.

    A write of several entries moves the position with its last frame only; who is cut off inside is told all of it
    again. The changes past the position, at most those of one write, are remembered, and pass once.

    Attributes:
        position: Where to resume; None before the first.
    """

    def __init__(self, position: str | None) -> None:
        self.position = position
        self._told: set[tuple[str, ...]] = set()

    def takes(self, frame: Frame) -> bool:
        """Move on past a frame; gives whether it is news."""
        news = True
        if frame.event in _CHANGES:
            name = tuple(
                str(frame.data.get(member)) for member in ("environment", "key", "timestamp", "node_id")
            )
            news = name not in self._told
            self._told.add(name)
        if frame.id is not None and frame.id != self.position:
            self.position = frame.id
            self._told.clear()
        return news


def changes(
    service: Service,
    wanted: Wanted,
    *,
    on_loss: Callable[[str], None] = lambda _why: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Frame]:
    """Give every change once, and what else a node says, for ever; a node that goes away is waited for.

    Args:
        on_loss: Told, in a sentence, when a stream was lost, and not again until there was another.
        pause: Sleeps.

    `connected` comes at each connection: a snapshot that was not complete is to be forgotten, and comes anew.
    `reset` says that changes may be missing, as the position is not in the log. A frame without an event only moves
    the position: nothing happened for this subscriber up to there.

    Raises:
        Unreachable, NodeUnavailable: There was no stream at all, not even the first.
        Refusal: The node will not have this subscriber; nor will it later.
        AnswerUnreadable: What answers is no node.
    """
    place, failures, ever = Place(wanted.after), 0, False
    hint = 1.0
    while True:
        reader = FrameReader()
        try:
            with service.stream(wanted.query(), place.position, values=wanted.values) as parts:
                for frame in (frame for part in parts for frame in reader.feed(part)):
                    ever = True
                    failures = 0 if frame.event not in {"connected", "goodbye"} else failures
                    if place.takes(frame):
                        yield frame
            if not ever:
                raise AnswerUnreadable(f"the stream ended before it said anything; {NO_NODE}")
            lost = "the node ended the stream"
        except (Unreachable, NodeUnavailable) as error:
            if not ever:
                raise
            lost = str(error)
        if failures == 0:
            on_loss(f"{lost}; waiting for it to go on")
        hint = reader.retry_seconds or hint
        # Drawn, so that those a restart cut off do not all come back at once.
        pause(min(hint * 2**failures, MOST_PAUSE_SECONDS) * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
        failures = min(failures + 1, 10)
