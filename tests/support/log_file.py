"""Owns the sight of a node's log as it lies on the disk, for tests that trust no node. Must not write.

It reads what is there while nodes write it; a view is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from oscd.events import codec
from oscd.events.event import Event, EventType
from oscd.events.position import CHECK_BYTES, Position, decode_position, mark

Number = tuple[str, int]
"""Incarnation and seq: what names an event on every node."""

EntryName = tuple[str, str]
"""Environment and key."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a log stands: what must be equal where nodes are.

    Attributes:
        ends: By incarnation, the seq and the chain digest of its last event here.
        state: Digest of the state of all entries.
    """

    ends: Mapping[str, tuple[int, bytes]]
    state: bytes

    @property
    def position(self) -> str:
        """Where a reader of all of it stands."""
        return Position({name: mark(seq, digest) for name, (seq, digest) in self.ends.items()}).encode()


@dataclass(frozen=True, slots=True)
class Logged:
    """One event as a log has it."""

    event: Event
    digest: bytes


Log = Mapping[Number, Logged]


def standing_of(database: Path) -> Standing:
    """How the log stands now."""
    with _view(database) as view:
        ends = view.execute("SELECT incarnation, seq, digest FROM origins WHERE seq > 0").fetchall()
        (state,) = view.execute("SELECT state FROM totals").fetchone()
    return Standing({incarnation: (seq, digest) for incarnation, seq, digest in ends}, state)


def log_of(database: Path) -> dict[Number, Logged]:
    """Every event of the log, in its order."""
    with _view(database) as view:
        rows = view.execute('SELECT header, digest FROM events ORDER BY "offset"').fetchall()
    found = [Logged(codec.decode_header(header), digest) for header, digest in rows]
    log = {(one.event.origin.incarnation, one.event.seq): one for one in found}
    assert len(log) == len(found), "two events of one log have one number"
    return log


def winners(log: Log) -> dict[EntryName, Event]:
    """The greatest-stamped event of each entry that exists, worked out from nothing but the events."""
    best: dict[EntryName, Event] = {}
    for one in log.values():
        event = one.event
        name = (event.environment, event.key)
        if event.is_of_entry and (name not in best or best[name].precedence < event.precedence):
            best[name] = event
    return {name: event for name, event in best.items() if event.type != EventType.DELETED}


def lacking(log: Log, position: str) -> list[str]:
    """What a position names and this log has not got, or has otherwise."""
    found = []
    for incarnation, wanted in decode_position(position).marks.items():
        logged = log.get((incarnation, wanted.seq))
        if logged is None:
            found.append(f"{incarnation} {wanted.seq} is missing")
        elif logged.digest[:CHECK_BYTES] != wanted.check:
            found.append(f"{incarnation} {wanted.seq} is another event")
    return found


@contextmanager
def _view(database: Path) -> Iterator[sqlite3.Connection]:
    # Read only: the last connection of a killed node must not be ours, which would then checkpoint its log.
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, isolation_level=None)) as view:
        view.execute("BEGIN")
        yield view
