"""Owns the versions of one entry: what every event of it left, who wrote it, and whether it lost a merge.

The events are met from the greatest stamp down, because only so a lost one shows (`lineage.py`), and told in the
order of their stamps. Each view is short, however long the history (invariant 10). Must not know HTTP or a cipher's
workings.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from oscd.commands import not_found
from oscd.errors import LogCorrupt, NotFound, OscdError
from oscd.events.cipher import Cipher
from oscd.events.event import Event, EventRef, EventType, Recorded
from oscd.events.keyring import KeyRing
from oscd.events.log import EventLog, Reading
from oscd.events.position import Position
from oscd.history.lineage import Lineage
from oscd.listing import LARGE_READ_BYTES
from oscd.moment import MomentUnknown
from oscd.projections.entry import entry_after
from oscd.values import ValueCounts, open_each

# Headers that one view may read.
MAX_EXAMINED = 1000
# Versions, and bytes of ciphertext past which a page of them ends.
PAGE_VERSIONS = 100
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


@dataclass(slots=True)
class Outline:
    """Which events a history has, the newest first: nine bytes for each, so that all of a long one may be held.

    Attributes:
        end: Where the next look goes on; None where there is no more.
    """

    offsets: array[int] = field(default_factory=lambda: array("q"))
    superseded: bytearray = field(default_factory=bytearray)
    end: PageEnd | None = None


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
        """The newest events, all of them where no limit is given.

        Args:
            after: Where another look has ended; older ones follow.

        Raises:
            NotFound: There never was such an entry.
            PageEndUnknown: This log does not hold the event where that look ended.
            Unavailable: Not now.
        """
        outline = Outline()
        lineage = Lineage() if after is None else after.lineage
        last: Event | None = None
        page = MAX_EXAMINED if limit is None else min(MAX_EXAMINED, limit + 1)
        async for offset, event in self._down(after, page):
            if last is not None and len(outline.offsets) == limit:
                outline.end = PageEnd(last.ref, lineage)
                break
            outline.offsets.append(offset)
            outline.superseded.append(not lineage.holds(event))
            last, lineage = event, lineage.past(event)
        if last is None and after is None:
            raise not_found(self._environment, self._key)
        return outline

    async def page(self, outline: Outline, left: int) -> list[Version]:
        """The oldest of the `left` newest versions, in the order of their stamps.

        Args:
            left: How many of the outline's have not been told yet; more than 0.

        Raises:
            LogCorrupt: The log does not hold what was appended.
            TooManyRequests, Unavailable: Not now. Only the first page needs a key derived.
        """
        indexes = range(left - 1, max(-1, left - 1 - PAGE_VERSIONS), -1)
        found = await self._log.read(
            lambda reading: _page(reading, [outline.offsets[index] for index in indexes]),
            size=LARGE_READ_BYTES,
        )
        values = await self._opened([recorded for recorded, _ in found])
        return [
            Version(recorded, position, bool(outline.superseded[index]), values.get(recorded.offset))
            for index, (recorded, position) in zip(indexes, found, strict=False)
        ]

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
        lineage = Lineage()
        why_not = f"Configuration '{self._key}' has no version {version}."
        async for offset, event in self._down(None, MAX_EXAMINED):
            if event.version == version:
                if not lineage.holds(event):
                    why_not = f"Version {version} of '{self._key}' was superseded: name it by its position."
                elif event.type == EventType.DELETED:
                    why_not = f"Version {version} of '{self._key}' is a delete: it has no value to restore."
                else:
                    return offset
            lineage = lineage.past(event)
        if not lineage.has_begun:
            raise not_found(self._environment, self._key)
        raise NotFound(why_not)

    def _as_of(self, reading: Reading[sqlite3.Connection], position: Position) -> Recorded:
        if not reading.versions(self._environment, self._key, reading.cut_at_head(), None, 1):
            raise not_found(self._environment, self._key)
        if (cut := reading.cut_of(position)) is None:
            raise MomentUnknown("this node does not hold what that position covers")
        recorded = reading.winner(self._environment, self._key, cut)
        if recorded is None:
            raise NotFound(f"Configuration '{self._key}' did not exist at that position.")
        if recorded.event.type == EventType.DELETED:
            raise NotFound(
                f"Configuration '{self._key}' was deleted at that position: there is no value to restore."
            )
        return recorded

    async def _down(self, after: PageEnd | None, page: int) -> AsyncIterator[tuple[int, Event]]:
        """The events with their offsets from the greatest stamp down, so many in a view."""
        before = (
            None if after is None else await self._log.read(lambda reading: self._event(reading, after.last))
        )
        while True:
            found = await self._log.read(lambda reading, before=before: self._below(reading, before, page))  # type: ignore[misc]
            for offset, event in found:
                yield offset, event
            if len(found) < page:
                return
            before = found[-1][1]

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

    def _below(
        self, reading: Reading[sqlite3.Connection], before: Event | None, limit: int
    ) -> Sequence[tuple[int, Event]]:
        return reading.versions(self._environment, self._key, reading.cut_at_head(), before, limit)

    def _event(self, reading: Reading[sqlite3.Connection], ref: EventRef) -> Event:
        found = reading.find(ref.origin.incarnation, ref.seq)
        recorded = None if found is None else reading.event_at(found.offset)
        if recorded is None or (recorded.event.environment, recorded.event.key) != (
            self._environment,
            self._key,
        ):
            raise PageEndUnknown("is not a cursor of this history")
        return recorded.event


def _page(reading: Reading[sqlite3.Connection], offsets: Sequence[int]) -> list[tuple[Recorded, Position]]:
    """The first of these events, as many as one view should read, and the positions that name them."""
    found: list[tuple[Recorded, Position]] = []
    size = 0
    for offset in offsets:
        recorded = reading.event_at(offset)
        if recorded is None:
            raise LogCorrupt("an event is no longer in the log")
        found.append((recorded, reading.cut_naming(recorded.event).position))
        size += 0 if recorded.body is None else len(recorded.body.ciphertext or b"")
        if size >= PAGE_BYTES:
            break
    return found
