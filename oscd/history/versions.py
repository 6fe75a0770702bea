"""Owns the versions of one entry: what every event of it left, who wrote it, and whether it lost a merge.

The events are met from the greatest stamp down, because only so a lost one shows (`lineage.py`), and told in the
order of their stamps. Each view is short, however long the history (invariant 10). Must not know HTTP or a cipher's
workings.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from oscd.commands import not_found
from oscd.errors import LogCorrupt, NotFound, OscdError
from oscd.events.cipher import Cipher
from oscd.events.cut import Cut
from oscd.events.event import Event, EventRef, EventType, Recorded
from oscd.events.keyring import KeyRing
from oscd.events.log import EventLog, Reading
from oscd.events.position import Position
from oscd.history.lineage import Lineage
from oscd.listing import LARGE_READ_BYTES
from oscd.moment import cut_of
from oscd.projections import sqlite as projections
from oscd.projections.entry import entry_after
from oscd.values import ValueCounts, open_each

# Headers that one view may read.
MAX_EXAMINED = 250
# Versions after which a walk leaves a mark, so that it can be taken again from there.
CHUNK = 1000
# A page of versions ends past so many bisections, one for each version and origin, or bytes of ciphertext.
PAGE_WORK = 100
PAGE_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Version:
    """What one event left of its entry.

    Attributes:
        position: A cut of which this event is the entry's winner.
        is_superseded: Whether it lost a merge.
        value_json: None in a delete, and where no key was shown that opens it.
    """

    recorded: Recorded
    position: Position
    is_superseded: bool
    value_json: bytes | None


@dataclass(frozen=True, slots=True)
class PageEnd:
    """Where a look at a history ended, so that the next goes on from there: its last event, and the walk after it."""

    last: EventRef
    lineage: Lineage


class PageEndUnknown(OscdError):
    """The entry has no such event in this log."""


@dataclass(frozen=True, slots=True)
class Outline:
    """How long a history is, and where it can be taken up again: all that is held of it while it is told.

    Attributes:
        cut: What it is of.
        count: How many versions.
        starts: Where each chunk of them begins, the newest first; None at the newest version.
        end: Where the next look goes on; None where there is no more.
    """

    cut: Cut
    count: int
    starts: tuple[PageEnd | None, ...]
    end: PageEnd | None


class History:
    """The events of one entry in one log, for one caller.

    Args:
        user_key: Opens the values it opens; None: none are wanted.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        keyring: KeyRing,
        environment: str,
        key: str,
        user_key: str | None,
        counts: ValueCounts,
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._environment = environment
        self._key = key
        self._user_key = user_key
        self._counts = counts
        self._cipher: Cipher | None = None

    async def outline(self, limit: int | None = None, after: PageEnd | None = None) -> Outline:
        """The newest versions, all of them where no limit is given.

        Args:
            after: Where another look has ended; older ones follow.

        Raises:
            NotFound: There never was such an entry.
            PageEndUnknown: This log does not hold the event where that look ended.
            Unavailable: Not now.
        """
        cut = await self._log.read(lambda reading: reading.cut_at_head())
        count, at, starts = 0, after, [after]
        async for _, event, lineage in self._down(cut, after, limit):
            if count == limit:
                return Outline(cut, count, tuple(starts), at)
            if count and count % CHUNK == 0:
                starts.append(at)
            count += 1
            at = PageEnd(event.ref, lineage.past(event))
        if not count and after is None:
            raise not_found(self._environment, self._key)
        return Outline(cut, count, tuple(starts), None)

    async def pages(self, outline: Outline) -> AsyncIterator[list[Version]]:
        """The versions in the order of their stamps, page by page.

        Raises:
            LogCorrupt: The log does not hold what was appended.
            TooManyRequests, Unavailable: Not now. Only the first page needs a key derived.
        """
        left = outline.count
        for index in reversed(range(len(outline.starts))):
            first = index * CHUNK
            chunk = await self._chunk(outline.cut, outline.starts[index], left - first)
            left = first
            while chunk:
                page = await self._page(chunk)
                del chunk[: len(page)]
                yield page

    async def to_restore(self, wanted: int | Position) -> Recorded:
        """The event that a rollback restores.

        Args:
            wanted: A version number, which means the newest event of that number that is not superseded and has a
                value; or a position, which means the entry's winner there.

        Raises:
            NotFound: There is none, or it is a delete.
            MomentUnknown: This log does not hold what the position covers.
            Unavailable: Not now.
        """
        if isinstance(wanted, Position):
            return await self._log.read(lambda reading: self._as_of(reading, wanted), size=LARGE_READ_BYTES)
        offset = await self._numbered(wanted)
        recorded = await self._log.read(lambda reading: reading.event_at(offset), size=LARGE_READ_BYTES)
        if recorded is None:
            raise LogCorrupt("an event is no longer in the log")
        return recorded

    async def _numbered(self, version: int) -> int:
        """The offset of the newest event with this number that can be restored."""
        why_not = f"Configuration '{self._key}' has no version {version}."
        has_begun = False
        cut = await self._log.read(lambda reading: reading.cut_at_head())
        async for offset, event, lineage in self._down(cut, None):
            has_begun = True
            if event.version != version:
                continue
            if not lineage.holds(event):
                why_not = f"Version {version} of '{self._key}' was superseded: name it by its position."
            elif event.type == EventType.DELETED:
                why_not = f"Version {version} of '{self._key}' is a delete: it has no value to restore."
            else:
                return offset
        if not has_begun:
            raise not_found(self._environment, self._key)
        raise NotFound(why_not)

    def _as_of(self, reading: Reading[sqlite3.Connection], position: Position) -> Recorded:
        cut = cut_of(reading, position)
        if projections.entry(reading.store, self._environment, self._key) is None:
            raise not_found(self._environment, self._key)
        recorded = reading.winner(self._environment, self._key, cut)
        if recorded is None:
            raise NotFound(f"Configuration '{self._key}' did not exist at that position.")
        if recorded.event.type == EventType.DELETED:
            raise NotFound(
                f"Configuration '{self._key}' was deleted at that position: there is no value to restore."
            )
        return recorded

    async def _down(
        self, cut: Cut, after: PageEnd | None, limit: int | None = None
    ) -> AsyncIterator[tuple[int, Event, Lineage]]:
        """The events from the greatest stamp down with their offsets, each with the walk before it.

        Args:
            limit: Past so many and one more nobody will ask, so no more is read at a time.
        """
        size = MAX_EXAMINED if limit is None else min(MAX_EXAMINED, limit + 1)
        lineage = Lineage() if after is None else after.lineage
        before = None if after is None else await self._event(after.last)
        while True:
            found = await self._log.read(
                lambda reading, before=before: reading.versions(  # type: ignore[misc]
                    self._environment, self._key, cut, before, size
                ),
                size=LARGE_READ_BYTES,
            )
            for offset, event in found:
                yield offset, event, lineage
                lineage, before = lineage.past(event), event
            if len(found) < size:
                return

    async def _chunk(self, cut: Cut, start: PageEnd | None, count: int) -> list[tuple[int, bool]]:
        """Offsets of so many versions, the oldest first, and whether each lost a merge."""
        found: list[tuple[int, bool]] = []
        async for offset, event, lineage in self._down(cut, start, count):
            if len(found) == count:
                break
            found.append((offset, not lineage.holds(event)))
        return found[::-1]

    async def _page(self, chunk: Sequence[tuple[int, bool]]) -> list[Version]:
        """The first of these versions, as many as one view should read."""
        found = await self._log.read(
            lambda reading: _named(reading, [offset for offset, _ in chunk]), size=LARGE_READ_BYTES
        )
        values = await self._opened([recorded for recorded, _ in found])
        return [
            Version(recorded, position, is_superseded, values.get(recorded.offset))
            for (_, is_superseded), (recorded, position) in zip(chunk, found, strict=False)
        ]

    async def _opened(self, found: Sequence[Recorded]) -> dict[int, bytes]:
        """By offset, the values that the caller's key opens."""
        if self._user_key is None:
            return {}
        if self._cipher is None:
            self._cipher = self._keyring.recall(self._user_key) or await self._keyring.derive(self._user_key)
        ours = [
            (entry_after(recorded), recorded.body)
            for recorded in found
            if recorded.event.type != EventType.DELETED
            and recorded.event.key_id in (None, self._cipher.key_id)
        ]
        opened = await open_each(self._cipher, ours)
        if opened:
            self._counts.opened(len(opened))
            self._keyring.remember(self._user_key, self._cipher)
        return {one.entry.offset: one.value_json for one in opened}

    async def _event(self, ref: EventRef) -> Event:
        def run(reading: Reading[sqlite3.Connection]) -> Recorded | None:
            found = reading.find(ref.origin.incarnation, ref.seq)
            return None if found is None else reading.event_at(found.offset)

        recorded = await self._log.read(run, size=LARGE_READ_BYTES)
        place = (self._environment, self._key)
        if recorded is None or (recorded.event.environment, recorded.event.key) != place:
            raise PageEndUnknown("is not a cursor of this history")
        return recorded.event


def _named(reading: Reading[sqlite3.Connection], offsets: Sequence[int]) -> list[tuple[Recorded, Position]]:
    """The first of these events, as many as one view should read, and the positions that name them."""
    found: list[tuple[Recorded, Position]] = []
    work = size = 0
    for offset in offsets:
        recorded = reading.event_at(offset)
        if recorded is None:
            raise LogCorrupt("an event is no longer in the log")
        position = reading.cut_naming(recorded.event).position
        found.append((recorded, position))
        work += len(position.marks)
        size += 0 if recorded.body is None else len(recorded.body.ciphertext or b"")
        if work >= PAGE_WORK or size >= PAGE_BYTES:
            break
    return found
