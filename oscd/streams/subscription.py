"""Owns one stream: from where it starts, over everything it is told, to its end.

It stands somewhere in the log and has no queue: it holds at most one page of headers, and one chunk of text or one
value. Must not know HTTP, nor who else subscribes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from oscd.errors import LogCorrupt, NotAuthorized, OscdError, Unavailable
from oscd.events.cipher import Cipher
from oscd.events.event import EventType
from oscd.events.log import EventLog, Reading
from oscd.events.position import MAX_ENCODED, Position, PositionUnreadable, decode_position
from oscd.feed.place import NoPlace, Place, place_at_head, place_of
from oscd.feed.tail import Tail, Told
from oscd.listing import LARGE_READ_BYTES
from oscd.projections.entry import entry_after
from oscd.streams import sse
from oscd.streams.pulse import Pulse
from oscd.streams.snapshot import entries_at
from oscd.streams.terms import End, Reset, Wanted
from oscd.times import microseconds_now
from oscd.values import open_value

_log = logging.getLogger("oscd.streams")

HOLD_SECONDS: Final = 10.0
"""How long a reader is held whose position this node has not reached yet."""

RETRY_MILLISECONDS: Final = (1000, 3000)
"""When a browser reconnects; drawn for each stream, so that a restart meets no crowd (contract §6)."""

TROUBLE_SECONDS: Final = 1.0
"""Pause before the log is tried again that could not be read."""

CHUNK_EVENTS: Final = 64
"""Events that go out in one piece where several are waiting: it makes fan-out cheaper, and is soon sent."""

SLICE_BYTES: Final = 64 * 1024

VALUES_AT_ONCE: Final = 4
"""Streams of a worker that open a value at one time."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Feed:
    """What all streams of a worker follow.

    Attributes:
        keepalive_seconds: After so long without a frame a stream shows that it lives.
        opened: Told how many values were opened for a reader.
        node_id: The name of this node.
        values: Held while a stream reads and opens one; the same for all, so that a large value that many of them
            want is not in memory for each of them at one time.
    """

    log: EventLog[sqlite3.Connection]
    tail: Tail
    keepalive_seconds: float
    opened: Callable[[int], None]
    node_id: str
    hold_seconds: float = HOLD_SECONDS
    values: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(VALUES_AT_ONCE))


class Account(Protocol):
    """Who counts what streams do."""

    def sent(self, kind: str) -> None:
        """An event went out that is counted by its type."""

    def kept_alive(self) -> None:
        """A keep-alive went out."""

    def moved(self) -> None:
        """A stream, or the head it follows, is somewhere else now."""


class Subscription:
    """One stream.

    Args:
        account: Counts what it does.
        proved: Called once its cipher has opened a value, and forgotten: it may know the user key.

    Attributes:
        id: Names it to people.
        created_at: µs since 1970.
        has_begun: Whether it has found its place.
        ending: Why this node ends it; None while it does not.
    """

    def __init__(
        self, feed: Feed, wanted: Wanted, account: Account, proved: Callable[[], None] | None = None
    ) -> None:
        self.id = str(uuid.uuid4())
        self.wanted = wanted
        self.created_at = microseconds_now()
        self.has_begun = False
        self.ending: End | None = None
        self._feed = feed
        self._account = account
        self._pulse = Pulse(feed.keepalive_seconds)
        self._place = Place(0, "")
        self._held: Position | None = None
        self._is_held_enough = False
        self._has_met_damage = False
        self._reset: Reset | None = None
        self._is_inside_write = False
        self._synced = feed.tail.synced()
        self._proved = proved

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return self._pulse.age

    @property
    def lag(self) -> int:
        """How many events of the log it has not passed yet."""
        return max(0, self._feed.tail.head - self._place.offset) if self.has_begun else 0

    async def begin(self) -> None:
        """Find its place and follow the log from there. `close` must follow, whatever comes between.

        Raises:
            Unavailable: The log cannot be read right now.
        """
        try:
            position = None if self.wanted.resume is None else decode_position(self.wanted.resume)
        except PositionUnreadable:
            position, self._reset = None, Reset.UNREADABLE
        head, found = await self._feed.log.read(
            lambda reading: (
                place_at_head(reading),
                None if position is None else place_of(reading, position),
            )
        )
        self._place = head
        if isinstance(found, Place):
            self._place = found
        elif found is NoPlace.CONTRADICTED:
            self._reset = Reset.CONTRADICTED
        elif found is NoPlace.NOT_YET:
            self._held = position
        self._feed.tail.attach(self.wake, head)
        self._pulse.start()
        if self.wanted.expires_at is not None:
            self._pulse.after(self.wanted.expires_at - time.time(), partial(self.end, End.TICKET_EXPIRED))
        self.has_begun = True

    def close(self) -> None:
        """Follow the log no more."""
        self._feed.tail.detach(self.wake)
        self._pulse.close()

    def end(self, why: End) -> None:
        """Have it say goodbye and end."""
        if self.ending is None:
            self.ending = why
            self.wake()

    def wake(self) -> None:
        """Have it look what there is to do."""
        self._account.moved()
        self._pulse.wake()

    async def parts(self) -> AsyncIterator[bytes]:
        """The stream, in pieces that end with a frame or belong to one that is large."""
        for phase in (self._opening, self._start, self._changes):
            async for part in phase():
                self._pulse.spoke()
                # The layers below copy what they are given.
                for begin in range(0, len(part), SLICE_BYTES):
                    yield part[begin : begin + SLICE_BYTES]
        assert self.ending is not None
        yield sse.event("goodbye", {"reason": self.ending.value})

    async def _opening(self) -> AsyncIterator[bytes]:
        least, most = RETRY_MILLISECONDS
        first = sse.opening(least + secrets.randbelow(most - least + 1))
        yield first + sse.connected(self.id, self.wanted.filter, microseconds_now(), self._starts_at())

    def _starts_at(self) -> str | None:
        """Where it starts, as `connected` says it: whoever is cut off right then comes back to the same start."""
        if self._held is not None or self._reset is not None:
            return _repeatable(self.wanted.resume)
        if self.wanted.begins_with_snapshot:
            return None  # Who is cut off before the bookmark has to start over.
        return self._place.at

    async def _start(self) -> AsyncIterator[bytes]:
        """What comes between `connected` and the changes."""
        if self._held is not None:
            async for part in self._hold(self._held):
                yield part
        if self._reset is not None:
            yield sse.event("reset", {"reason": self._reset.value}, self._place.at)
        elif self.wanted.begins_with_snapshot:
            async for part in self._snapshot():
                yield part

    async def _hold(self, position: Position) -> AsyncIterator[bytes]:
        """Wait until this node has what the reader has been told elsewhere; else the reader starts from the head."""
        self._pulse.after(self._feed.hold_seconds, self._give_up)
        while self.ending is None:
            # Only when the tail says that it is worth a look: held readers must not read the log with each commit.
            if self._is_held_enough or self._feed.tail.may_cover(position):
                looked = await self._read(
                    lambda reading: (place_at_head(reading), place_of(reading, position))
                )
                if looked is not None and self._has_found(*looked):
                    return
            await self._pulse.sleep()
            if self._pulse.is_quiet:
                yield self._keep_alive(_repeatable(self.wanted.resume))

    def _has_found(self, head: Place, found: Place | NoPlace) -> bool:
        """Whether a held reader has its place now, be it the head."""
        if isinstance(found, Place):
            self._place = found
        elif found is NoPlace.CONTRADICTED or self._is_held_enough:
            self._place = head
            is_contradicted = found is NoPlace.CONTRADICTED
            self._reset = Reset.CONTRADICTED if is_contradicted else Reset.UNREACHABLE
        else:
            return False
        return True

    def _give_up(self) -> None:
        # Not told by the clock: a timer may come a moment early, and nothing else would wake it for long.
        self._is_held_enough = True
        self.wake()

    async def _snapshot(self) -> AsyncIterator[bytes]:
        cut, wanted = self._place, self.wanted
        async for page in entries_at(self._read, wanted.filter, decode_position(cut.at), wanted.cipher):
            self._opened(sum(value is not None for _, value in page))
            if self.ending is not None:
                return
            if page:
                yield b"".join(sse.snapshot(entry, value) for entry, value in page)
            elif self._pulse.is_quiet:
                yield self._keep_alive(None)
        yield sse.event("bookmark", {}, cut.at)

    async def _changes(self) -> AsyncIterator[bytes]:
        while self.ending is None:
            told = await self._next()
            if self.wanted.cipher is None:
                if part := b"".join([self._text(one, None) for one in told]):
                    yield part
            else:
                async for part in self._with_values(told, self.wanted.cipher):
                    yield part
            if part := self._sync():
                yield part
            if self._pulse.is_quiet:
                yield self._keep_alive(self._place.at)

    async def _next(self) -> Sequence[Told]:
        """What comes after its place, which moves past it; nothing when it was woken for something else."""
        recent = self._feed.tail.recent(self._place)
        if recent is None:
            reread = await self._patiently(lambda: self._feed.tail.reread(self._place))
            if reread is None:
                return ()
            told, self._place = reread
        elif recent:
            told = recent[:CHUNK_EVENTS]
            self._place = Place(told[-1].offset, told[-1].at)
        else:
            await self._pulse.sleep()
            return ()
        self._account.moved()
        return told

    async def _with_values(self, told: Sequence[Told], cipher: Cipher) -> AsyncIterator[bytes]:
        for one in told:
            value_json = None
            while self.ending is None:
                try:
                    value_json = await self._value(one, cipher)
                    break
                except Unavailable:
                    await asyncio.sleep(TROUBLE_SECONDS)
                if self._pulse.is_quiet:
                    yield self._keep_alive(None)  # Its place is past events that it was not sent yet.
            if self.ending is not None:
                return
            if part := self._text(one, value_json):
                yield part

    def _text(self, told: Told, value_json: bytes | None) -> bytes:
        """What an event is to this reader: a frame, or nothing, or the end of a write it was told a part of."""
        if told.frame is not None and self.wanted.filter.matches(told.frame):
            self._is_inside_write = not told.ends_write
            self._account.sent(told.frame.effect)
            return sse.change(told) if value_json is None else sse.change_with_value(told, value_json)
        if told.ends_write and self._is_inside_write:
            self._is_inside_write = False
            return sse.moved(told.at)
        return b""

    def _sync(self) -> bytes:
        """That backlogs of peers were merged since this stream began, or was told so; once it has passed them."""
        point = self._feed.tail.sync_point
        is_due = point.total > self._synced and self._place.offset >= point.offset
        if not is_due or self._is_inside_write or self.ending is not None:
            return b""
        events, self._synced = point.total - self._synced, point.total
        self._account.sent(sse.SYNC)
        return sse.sync(events, microseconds_now(), self._feed.node_id)

    async def _value(self, told: Told, cipher: Cipher) -> bytes | None:
        """The value an event left, where it left one, this reader wants it and its key opens it.

        Raises:
            Unavailable: The log cannot be read right now.
        """
        frame = told.frame
        if frame is None or frame.effect is EventType.DELETED or not self.wanted.filter.matches(frame):
            return None
        if frame.event.key_id not in (None, cipher.key_id):
            return None
        async with self._feed.values:
            recorded = await self._feed.log.read(
                lambda reading: reading.event_at(told.offset), size=LARGE_READ_BYTES
            )
            if recorded is None:
                return None
            try:
                value_json = await open_value(cipher, entry_after(recorded), recorded.body)
            except NotAuthorized:
                return None  # An imported one of somebody else: only trying tells.
            except LogCorrupt as damage:
                # A stream that ended here would come back to this very event, again and again.
                _log.error("the value at offset %d is told as null: %s", told.offset, damage)
                return None
        self._opened(1)
        return value_json

    def _opened(self, count: int) -> None:
        self._feed.opened(count)
        if count and self._proved is not None:
            self._proved()
            self._proved = None

    def _keep_alive(self, at: str | None) -> bytes:
        self._account.kept_alive()
        return sse.keep_alive(microseconds_now(), at)

    async def _read(
        self, function: Callable[[Reading[sqlite3.Connection]], Result], size: int = 0
    ) -> Result | None:
        return await self._patiently(lambda: self._feed.log.read(function, size=size))

    async def _patiently(self, read: Callable[[], Awaitable[Result]]) -> Result | None:
        """Read the log; None, after a pause, where it cannot be read: the reader keeps its place meanwhile."""
        try:
            return await read()
        except OscdError as trouble:
            # Of ordinary trouble the tail tells, once for all readers; of damage it passed long ago it does not.
            if isinstance(trouble, LogCorrupt) and not self._has_met_damage:
                _log.error("a stream waits for the log: %s", trouble)
                self._has_met_damage = True
            await asyncio.sleep(TROUBLE_SECONDS)
            return None


def _repeatable(resume: str | None) -> str | None:
    """What a reader asked to resume from, where it can be said back in an `id` without becoming anything else."""
    fits = resume is not None and resume.isascii() and resume.isprintable() and len(resume) <= MAX_ENCODED
    return resume if fits else None
