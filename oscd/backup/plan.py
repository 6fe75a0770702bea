"""Owns the rules of an import: what becomes of each entry of a backup, given what the log holds. No I/O, no clock.

An entry that could not be created here has failed, and so has one that the backup holds twice or that another user
key owns. One that the caller owns is skipped, or overwritten where that was asked for. The rest are imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from oscd.backup.document import BackedUp, Failure, Place
from oscd.commands import Caller, Sealed, valued
from oscd.errors import BodyTooLarge
from oscd.events.event import Draft, EventRef, next_version
from oscd.node import EVENT_OVERHEAD_BYTES
from oscd.projections.entry import Entry

# Entries of one backup, whatever becomes of them: each takes memory to the end, and its share of the write lock.
MAX_ENTRIES: Final = 250_000
TWICE: Final = "the backup holds this entry twice; the first one counts"
FOREIGN: Final = "another user key owns this entry"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the log holds where an entry of a backup would go.

    Attributes:
        entry: The entry or its tombstone; None where there never was one.
        opens: Whether the caller's key opens it. Never so unless it was tried.
    """

    entry: Entry | None = None
    opens: bool = False

    @property
    def live(self) -> Entry | None:
        """The entry, unless it was deleted."""
        return None if self.entry is None or self.entry.deleted else self.entry


NOTHING: Final = Standing()


@dataclass(slots=True)
class Ready:
    """An entry that will be imported; no more than its event needs, as there may be many.

    Attributes:
        created_at, updated_at: µs since 1970; None where the backup does not tell.
        replaces: What its event is decided against.
        lives_since: When the entry that it overwrites was created.
        version: 1 where it begins a life.
        sealed: None until its value is sealed.
    """

    category: str | None
    created_at: int | None
    updated_at: int | None
    replaces: EventRef | None = None
    lives_since: int | None = None
    version: int = 1
    sealed: Sealed | None = None

    def decide_against(self, standing: Standing) -> None:
        """Let its event follow what the log holds."""
        live = standing.live
        self.replaces = None if standing.entry is None else standing.entry.winner
        self.lives_since = None if live is None else live.created_at
        self.version = 1 if live is None else next_version(live.version)


@dataclass(slots=True)
class Plan:
    """One import as far as it has been decided.

    Attributes:
        now: µs since 1970. A time of the backup that has not come yet is taken as now.
        seen: Every place the backup names.
        ready: Those where an entry will be imported.
        size: Bytes the ready entries add to the log.
    """

    overwrite: bool
    now: int
    seen: set[Place] = field(default_factory=set)
    ready: dict[Place, Ready] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    total: int = 0
    skipped: int = 0
    size: int = 0

    def admit(self, found: Iterable[BackedUp | Failure]) -> list[BackedUp]:
        """Count what a backup holds, and give of it what is still to be decided.

        Raises:
            BodyTooLarge: It holds more than `MAX_ENTRIES`.
        """
        fit = []
        for one in found:
            self.total += 1
            if self.total > MAX_ENTRIES:
                raise BodyTooLarge(
                    f"backup_data: a backup may hold {MAX_ENTRIES} entries; make one of each environment or category."
                )
            if isinstance(one, Failure):
                self.failures.append(one)
            elif one.place in self.seen:
                self.failures.append(Failure(*one.place, TWICE))
            else:
                self.seen.add(one.place)
                fit.append(one)
        return fit

    def decide(self, entry: BackedUp, standing: Standing) -> bool:
        """Decide about an entry; tells whether it will be imported."""
        if not self._may_import(entry.place, standing):
            return False
        created_at = entry.updated_at if entry.created_at is None else entry.created_at
        updated_at = entry.created_at if entry.updated_at is None else entry.updated_at
        ready = Ready(entry.category, self._not_later(created_at), self._not_later(updated_at))
        ready.decide_against(standing)
        self.ready[entry.place] = ready
        return True

    def keep(self, place: Place, sealed: Sealed) -> None:
        """Take the sealed value of an entry that will be imported."""
        self.ready[place].sealed = sealed
        self.size += _added_bytes(sealed)

    def decide_anew(self, place: Place, standing: Standing) -> None:
        """Decide again about a ready entry, because the log has changed there."""
        if self._may_import(place, standing):
            self.ready[place].decide_against(standing)
        else:
            sealed = self.ready.pop(place).sealed
            self.size -= 0 if sealed is None else _added_bytes(sealed)

    def drafts(self, caller: Caller) -> Iterator[Draft]:
        """The events of the import: one write."""
        for place, ready in self.ready.items():
            assert ready.sealed is not None
            yield valued(
                place,
                ready.category,
                ready.sealed,
                caller,
                replaces=ready.replaces,
                version=ready.version,
                created_at=ready.lives_since if ready.created_at is None else ready.created_at,
                updated_at=ready.updated_at,
            )

    def _may_import(self, place: Place, standing: Standing) -> bool:
        """Whether an entry may go there; where not, count why."""
        if standing.live is None:
            return True
        if not standing.opens:
            self.failures.append(Failure(*place, FOREIGN))
        elif not self.overwrite:
            self.skipped += 1
        return standing.opens and self.overwrite

    def _not_later(self, time: int | None) -> int | None:
        return None if time is None else min(time, self.now)


def _added_bytes(sealed: Sealed) -> int:
    """What an event with this value adds to the log."""
    return len(sealed.ciphertext) + EVENT_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a backup.

    Attributes:
        total: Entries in it.
    """

    backup_id: str
    backup_timestamp: str
    total: int
    imported: int
    skipped: int
    failures: Sequence[Failure]
