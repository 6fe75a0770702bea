"""Owns the proof that a log holds what was appended: nothing changed, dropped, reordered or moved (invariant 8).

Reads only, page by page after a first look at the whole file, beside a serving node if need be. A tail that was
cut off together with its origin's last numbers, or a file that was rewritten consistently, cannot be found from the
file alone, but against a fingerprint that somebody wrote down (`fingerprint.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.event import Event, EventType, Origin
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.stored import StoredEvent, stored_events, stored_origins
from oscd.events.standing import Standing

_KNOWN_META: Mapping[str, frozenset[object]] = {
    "standing": frozenset(standing.value for standing in Standing),
    "clustered": frozenset({0, 1}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where: `offset 17`, or a row of a table."""

    where: str
    what: str

    def __str__(self) -> str:
        """For a person."""
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class ChainEnd:
    """Where the chain of one origin has been followed to."""

    digest: bytes
    seq: int = 0
    stamp: int = 0
    last_seq: int = 0


@dataclass(slots=True)
class Chains:
    """What has been followed so far, by origin.

    Attributes:
        names: The origins by the ids of their rows.
    """

    names: dict[int, Origin]
    ends: dict[Origin, ChainEnd] = field(default_factory=dict)

    def end(self, origin: Origin) -> ChainEnd:
        """Where an origin's chain has been followed to."""
        return self.ends.setdefault(origin, ChainEnd(codec.genesis_digest(origin)))

    def follow(self, row: StoredEvent) -> Iterator[str]:
        """What is wrong with the next event; its chain then ends with it."""
        if mistyped := row.mistyped():
            yield f"{', '.join(mistyped)}: not a value of the type that belongs there"
            return
        try:
            event = codec.decode_header(row.header)
        except LogCorrupt as error:
            yield str(error)
            return
        columns = (self.names.get(row.origin), row.seq, row.stamp, row.environment, row.key)
        if columns != (event.origin, event.seq, event.stamp, event.environment, event.key):
            yield "the indexed columns are not those of the header"
        yield from _chain_findings(self.end(event.origin), event, row)
        # A body may be removed one day, and then be noted as that; no version of oscd has done it yet.
        if row.body is None:
            yield "its body is missing"
        elif codec.body_digest(row.body) != event.body_digest:
            yield "the body is not the one that was appended"
        if (row.entry_id is None) != (event.type == EventType.DELETED or not event.is_of_entry):
            yield "its entry id does not fit its type"


def origins_by_id(connection: sqlite3.Connection) -> dict[int, Origin]:
    """The origins by the ids of their rows, as `Chains` needs them."""
    return {row.id: Origin(row.node_id, row.incarnation) for row in stored_origins(connection)}


def verify_chain(connection: sqlite3.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Follow every origin's chain through the log, up to the head it has now.

    Args:
        progress: Told the offset after each event.
    """
    yield from _file_findings(connection)
    head, offset = SqliteReading(connection).head(), 0
    chains = Chains(origins_by_id(connection))
    for row in stored_events(connection, offset, head):
        if row.offset != offset + 1:
            yield Finding(f"offset {offset + 1}", f"{row.offset - offset - 1} event(s) are missing")
        offset = row.offset
        for what in chains.follow(row):
            yield Finding(f"offset {offset}", what)
        progress(offset)
    yield from _end_findings(connection, chains)
    yield from _meta_findings(connection, chains)


def verify_tail(connection: sqlite3.Connection, most: int) -> Iterator[Finding]:
    """As `verify_chain`, for the last events alone: what a start believes, and what a damaged end would show.

    Args:
        most: How many.
    """
    head = SqliteReading(connection).head()
    offset = max(0, head - most)
    names = origins_by_id(connection)
    chains = Chains(names)
    for row in stored_events(connection, offset, head):
        if row.offset != offset + 1:
            yield Finding(f"offset {offset + 1}", f"{row.offset - offset - 1} event(s) are missing")
        offset = row.offset
        origin = names.get(row.origin)
        if origin is not None and origin not in chains.ends:
            _begin_at(connection, chains, row.origin, row.seq - 1)
        for what in chains.follow(row):
            yield Finding(f"offset {offset}", what)
    for origin_row in stored_origins(connection):
        if not origin_row.mistyped() and names.get(origin_row.id) not in chains.ends:
            _begin_at(connection, chains, origin_row.id, origin_row.seq)
    yield from _end_findings(connection, chains)
    yield from _meta_findings(connection, chains)


def _begin_at(connection: sqlite3.Connection, chains: Chains, origin_id: int, seq: int) -> None:
    """Believe one event, so that those after it can be followed; where there is none, the chain begins before all."""
    row = connection.execute(
        "SELECT digest, seq, stamp, header FROM events WHERE origin = ? AND seq = ?", (origin_id, seq)
    ).fetchone()
    if row is None:
        return
    digest, seq, stamp, header = row
    try:
        last_seq = codec.decode_header(header).last_seq
    except (LogCorrupt, TypeError):
        return
    chains.ends[chains.names[origin_id]] = ChainEnd(digest, seq, stamp, last_seq)


def _file_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (message,) in connection.execute("PRAGMA integrity_check(10)"):
        if message != "ok":
            yield Finding("file", str(message))
    (least,) = connection.execute('SELECT min("offset") FROM events').fetchone()
    if least is not None and least < 1:
        yield Finding(f"offset {least}", "no event belongs before offset 1")


def _chain_findings(end: ChainEnd, event: Event, row: StoredEvent) -> Iterator[str]:
    """Check an event against the one before it of its origin, and let it become the end."""
    if event.seq != end.seq + 1:
        yield f"it is event {event.seq} of its origin, where event {end.seq + 1} belongs"
    if codec.chain_digest(end.digest, row.header) != row.digest:
        yield "the chain is broken: this header does not follow the event before it"
    if event.stamp <= end.stamp:
        yield "its stamp does not rise"
    if event.last_seq < event.seq or (end.seq < end.last_seq != event.last_seq):
        yield "its write does not end where the events before it say"
    end.digest, end.seq, end.stamp, end.last_seq = row.digest, event.seq, event.stamp, event.last_seq


def _end_findings(connection: sqlite3.Connection, chains: Chains) -> Iterator[Finding]:
    """Compare each chain's end with what the log noted of it; a tail cut off the events shows here."""
    for row in stored_origins(connection):
        if mistyped := row.mistyped():
            yield Finding(
                f"origin {row.id}", f"{', '.join(mistyped)}: not a value of the type that belongs there"
            )
            continue
        _, node_id, incarnation, seq, digest, stamp = row
        end = chains.end(Origin(node_id, incarnation))
        place = f"origin {node_id}/{incarnation}"
        # A serving node may have appended since the head was taken; what is missing is the other way round.
        if seq < end.seq or (seq == end.seq and (digest, stamp) != (end.digest, end.stamp)):
            yield Finding(place, "its noted end is not the event the log ends with")
        elif seq > end.seq and not _holds(connection, incarnation, end.seq + 1):
            yield Finding(place, f"its events {end.seq + 1} to {seq} are missing")
        if end.seq < end.last_seq:
            yield Finding(
                place, f"the rest of its last write, events {end.seq + 1} to {end.last_seq}, is missing"
            )


def _meta_findings(connection: sqlite3.Connection, chains: Chains) -> Iterator[Finding]:
    """What the log says of itself, and a start believes."""
    for (name,) in connection.execute("SELECT name FROM meta WHERE value IS NULL"):
        yield Finding(f"meta {name}", "it has no value")
    for name in ("own_origin", "ended_origin"):
        row_id = schema.read_meta(connection, name)
        # One that began since the origins were read is as good.
        if row_id is not None and row_id not in chains.names and row_id not in origins_by_id(connection):
            yield Finding(f"meta {name}", "the log knows no such origin")
    for name, known in _KNOWN_META.items():
        if (value := schema.read_meta(connection, name)) is not None and value not in known:
            yield Finding(f"meta {name}", "it is nothing that oscd puts there")
    salt = schema.read_meta(connection, "salt_digest")
    if salt is not None and not (isinstance(salt, bytes) and len(salt) == codec.DIGEST_BYTES):
        yield Finding("meta salt_digest", "it is no digest of a salt")


def _holds(connection: sqlite3.Connection, incarnation: str, seq: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM events JOIN origins ON origins.id = events.origin WHERE incarnation = ? AND events.seq = ?",
        (incarnation, seq),
    ).fetchone()
    return row is not None
