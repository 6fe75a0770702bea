"""Lists against a model: whatever happened before and after the cut, pages show exactly the state at it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from oscd import listing
from oscd.events.event import Body, Draft, EventType
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.listing import START, Filters, entries_of_page
from oscd.projections.sqlite import SqliteProjections
from tests.support.cuts import cut_covering

# Few names, so that histories meet; with what SQL, sorting or prefixes might trip over.
NAMES = ["%", "A", "_", "a", "a%", "a/", "aa", "é", "\uffff", "\U0001f512"]
ENVIRONMENTS = ["E", "e", "é"]
OWNERS = [b"owner-1", b"owner-2", None]

State = dict[tuple[str, str], tuple[str | None, bytes | None, bytes]]
"""Place → category, owner and value of each live entry."""

places = st.tuples(st.sampled_from(ENVIRONMENTS), st.sampled_from(NAMES))
steps = st.tuples(
    places,
    st.sampled_from(["put", "put", "put", "delete"]),
    st.sampled_from([None, "c", "d"]),
    st.sampled_from(OWNERS),
)
histories = st.lists(steps, max_size=40)
filters = st.builds(
    Filters,
    environment=st.none() | st.sampled_from([*ENVIRONMENTS, "none"]),
    category=st.none() | st.sampled_from(["c", "d"]),
    prefix=st.just("") | st.sampled_from([*NAMES, "a/b", "b"]),
)
page_bounds = st.tuples(st.integers(1, 5), st.integers(1, 100))


class History:
    """A log in memory, and the state after each offset as plain dictionaries."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        projections = SqliteProjections()
        schema.migrate(connection)
        projections.create(connection)
        ticks = count(1)
        self.writing = SqliteWriting(
            connection,
            origin=schema.begin_own_origin(connection, "tested"),
            projections=projections,
            clock=lambda: next(ticks),
        )
        self.states: list[State] = [{}]

    def take(self, step: tuple[tuple[str, str], str, str | None, bytes | None]) -> None:
        """Append what a step means now; a delete of nothing is none."""
        (environment, key), what, category, owner = step
        state = dict(self.states[-1])
        exists = (environment, key) in state
        if what == "delete" and not exists:
            return
        number = len(self.states)
        value = b"%d" % number
        if what == "delete":
            del state[environment, key]
            kind = EventType.DELETED
        else:
            state[environment, key] = (category, owner, value)
            kind = EventType.UPDATED if exists else EventType.CREATED
        self.writing.append(
            [
                Draft(
                    type=kind,
                    environment=environment,
                    key=key,
                    category=category,
                    version=number,
                    created_at=None,
                    event_id=number.to_bytes(16),
                    key_id=owner,
                    replaces=None,
                    body=Body(None if what == "delete" else value),
                )
            ]
        )
        self.states.append(state)


@pytest.fixture(autouse=True)
def _small_views() -> Iterator[None]:
    """Let one view examine few rows, so that the bound is met in each example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "MAX_EXAMINED", 4)
        yield


def expected(state: State, filters: Filters, owner: bytes | None) -> list[tuple[tuple[str, str], bytes]]:
    return [
        (place, value)
        for place, (category, key_id, value) in sorted(state.items())
        if filters.environment in {None, place[0]}
        and filters.category in {None, category}
        and place[1].startswith(filters.prefix)
        and (owner is None or key_id is None or key_id == owner)
    ]


@settings(max_examples=250, deadline=None)
@given(
    before=histories,
    during=st.lists(st.lists(steps, max_size=4), max_size=20),
    filters=filters,
    bounds=page_bounds,
    owner=st.sampled_from(OWNERS),
)
def test_pages_are_the_state_at_the_cut(
    before: list[tuple[tuple[str, str], str, str | None, bytes | None]],
    during: list[list[tuple[tuple[str, str], str, str | None, bytes | None]]],
    filters: Filters,
    bounds: tuple[int, int],
    owner: bytes | None,
) -> None:
    """Invariant 10: pages with writes between them are the replayed state at the first one's head."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        history = History(connection)
        for step in before:
            history.take(step)
        cut = len(history.states) - 1
        disturbances = iter(during)
        found: list[tuple[tuple[str, str], bytes]] = []
        after: tuple[str, str] | None = START
        at = SqliteReading(connection).cut_at_head()
        pages = 0
        while after is not None:
            page = entries_of_page(SqliteReading(connection), filters, after, at, bounds, key_id=owner)
            assert len(page.found) <= bounds[0]
            assert page.cut == at
            assert page.next_after is None or page.next_after > after
            for entry, body in page.found:
                assert body is not None
                assert body.ciphertext is not None
                found.append(((entry.environment, entry.key), body.ciphertext))
            after, pages = page.next_after, pages + 1
            for step in next(disturbances, ()):
                history.take(step)
        assert found == expected(history.states[cut], filters, owner)
        event(f"pages: {min(pages, 5)}")
        event(f"changed while read: {history.states[-1] != history.states[cut]}")


@settings(max_examples=100, deadline=None)
@given(history=histories, data=st.data(), filters=filters)
def test_any_earlier_position_can_be_listed(
    history: list[tuple[tuple[str, str], str, str | None, bytes | None]],
    data: st.DataObject,
    filters: Filters,
) -> None:
    """A list cut at any position of the past is what replaying the log up to there gives."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        replayed = History(connection)
        for step in history:
            replayed.take(step)
        cut = data.draw(st.integers(0, len(replayed.states) - 1))
        reading = SqliteReading(connection)
        at = cut_covering(reading.events(0, cut) if cut else [])
        found: list[tuple[tuple[str, str], bytes]] = []
        after: tuple[str, str] | None = START
        while after is not None:
            page = entries_of_page(reading, filters, after, at, (2, 1000))
            found += [((e.environment, e.key), (body and body.ciphertext) or b"") for e, body in page.found]
            after = page.next_after
        assert found == expected(replayed.states[cut], filters, None)
