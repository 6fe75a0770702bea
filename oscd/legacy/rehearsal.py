"""Owns the dry run: the same decisions against the same log, with no file made or changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.faults import translated
from oscd.events.sqlite.noted import noted_digest
from oscd.events.sqlite.reading import SqliteReading
from oscd.legacy.errors import ImportRefused
from oscd.legacy.fit import Choices, Destination, Held, require_another_file, require_fit
from oscd.legacy.placing import MAX_ID, Placing, Tally, place_rows
from oscd.legacy.row import Row
from oscd.legacy.source import LegacyDatabase
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry


def rehearse(
    source: LegacyDatabase,
    salt: bytes,
    destination: Destination,
    choices: Choices,
    now: int,
    progress: Callable[[int], None],
) -> Tally:
    """What `take_over` with the same arguments would do.

    Raises:
        ImportRefused: It would refuse; or nobody can tell, as the log's last writes are not in its file yet.
        StartRefused: The log is in use, or is no log.
        Unavailable: The log cannot be read.
    """
    require_another_file(source, destination.database)
    try:
        with _claimed_if_served(destination.database), _looked_at(destination.database) as log:
            require_fit(salt, destination, choices, _held(log))
            return _place(source, log, now, progress)
    except (sqlite3.Error, OSError) as error:
        raise translated(error) from error


def _held(log: sqlite3.Connection | None) -> Held:
    if log is None:
        return Held()
    reading = SqliteReading(log)
    return Held(reading.head() == 0, noted_digest(reading))


def _place(
    source: LegacyDatabase, log: sqlite3.Connection | None, now: int, progress: Callable[[int], None]
) -> Tally:
    def find(row: Row) -> Entry | None:
        return None if log is None else projections.entry(log, row.environment, row.key)

    last_id = 0 if log is None else int(schema.read_meta(log, "last_entry_id") or 0)
    placing = Placing(now=now, last_id=last_id, greatest_id=source.greatest_id(MAX_ID))
    return place_rows(source.rows(), placing, find=find, append=lambda _: None, progress=progress)


@contextmanager
def _claimed_if_served(database: Path) -> Iterator[None]:
    """Hold the claim, unless no node ever served this log: then its file would have to be made."""
    if not Path(f"{database}-node-lock").exists():
        yield
        return
    claim = NodeClaim(database)
    try:
        yield
    finally:
        claim.release()


@contextmanager
def _looked_at(database: Path) -> Iterator[sqlite3.Connection | None]:
    """The log for reading; None where there is nothing in it. Immutable, or SQLite would make files beside it."""
    if not database.exists() or database.stat().st_size == 0:
        yield None
        return
    wal = Path(f"{database}-wal")
    if wal.exists() and wal.stat().st_size:
        raise ImportRefused(
            "--dry-run: the node on this log was killed, and looking at it would change it; start and stop it once."
        )
    uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as log:
        schema.refuse_foreign(log)
        yield log if schema.layout(log) == len(schema.MIGRATIONS) else None
