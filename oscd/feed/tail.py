"""Owns what comes after a reader's place: the window of the last events, the re-read, and who is woken.

One read of the log serves all readers that stand at its head; one that stands further back re-reads the log from its
place, a page at a time. There is no queue (invariant 10). Must not know what readers make of what they are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oscd.errors import OscdError
from oscd.events.event import Change, Event
from oscd.events.log import EventLog, Reading
from oscd.events.position import Position, decode_position, mark
from oscd.feed.bell import Bell
from oscd.feed.frame import Frame, frame
from oscd.feed.place import Place

_log = logging.getLogger("oscd.feed")

WINDOW_EVENTS: Final = 512
"""Events kept for readers near the head: some 1 MB."""

PAGE_EVENTS: Final = 64
"""Events one view reads; a header has at most some 3 KB."""

POLL_SECONDS: Final = 1.0
"""A tail with readers looks at the log so often even if no bell rang (invariant 4)."""

# What a view counts a page of headers as, so that what one view returns stays bounded.
_PAGE_BYTES = 256 * 1024


@dataclass(slots=True)
class Told:
    """One event of the log as a reader passes it.

    Attributes:
        offset: Its place.
        frame: What it changes for the reader; None where that is nothing.
        at: The reader's position after it, whole writes only.
        ends_write: Whether it is the last of its write, so that `at` is new.
        text: What a way of writing frames down has made of it, kept for the other readers.
    """

    offset: int
    frame: Frame | None
    at: str
    ends_write: bool
    text: bytes | None = None


@dataclass(frozen=True, slots=True)
class SyncPoint:
    """Up to where the log holds events of peers' backlogs.

    Attributes:
        offset: Whoever has passed this one has passed all of them.
        total: How many they were, since the node started.
    """

    offset: int
    total: int


def _none_synced() -> int:
    return 0


class _Scan:
    """Follows a reader's position over the events it passes."""

    def __init__(self, position: Position) -> None:
        self._marks = dict(position.marks)
        self._at = position.encode()

    def reaches(self, position: Position) -> bool:
        return all(
            (known := self._marks.get(incarnation)) is not None and known.seq >= wanted.seq
            for incarnation, wanted in position.marks.items()
        )

    def passed(self, change: Change, told: Frame | None) -> Told:
        event = change.event
        known = self._marks.get(event.origin.incarnation)
        if known is None or known.seq < event.seq:
            self._marks[event.origin.incarnation] = mark(event.seq, change.digest)
        ends_write = event.seq == event.last_seq
        if ends_write:
            self._at = Position(self._marks).encode()
        return Told(change.offset, told, self._at, ends_write)


class Tail:
    """The feed of one worker.

    Args:
        log: What is followed.
        bell: Rings when something was committed.
        synced: Tells how many events of peers' backlogs are in the log (`Synced.total`).
        window_events, poll_seconds: Other than the usual ones, for tests.
    """

    def __init__(
        self,
        log: EventLog[Any],
        bell: Bell,
        *,
        synced: Callable[[], int] = _none_synced,
        window_events: int = WINDOW_EVENTS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._log = log
        self._bell = bell
        self._synced = synced
        self._sync_point = SyncPoint(0, 0)
        self._poll_seconds = poll_seconds
        self._readers: dict[Callable[[], None], None] = {}
        self._rung = asyncio.Event()
        self._window: deque[Told] = deque(maxlen=window_events)
        self._head = 0
        self._scan = _Scan(Position({}))
        self._task: asyncio.Task[None] | None = None

    @property
    def head(self) -> int:
        """Offset of the last event this tail knows of; only kept up while it has readers."""
        return self._head

    def may_cover(self, position: Position) -> bool:
        """Whether the log may hold every event up to a position, by what this tail has passed: no more than a hint.

        Only kept up while it has readers.
        """
        return self._scan.reaches(position)

    @property
    def sync_point(self) -> SyncPoint:
        """The newest one that readers are to be told of; only kept up while there are any."""
        return self._sync_point

    def synced(self) -> int:
        """How many events of backlogs are in the log by now: what a reader that begins need not be told of."""
        return self._synced()

    def start(self) -> None:
        """Begin to follow the log, as far as there are readers."""
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="tail")

    async def close(self) -> None:
        """Follow no more."""
        self._bell.unlisten(self._rung.set)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def attach(self, wake: Callable[[], None], head: Place) -> None:
        """Wake a reader whenever there may be something after its place.

        Args:
            head: Where the log ended just now; a tail that had no readers goes on from there.
        """
        if not self._readers:
            self._bell.listen(self._rung.set)
            self._window.clear()
            self._head = head.offset
            self._scan = _Scan(decode_position(head.at))
        self._readers[wake] = None
        self._rung.set()

    def detach(self, wake: Callable[[], None]) -> None:
        """Wake it no more."""
        self._readers.pop(wake, None)
        if not self._readers:
            self._bell.unlisten(self._rung.set)

    def recent(self, place: Place) -> Sequence[Told] | None:
        """What the window holds past a place; None where it does not reach back to it, so `reread` must."""
        if place.ahead:
            return None
        if place.offset >= self._head:
            return ()
        held, wanted = len(self._window), self._head - place.offset
        if wanted > held:
            return None
        # Offsets have no gaps (invariant 1). Most readers want the last one only, which a deque finds at once.
        return [self._window[index] for index in range(held - wanted, held)]

    async def reread(self, place: Place) -> tuple[Sequence[Told], Place]:
        """The next events past a place, from the log, and the place after them.

        Raises:
            Unavailable: The log cannot be read right now.
        """
        page = await self._log.read(lambda reading: _page(reading, place), size=_PAGE_BYTES)
        scan = _Scan(decode_position(place.at))
        told = [scan.passed(change, told) for change, told in page]
        if not told:
            return told, place
        last = told[-1]
        ahead = {name: seq for name, seq in place.ahead.items() if not _is_passed(page, name, seq)}
        return told, Place(last.offset, last.at, ahead)

    async def _follow(self) -> None:
        is_failing = False
        while True:
            await self._heard()
            try:
                await self._read_on()
                is_failing = False
            except Exception as trouble:
                # Whatever it is, a damaged event, too: a tail that ended would keep its readers in silence.
                if not is_failing and isinstance(trouble, OscdError):
                    _log.warning("streams wait for the log: %s", trouble)
                elif not is_failing:
                    _log.error("streams wait for the log", exc_info=trouble)
                is_failing = True
                await asyncio.sleep(self._poll_seconds)

    async def _heard(self) -> None:
        """Wait until there may be something to read, and somebody to read it for."""
        if not self._readers:
            await self._rung.wait()
        else:
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._rung.wait()
            except TimeoutError:
                pass
        self._rung.clear()

    async def _read_on(self) -> None:
        # First the number, then the log: what was counted is in the log, and so will have been passed.
        total = self._synced()
        await self._read_to_end()
        if self._readers and total > self._sync_point.total:
            self._sync_point = SyncPoint(self._head, total)
            for wake in tuple(self._readers):
                wake()

    async def _read_to_end(self) -> None:
        while self._readers:
            scan, after = self._scan, self._head
            changes = await self._log.read(
                lambda reading: reading.changes(after, PAGE_EVENTS),  # noqa: B023 - it is awaited here
                size=_PAGE_BYTES,
            )
            if scan is not self._scan:
                continue  # All readers left meanwhile, and the first of others has begun the window anew.
            for change in changes:
                self._window.append(scan.passed(change, frame(change.previous, change.event)))
                self._head = change.offset
            if not changes:
                return
            for wake in tuple(self._readers):
                wake()


def _page(reading: Reading[Any], place: Place) -> list[tuple[Change, Frame | None]]:
    """The next changes past a place, and what each of them is to a reader who stands there."""
    return list(_told(reading, place, reading.changes(place.offset, PAGE_EVENTS)))


def _told(
    reading: Reading[Any], place: Place, changes: Sequence[Change]
) -> Iterator[tuple[Change, Frame | None]]:
    ahead = dict(place.ahead)
    for change in changes:
        origin, seq = change.event.origin.incarnation, change.event.seq
        if seq <= ahead.get(origin, 0):
            if seq == ahead[origin]:
                del ahead[origin]
            yield change, None  # It was told this elsewhere.
        else:
            yield change, frame(_previous(reading, change, ahead), change.event)


def _previous(reading: Reading[Any], change: Change, ahead: dict[str, int]) -> Event | None:
    if not ahead:
        return change.previous
    return reading.met(change.event.environment, change.event.key, change.offset, ahead)


def _is_passed(page: Sequence[tuple[Change, Frame | None]], incarnation: str, seq: int) -> bool:
    return any(
        change.event.origin.incarnation == incarnation and change.event.seq >= seq for change, _ in page
    )
