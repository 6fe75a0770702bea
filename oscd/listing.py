"""Owns lists: pages of entries in (environment, key) order, all as they stood at one position, opened or by name.

A long list is read page by page, each in a short view of its own, so no read transaction outlives a page or
waits on a client (invariant 10). Entries that changed after the cut are looked up in the log as of the cut:
the tombstones in the entry table make sure that none is missed. A list of the past is no other case: more entries
have changed since. Must not know a cipher's workings.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass

from oscd.events.cipher import Cipher
from oscd.events.cut import Cut
from oscd.events.event import Body
from oscd.events.keyring import KeyRing
from oscd.events.log import EventLog, Reading
from oscd.events.position import Position
from oscd.moment import Moment, cut_at
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry, entry_after
from oscd.times import microseconds_now
from oscd.values import Opened, Uncounted, ValueCounts, open_each

START = ("", "")
# Rows one view may examine, whatever matches: bounds how long it keeps others waiting.
MAX_EXAMINED = 1000
# What a view counts a read as that may return much: 32 of them fill it.
LARGE_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is of; None and "" match everything. `prefix` is literal."""

    environment: str | None = None
    category: str | None = None
    prefix: str = ""
    key: str | None = None

    @property
    def beginning(self) -> str:
        """What every matching key begins with."""
        return self.prefix if self.key is None else self.key


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list.

    Attributes:
        found: Entries that match, with the bodies that hold their values.
        cut: What the list is of.
        next_after: Where the next page begins; None at the end. A page may be empty and not the last.
    """

    found: list[tuple[Entry, Body | None]]
    cut: Cut
    next_after: tuple[str, str] | None


class Listing:
    """One list for one caller: cut at one position and opened with one derived key, however many pages it has.

    Args:
        moment: Where it is cut; None: at the head that the first page meets.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        keyring: KeyRing,
        filters: Filters,
        user_key: str,
        counts: ValueCounts | None = None,
        moment: Moment | None = None,
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._filters = filters
        self._user_key = user_key
        self._counts = counts or Uncounted()
        self._cipher: Cipher | None = None
        self._moment = moment
        self._cut: Cut | None = None

    @property
    def position(self) -> Position:
        """Where it is cut. Known once a page was read."""
        assert self._cut is not None
        return self._cut.position

    async def page(
        self, after: tuple[str, str], most_entries: int, most_bytes: int
    ) -> tuple[list[Opened], tuple[str, str] | None]:
        """The next entries the key opens, and where the ones after them begin; None at the end.

        Args:
            after: Where the page before ended.
            most_entries, most_bytes: Entries, and bytes of ciphertext, to look at.

        Raises:
            MomentUnknown: It cannot be cut there; only the first page tells.
            TooManyRequests, Unavailable: Not now. Only the first page needs a key derived.
        """
        cipher = self._cipher or self._keyring.recall(self._user_key)
        if cipher is None:
            # A list of nothing costs no derivation.
            page = await self._read(after, (1, 1))
            if not page.found and page.next_after is None:
                return [], None
            cipher = await self._keyring.derive(self._user_key)
        self._cipher = cipher
        page = await self._read(after, (most_entries, most_bytes), cipher.key_id)
        opened = await open_each(cipher, page.found)
        if opened:
            self._counts.opened(len(opened))
            self._keyring.remember(self._user_key, cipher)
        return opened, page.next_after

    async def _read(
        self, after: tuple[str, str], bounds: tuple[int, int], key_id: bytes | None = None
    ) -> Page:
        def run(reading: Reading[sqlite3.Connection]) -> Page:
            cut = self._cut or self._first_cut(reading)
            return entries_of_page(reading, self._filters, after, cut, bounds, key_id=key_id)

        page = await self._log.read(run, size=LARGE_READ_BYTES)
        self._cut = page.cut
        return page

    def _first_cut(self, reading: Reading[sqlite3.Connection]) -> Cut:
        if self._moment is None:
            return reading.cut_at_head()
        return cut_at(reading, self._moment, microseconds_now())


class Inventory:
    """One list of all entries that match, whoever can open them, without their values; cut at the head."""

    def __init__(self, log: EventLog[sqlite3.Connection], filters: Filters) -> None:
        self._log = log
        self._filters = filters

    async def pages(self, most_entries: int) -> AsyncIterator[list[Entry]]:
        """All of it, so many entries at a time at most; a page may be empty.

        Raises:
            Unavailable: Not now.
        """
        after: tuple[str, str] | None = START
        cut: Cut | None = None
        while after is not None:

            def run(
                reading: Reading[sqlite3.Connection], begin: tuple[str, str] = after, known: Cut | None = cut
            ) -> Page:
                at = reading.cut_at_head() if known is None else known
                bounds = (most_entries, LARGE_READ_BYTES)
                return entries_of_page(reading, self._filters, begin, at, bounds, with_bodies=False)

            page = await self._log.read(run, size=LARGE_READ_BYTES)
            cut, after = page.cut, page.next_after
            yield [entry for entry, _ in page.found]


def entries_of_page(
    reading: Reading[sqlite3.Connection],
    filters: Filters,
    after: tuple[str, str],
    cut: Cut,
    bounds: tuple[int, int],
    *,
    key_id: bytes | None = None,
    with_bodies: bool = True,
) -> Page:
    """The entries past `after` that match, as they stood at the cut.

    Args:
        after: `(environment, key)` where the page before ended; `START` at first.
        bounds: Most entries, and most bytes of ciphertext past which the page ends.
        key_id: Only entries of this key, or of no known key; None: of any.
        with_bodies: Whether to read what holds their values.
    """
    most_entries, most_bytes = bounds
    found: list[tuple[Entry, Body | None]] = []
    size = 0
    rows = projections.entries_after(
        reading.store, after, environment=filters.environment, from_key=filters.beginning
    )
    for examined, current in enumerate(rows, start=1):
        place = (current.environment, current.key)
        if filters.environment is not None and not _has_prefix(current, filters):
            break  # Keys are in order: no later one can begin with the prefix.
        entry = current if cut.covers(current.winner) else _as_of(reading, current, cut)
        if entry is not None and _matches(entry, filters, key_id):
            body = reading.body_at(entry.offset) if with_bodies else None
            found.append((entry, body))
            size += len(body.ciphertext or b"") if body is not None else 0
        if len(found) >= most_entries or size >= most_bytes or examined >= MAX_EXAMINED:
            return Page(found, cut, place)
    return Page(found, cut, None)


def _as_of(reading: Reading[sqlite3.Connection], current: Entry, cut: Cut) -> Entry | None:
    recorded = reading.winner(current.environment, current.key, cut)
    return None if recorded is None else entry_after(recorded)


def _matches(entry: Entry, filters: Filters, key_id: bytes | None) -> bool:
    return (
        not entry.deleted
        and (filters.category is None or entry.category == filters.category)
        and (filters.key is None or entry.key == filters.key)
        and _has_prefix(entry, filters)
        and (key_id is None or entry.key_id is None or entry.key_id == key_id)
    )


def _has_prefix(entry: Entry, filters: Filters) -> bool:
    return entry.key.startswith(filters.beginning)
