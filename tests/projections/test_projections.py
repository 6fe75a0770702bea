"""The projections: what the log says about now, whatever the order it was told in."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from oscd.events.event import Event, EventType, Origin, Recorded
from oscd.events.log import scan
from oscd.events.sqlite.prepare import reproject
from oscd.events.sqlite.reading import SqliteReading
from oscd.projections import sqlite as projections
from oscd.projections.sqlite import TABLES, SqliteProjections, Totals
from tests.projections.history import Step, log_with, recorded_events, renumbered, steps
from tests.support.cuts import cut_covering

ORIGINS = [Origin("node-a", "aa" * 8), Origin("node-b", "bb" * 8), Origin("node-b", "cc" * 8)]


def bare_event(type: EventType, environment: str, key: str, category: str | None, stamp: int) -> Event:
    return Event(
        origin=ORIGINS[0],
        seq=1,
        last_seq=1,
        stamp=stamp,
        type=type,
        environment=environment,
        key=key,
        category=category,
        version=1,
        created_at=stamp,
        updated_at=stamp,
        event_id=b"e" * 16,
        key_id=b"k" * 16,
        imported=False,
        replaces=None,
        body_digest=b"b" * 32,
    )


bare_events = st.builds(
    bare_event,
    st.sampled_from(EventType),
    st.sampled_from(["prod", "dev"]),
    st.sampled_from("ab"),
    st.sampled_from([None, "db", "web"]),
    st.integers(1, 6),
)
histories = st.tuples(
    *(st.lists(bare_events, max_size=6).map(partial(renumbered, origin=origin)) for origin in ORIGINS)
)


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """The events of three origins, interleaved in two ways; each origin's own order is kept, as ingest does."""
    origins = draw(histories)

    def interleaved() -> list[Event]:
        left = [list(events) for events in origins]
        merged = []
        while any(left):
            source = draw(st.sampled_from([events for events in left if events]))
            merged.append(source.pop(0))
        return merged

    return interleaved(), interleaved()


def projected(events: Sequence[Event]) -> sqlite3.Connection:
    store = sqlite3.connect(":memory:", isolation_level=None)
    SqliteProjections().create(store)
    for recorded in recorded_events(events):
        SqliteProjections().apply(store, recorded)
    return store


def state(store: sqlite3.Connection) -> object:
    """Everything but what is this node's own: ids, offsets, and which events met."""
    columns = "environment, key, category, version, created_at, stamp, node_id, incarnation, seq, deleted"
    entries = store.execute(f"SELECT {columns} FROM entries ORDER BY 1, 2").fetchall()
    counts = store.execute("SELECT * FROM counts ORDER BY 1, 2").fetchall()
    totals = projections.totals(store)
    return entries, counts, totals.entries, totals.state


@given(two_orders())
def test_the_order_of_arrival_does_not_matter(orders: tuple[list[Event], list[Event]]) -> None:
    """Invariant 5: the same events in any order that keeps each origin's give the same state and digest."""
    one, other = (projected(events) for events in orders)
    assert state(one) == state(other)
    one.close()
    other.close()


@given(two_orders())
def test_the_winner_is_the_greatest_stamp_then_origin(orders: tuple[list[Event], list[Event]]) -> None:
    """Invariant 5: an entry's state is a function of its winning event alone."""
    events, _ = orders
    store = projected(events)
    for environment in ("prod", "dev"):
        for key in "ab":
            mine = [e for e in events if (e.environment, e.key) == (environment, key)]
            entry = projections.entry(store, environment, key)
            if not mine:
                assert entry is None
                continue
            winner = max(mine, key=lambda event: event.precedence)
            assert entry is not None
            assert (entry.winner, entry.deleted) == (winner.ref, winner.type == EventType.DELETED)
            assert (entry.category, entry.version, entry.stamp) == (winner.category, 1, winner.stamp)
    store.close()


@given(two_orders())
def test_statistics_count_what_is_there(orders: tuple[list[Event], list[Event]]) -> None:
    """The statistics are those of the live entries, with no row left for what has none."""
    store = projected(orders[0])
    live = store.execute("SELECT environment, category FROM entries WHERE NOT deleted").fetchall()
    statistics = projections.statistics(store)
    assert statistics.entries == len(live)
    assert statistics.by_environment == Counter(environment for environment, _ in live)
    assert statistics.by_category == Counter(category for _, category in live)
    store.close()


@given(two_orders())
def test_telling_an_event_twice_changes_nothing(orders: tuple[list[Event], list[Event]]) -> None:
    """Invariant 5: merge is idempotent."""
    once, twice = projected(orders[0]), projected([*orders[0], *orders[0]])
    assert state(once) == state(twice)
    once.close()
    twice.close()


@given(two_orders(), st.lists(st.integers(1, 6)))
def test_events_applied_together_leave_what_one_after_the_other_does(
    orders: tuple[list[Event], list[Event]], pages: list[int]
) -> None:
    """Invariant 3: every table is the same byte for byte, however the events are cut into pages."""
    one_by_one, together = projected(orders[0]), projected([])
    left = recorded_events(orders[0])
    for size in [*pages, len(left)]:
        SqliteProjections().apply_all(together, left[:size])
        left = left[size:]
    for table in TABLES:
        everything = f"SELECT * FROM {table} ORDER BY 1, 2"
        assert together.execute(everything).fetchall() == one_by_one.execute(everything).fetchall()
    one_by_one.close()
    together.close()


@given(steps)
def test_a_replay_rebuilds_every_table(history: list[Step]) -> None:
    """Invariant 3: replaying the log from empty gives every projection byte for byte."""
    with (
        tempfile.TemporaryDirectory() as directory,
        log_with(Path(directory) / "log.db", history) as connection,
    ):
        before = [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES]
        connection.execute("BEGIN IMMEDIATE")
        reproject(connection, SqliteProjections())
        connection.execute("COMMIT")
        after = [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES]
        assert after == before


@given(steps)
def test_every_event_can_be_looked_up_as_the_winner_of_its_time(history: list[Step]) -> None:
    """The log answers for every past offset what the entry table said then, ids included."""
    with (
        tempfile.TemporaryDirectory() as directory,
        log_with(Path(directory) / "log.db", history) as connection,
    ):
        reading = SqliteReading(connection)
        replayed = sqlite3.connect(":memory:", isolation_level=None)
        SqliteProjections().create(replayed)
        past: list[Recorded] = []
        for recorded in scan(reading):
            SqliteProjections().apply(replayed, recorded)
            past.append(recorded)
            for environment in ("prod", "dev"):
                for key in "abc":
                    then = projections.entry(replayed, environment, key)
                    winner = reading.winner(environment, key, cut_covering(past))
                    assert (then is None) == (winner is None)
                    if then is not None and winner is not None:
                        assert (then.offset, then.id) == (winner.offset, winner.entry_id)
        replayed.close()


def test_an_event_that_is_of_no_entry_is_passed_over() -> None:
    """A type of a newer oscd changes no table, whatever it names."""
    store = projected([bare_event(EventType.CREATED, "", "", None, 5)._replace(type="incarnation_began")])
    assert projections.totals(store) == Totals(0, b"\0" * 32, 0)
    assert store.execute("SELECT * FROM entries").fetchall() == []
    store.close()


def test_an_empty_log_has_empty_totals() -> None:
    """Nothing is counted where nothing was written, and the digest of nothing is zero."""
    store = projected([])
    assert projections.totals(store) == Totals(0, b"\0" * 32, 0)
    store.close()
