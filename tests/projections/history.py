"""Random histories of entries, and logs that hold them."""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from oscd.commands import Caller, Create, Delete, Preconditions, Sealed, Update, decide
from oscd.errors import RequestRefused
from oscd.events.event import Event, Origin, Recorded
from oscd.events.sqlite import schema
from oscd.events.sqlite.prepare import prepare
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections import sqlite as projections
from oscd.projections.sqlite import SqliteProjections
from tests.events.log_contract import draft, written_elsewhere

Step = tuple[str, str, str, str]

steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "delete"]),
        st.sampled_from(["prod", "dev"]),
        st.sampled_from("abc"),
        st.sampled_from(["", "db", "web"]),
    ),
    max_size=40,
)


@contextmanager
def log_with(path: Path, history: Sequence[Step]) -> Iterator[sqlite3.Connection]:
    """A log file with a history in it, each step a command that was decided as a node would."""
    prepared = prepare(path, node_id="node-a", projections=SqliteProjections())
    connection = prepared.file.connect()
    try:
        connection.execute("BEGIN IMMEDIATE")
        clock = itertools.count(1_700_000_000_000_000)
        writing = SqliteWriting(
            connection, origin=prepared.origin, projections=SqliteProjections(), clock=lambda: next(clock)
        )
        for number, step in enumerate(history):
            run(writing, step, number)
        connection.execute("COMMIT")
        yield connection
    finally:
        connection.close()


def run_more(log: sqlite3.Connection, history: Sequence[Step], *, node_id: str | None = None) -> None:
    """Append further steps to a log, each a write of its own.

    Args:
        node_id: Name of the node whose new origin they are of; None: the log's own origin.
    """
    log.execute("BEGIN IMMEDIATE")
    origin = schema.own_origin(log) if node_id is None else schema.new_origin(log, node_id)
    assert origin is not None
    writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
    for number, step in enumerate(history, start=1000 + writing.head()):
        run(writing, step, number)
    log.execute("COMMIT")


def collide(log: sqlite3.Connection, environment: str, key: str, *, stamp: int = 2**60) -> None:
    """Take in an event of another node that did not know the entry.

    Args:
        stamp: Its own; by default later than any.
    """
    log.execute("BEGIN IMMEDIATE")
    writing = SqliteWriting(log, projections=SqliteProjections(), clock=lambda: 0)
    drafts, origin = (
        [draft(key, environment=environment, stamp=stamp)],
        Origin("node-c", secrets.token_hex(8)),
    )
    writing.ingest(written_elsewhere(writing, drafts, lambda: 0, origin))
    log.execute("COMMIT")


def run(writing: SqliteWriting, step: Step, number: int) -> None:
    """Decide and append one step; a refused one changes nothing."""
    kind, environment, key, category = step
    event_id = number.to_bytes(16)
    sealed = Sealed(b"token%d" % number, event_id, b"k" * 16)
    current = projections.entry(writing.store, environment, key)
    try:
        match kind:
            case "create":
                draft = decide(Create(environment, key, category or None, sealed, Caller()), current)
            case "update":
                draft = decide(Update(environment, key, category, sealed, Caller(), Preconditions()), current)
            case _:
                draft = decide(
                    Delete(environment, key, event_id, b"k" * 16, Caller(), Preconditions()), current
                )
    except RequestRefused:
        return
    writing.append([draft])


def recorded_events(events: Sequence[Event]) -> list[Recorded]:
    """Events as a log would hold them that got them in this order; ids are no part of what is merged."""
    winners: dict[tuple[str, str], Recorded] = {}
    recorded = []
    for offset, event in enumerate(events, start=1):
        place = (event.environment, event.key)
        previous = winners.get(place)
        recorded.append(
            Recorded(offset, event, b"\0" * 32, None, None if previous is None else previous.offset, None)
        )
        if previous is None or event.precedence > previous.event.precedence:
            winners[place] = recorded[-1]
    return recorded


def renumbered(events: Sequence[Event], origin: Origin) -> list[Event]:
    """The events as one origin's first ones, stamps rising."""
    ordered = sorted(events, key=lambda event: event.stamp)
    return [
        event._replace(origin=origin, seq=seq, last_seq=seq, stamp=event.stamp * 100 + seq, replaces=None)
        for seq, event in enumerate(ordered, start=1)
    ]
