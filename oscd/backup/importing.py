"""Owns one import from its document to the log: looked up page by page, sealed page by page, appended at once.

Authorization is shown outside the transaction, because a value of any size may have to be opened for it. The
transaction then only makes sure that nothing has changed where an entry goes since it was decided (offsets tell), and
gives up for another round where something has. Must not know the form of a backup, nor HTTP.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from oscd.backup.document import BackedUp, Failure, Place
from oscd.backup.plan import NOTHING, Plan, Standing
from oscd.commands import Caller
from oscd.errors import Unavailable
from oscd.events.cipher import Cipher
from oscd.events.event import Body
from oscd.events.log import EventLog, Reading, Writing
from oscd.events.position import Position
from oscd.listing import LARGE_READ_BYTES
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry
from oscd.values import open_each, seal_each

PAGE_ENTRIES: Final = 200
# A page ends past this many bytes of values: of the backup, or of what is opened to show whose it is.
PAGE_BYTES: Final = 256 * 1024
# Rounds an import is tried in while others write where it goes.
MAX_TRIES: Final = 5
# Events looked at in one view for what has changed meanwhile.
CHANGES: Final = 500


class _Outdated(Exception):
    """Something was written where an entry of the plan goes, or too much to look at here."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a page of events has changed of what a plan was decided by, and the offset it ends at."""

    outdated: Sequence[Place]
    upto: int
    is_last: bool


class Importing:
    """One import into one log, for one caller.

    Args:
        is_dry: Decide only: nothing is sealed, nothing appended.
    """

    def __init__(
        self, log: EventLog[sqlite3.Connection], cipher: Cipher, plan: Plan, *, is_dry: bool
    ) -> None:
        self._log = log
        self._cipher = cipher
        self._plan = plan
        self._is_dry = is_dry
        # All that is ready was decided after the event at this offset; None before the first look at the log.
        self._decided_at: int | None = None

    async def decide(self, entries: Iterator[BackedUp | Failure]) -> None:
        """Decide about every entry.

        Raises:
            BadRequest: What gives the entries finds that they are of no backup.
            BodyTooLarge: They are too many.
            LogCorrupt: The log does not hold what was appended.
            Unavailable: Not now.
        """
        while page := await asyncio.to_thread(_page, entries):
            fit = self._plan.admit(page)
            standings = await self._standings([entry.place for entry in fit])
            wanted = [entry for entry in fit if self._plan.decide(entry, standings.get(entry.place, NOTHING))]
            if not self._is_dry:
                values = [(*entry.place, entry.value_json) for entry in wanted]
                for entry, sealed in zip(wanted, await seal_each(self._cipher, values), strict=True):
                    self._plan.keep(entry.place, sealed)

    async def append(self, caller: Caller) -> Position:
        """Append what was decided, as one write.

        Raises:
            LogCorrupt: The log does not hold what was appended.
            Unavailable: Nothing was changed: the log cannot be written, or is written too often just there.
        """
        for _ in range(MAX_TRIES):
            await self._catch_up()
            try:
                return await self._log.write(lambda writing: self._run(writing, caller), size=self._plan.size)
            except _Outdated:
                continue
        raise Unavailable("Nothing was changed: entries of this backup are being written too often.")

    def _run(self, writing: Writing[sqlite3.Connection], caller: Caller) -> Position:
        """The write. It opens nothing, and looks at one page of changes: others wait for as short as can be."""
        assert self._decided_at is not None
        look = self._look(writing, after=self._decided_at)
        if look.outdated or not look.is_last:
            raise _Outdated
        writing.append_many(self._plan.drafts(caller), len(self._plan.ready))
        return writing.position()

    async def _catch_up(self) -> None:
        """Decide anew where the log has changed; what is left for the transaction to look at is little."""
        assert self._decided_at is not None
        look = _Look([], self._decided_at, is_last=False)
        while not look.is_last:
            look = await self._log.read(partial(self._look, after=look.upto))
            # What is decided by is read later than the changes, so nothing falls between the two.
            for place, standing in (await self._standings(look.outdated)).items():
                self._plan.decide_anew(place, standing)
            self._decided_at = look.upto

    def _look(self, reading: Reading[sqlite3.Connection], after: int) -> _Look:
        """Look where a page of the log's events touches the plan."""
        changes = reading.changes(after, CHANGES)
        places = {(change.event.environment, change.event.key) for change in changes}
        return _Look(
            [place for place in places if place in self._plan.ready],
            changes[-1].offset if changes else after,
            is_last=len(changes) < CHANGES,
        )

    async def _standings(self, places: Sequence[Place]) -> dict[Place, Standing]:
        """What the log holds at these places, and what of it the key opens; nothing where it never held any."""

        def look(reading: Reading[sqlite3.Connection]) -> list[Entry]:
            if self._decided_at is None:
                self._decided_at = reading.head()
            found = (projections.entry(reading.store, *place) for place in places)
            return [entry for entry in found if entry is not None]

        entries = await self._log.read(look) if places else []
        opened = await self._opened([entry for entry in entries if self._may_open(entry)])
        return {_place(entry): Standing(entry, _place(entry) in opened) for entry in entries}

    def _may_open(self, entry: Entry) -> bool:
        return not entry.deleted and entry.key_id in (None, self._cipher.key_id)

    async def _opened(self, entries: Sequence[Entry]) -> Collection[Place]:
        """Of these entries those the key opens; each is opened as it stands at its offset."""
        opened: set[Place] = set()
        while entries:
            found = await self._log.read(partial(_bodies, entries=entries), size=LARGE_READ_BYTES)
            opened.update(_place(one.entry) for one in await open_each(self._cipher, found))
            entries = entries[len(found) :]
        return opened


def _place(entry: Entry) -> Place:
    return (entry.environment, entry.key)


def _page(entries: Iterator[BackedUp | Failure]) -> list[BackedUp | Failure]:
    page: list[BackedUp | Failure] = []
    size = 0
    for entry in islice(entries, PAGE_ENTRIES):
        page.append(entry)
        size += len(entry.value_json) if isinstance(entry, BackedUp) else 0
        if size >= PAGE_BYTES:
            break
    return page


def _bodies(
    reading: Reading[sqlite3.Connection], entries: Sequence[Entry]
) -> list[tuple[Entry, Body | None]]:
    """The first of these entries with their bodies, some `PAGE_BYTES` of them."""
    found: list[tuple[Entry, Body | None]] = []
    size = 0
    for entry in entries:
        body = reading.body_at(entry.offset)
        found.append((entry, body))
        size += len(body.ciphertext or b"") if body is not None else 0
        if size >= PAGE_BYTES:
            break
    return found
