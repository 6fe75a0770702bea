"""Owns what must hold of nodes that have come to rest. Must not change them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from oscd.events import codec
from oscd.events.event import Event, EventRef
from oscd.events.sqlite.verify import verify_chain
from oscd.projections.sqlite import totals
from oscd.projections.verify import verify_projections
from tests.simulator.ledger import Ledger, winners
from tests.simulator.log import MemoryFileLog


def are_equal(logs: Sequence[MemoryFileLog]) -> bool:
    """Whether all stand at one position."""
    first = logs[0].reading().position()
    return all(log.reading().position() == first for log in logs[1:])


def judge(logs: Sequence[MemoryFileLog], truth: Ledger, *, is_causal: bool, thoroughly: bool) -> None:
    """Find what does not hold.

    Args:
        is_causal: Whether no network lost a frame of a stream that went on, which no chain shows and no TCP does.
        thoroughly: Whether each log is also proved as `oscd verify` does it.

    Raises:
        AssertionError: Something does not.
    """
    held = [_events(log) for log in logs]
    for events in held:
        _follows_itself(list(events.values()), is_causal=is_causal)
    for other in held[1:]:
        assert other.keys() == held[0].keys(), "nodes hold different events, or one number names two"
    _is_complete(held[0], truth)
    stores = [log.reading().store for log in logs]
    tables = [_tables(store) for store in stores]
    for other_table in tables[1:]:
        assert other_table == tables[0], "equal events, unequal states"
    assert _winners(stores[0]) == {
        place: (event.stamp, event.origin.incarnation, event.seq)
        for place, event in winners(held[0].values()).items()
    }, "the state is not the merge of the events"
    for store in stores if thoroughly else ():
        found = [*verify_chain(store, _unheard), *verify_projections(store, _unheard)]
        assert not found, found


def _events(log: MemoryFileLog) -> dict[bytes, Event]:
    """The events of a log by chain digest, in its order."""
    rows = log.reading().store.execute('SELECT digest, header FROM events ORDER BY "offset"')
    return {digest: codec.decode_header(header) for digest, header in rows}


def _follows_itself(events: Sequence[Event], *, is_causal: bool) -> None:
    """Invariant 2, and that what an event was decided against came before it.

    That offsets have no gap (invariant 1) `verify_chain` tells.
    """
    ends: dict[str, tuple[int, int]] = {}
    stamps: dict[EventRef, int] = {}
    for event in events:
        seq, stamp = ends.get(event.origin.incarnation, (0, 0))
        assert event.seq == seq + 1, "the seqs of an origin have a gap"
        assert event.stamp > stamp, "the stamps of an origin do not rise"
        ends[event.origin.incarnation] = (event.seq, event.stamp)
        if is_causal:
            assert event.replaces is None or event.replaces in stamps, "an event came before what it replaces"
        stamps[event.ref] = event.stamp
    for event in events:
        if event.replaces in stamps:
            assert stamps[event.replaces] < event.stamp, "an event lost to what it replaces"


def _is_complete(held: dict[bytes, Event], truth: Ledger) -> None:
    for fact in truth.surviving():
        assert fact.digest in held, f"an acknowledged write is gone: {fact.event.ref}"
    for digest in held:
        assert digest in truth.facts, f"an event that nobody wrote: {held[digest].ref}"


def _tables(store: sqlite3.Connection) -> tuple[Any, ...]:
    """Everything of the projections that is not a node's own."""
    return (
        totals(store).entries,
        totals(store).state,
        store.execute(
            "SELECT environment, key, category, version, created_at, updated_at, stamp, node_id, incarnation, seq,"
            " event_id, key_id, imported, deleted FROM entries ORDER BY environment, key"
        ).fetchall(),
        store.execute("SELECT kind, name, entries FROM counts ORDER BY kind, name").fetchall(),
    )


def _winners(store: sqlite3.Connection) -> dict[tuple[str, str], tuple[int, str, int]]:
    rows = store.execute("SELECT environment, key, stamp, incarnation, seq FROM entries")
    return {(row[0], row[1]): row[2:] for row in rows}


def _unheard(offset: int) -> None:
    """Progress that nobody watches."""
