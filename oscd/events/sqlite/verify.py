"""Owns the proof that a log holds what was appended: nothing changed, dropped, reordered or moved (invariant 8).

Reads only, page by page after a first look at the whole file, beside a serving node if need be. A tail that was
cut off together with its origin's last numbers, or a file that was rewritten consistently, cannot be found from the
file alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from oscd.errors import LogCorrupt
from oscd.events import codec
from oscd.events.event import Event, EventType, Origin
from oscd.events.sqlite.transaction import SqliteReading

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where: `offset 17`, or a row of a table."""

    where: str
    what: str

    def __str__(self) -> str:
        """For a person."""
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class _End:
    """Where the chain of one origin has been followed to."""

    digest: bytes
    seq: int = 0
    stamp: int = 0
    last_seq: int = 0


@dataclass(slots=True)
class _Chains:
    """What has been seen so far, by origin."""

    names: dict[int, Origin]
    ends: dict[Origin, _End] = field(default_factory=dict)

    def end(self, origin: Origin) -> _End:
        return self.ends.setdefault(origin, _End(codec.genesis_digest(origin)))


def verify_chain(connection: sqlite3.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Follow every origin's chain through the log, up to the head it has now.

    Args:
        progress: Told the offset after each event.
    """
    yield from _file_findings(connection)
    head, offset = SqliteReading(connection).head(), 0
    chains = _Chains(
        {
            row[0]: Origin(row[1], row[2])
            for row in connection.execute("SELECT id, node_id, incarnation FROM origins")
        }
    )
    while offset < head:
        rows = connection.execute(
            'SELECT "offset", origin, seq, stamp, environment, key, entry_id, digest, header, body'
            ' FROM events WHERE "offset" > ? AND "offset" <= ? ORDER BY "offset" LIMIT ?',
            (offset, head, PAGE),
        )
        for row in rows:
            if row[0] != offset + 1:
                yield Finding(f"offset {offset + 1}", f"{row[0] - offset - 1} event(s) are missing")
            offset = row[0]
            for what in _event_findings(chains, row):
                yield Finding(f"offset {offset}", what)
            progress(offset)
    yield from _end_findings(connection, chains)


def _file_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (message,) in connection.execute("PRAGMA integrity_check(10)"):
        if message != "ok":
            yield Finding("file", str(message))


def _event_findings(chains: _Chains, row: tuple[Any, ...]) -> Iterator[str]:
    _, origin_id, seq, stamp, environment, key, entry_id, digest, header, body = row
    if not (isinstance(header, bytes) and isinstance(digest, bytes) and isinstance(body, bytes | None)):
        yield "header, digest or body is not stored as bytes"
        return
    try:
        event = codec.decode_header(header)
    except LogCorrupt as error:
        yield str(error)
        return
    columns = (chains.names.get(origin_id), seq, stamp, environment, key)
    if columns != (event.origin, event.seq, event.stamp, event.environment, event.key):
        yield "the indexed columns are not those of the header"
    yield from _chain_findings(chains.end(event.origin), event, header, digest)
    if body is not None and codec.body_digest(body) != event.body_digest:
        yield "the body is not the one that was appended"
    if (entry_id is None) != (event.type == EventType.DELETED or not event.is_of_entry):
        yield "its entry id does not fit its type"


def _chain_findings(end: _End, event: Event, header: bytes, digest: bytes) -> Iterator[str]:
    """Check an event against the one before it of its origin, and let it become the end."""
    if event.seq != end.seq + 1:
        yield f"it is event {event.seq} of its origin, where event {end.seq + 1} belongs"
    if codec.chain_digest(end.digest, header) != digest:
        yield "the chain is broken: this header does not follow the event before it"
    if event.stamp <= end.stamp:
        yield "its stamp does not rise"
    if event.last_seq < event.seq or (end.seq < end.last_seq != event.last_seq):
        yield "its write does not end where the events before it say"
    end.digest, end.seq, end.stamp, end.last_seq = digest, event.seq, event.stamp, event.last_seq


def _end_findings(connection: sqlite3.Connection, chains: _Chains) -> Iterator[Finding]:
    """Compare each chain's end with what the log noted of it; a tail cut off the events shows here."""
    for node_id, incarnation, seq, digest, stamp in connection.execute(
        "SELECT node_id, incarnation, seq, digest, stamp FROM origins"
    ):
        end = chains.end(Origin(node_id, incarnation))
        # A serving node may have appended since the head was taken; what is missing is the other way round.
        if seq < end.seq or (seq == end.seq and (digest, stamp) != (end.digest, end.stamp)):
            yield Finding(
                f"origin {node_id}/{incarnation}", "its noted end is not the event the log ends with"
            )
        elif seq > end.seq and not _holds(connection, incarnation, end.seq + 1):
            yield Finding(f"origin {node_id}/{incarnation}", f"its events {end.seq + 1} to {seq} are missing")


def _holds(connection: sqlite3.Connection, incarnation: str, seq: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM events JOIN origins ON origins.id = events.origin WHERE incarnation = ? AND events.seq = ?",
        (incarnation, seq),
    ).fetchone()
    return row is not None
