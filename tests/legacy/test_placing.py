"""What becomes of a row, given what the log holds of its entry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oscd.events.event import EventRef, EventType, Origin
from oscd.legacy.placing import MAX_ID, Placing, Tally
from oscd.legacy.row import Row
from oscd.projections.entry import Entry

NOW = 1_000_000
ROW = Row(id=3, environment="prod", key="key", category=None, token=b"token", created_at=100, updated_at=200)


def held(stamp: int, *, deleted: bool = False) -> Entry:
    return Entry(
        environment="prod",
        key="key",
        id=None if deleted else 1,
        category=None,
        version=4,
        created_at=1,
        updated_at=stamp,
        stamp=stamp,
        winner=EventRef(Origin("node", "0" * 16), 4),
        offset=4,
        event_id=bytes(16),
        key_id=bytes(16),
        imported=False,
        deleted=deleted,
    )


def placing(*, last_id: int = 0, greatest_id: int = 3) -> Placing:
    return Placing(now=NOW, last_id=last_id, greatest_id=greatest_id)


def test_a_row_becomes_the_creation_of_its_entry() -> None:
    """Its own times, id and token; of nobody known, decided against nothing."""
    placed = placing()
    draft = placed.draft(ROW, None)
    assert draft is not None
    assert (draft.type, draft.version, draft.imported) == (EventType.CREATED, 1, True)
    assert (draft.created_at, draft.stamp, draft.entry_id) == (100, 200, 3)
    assert (draft.key_id, draft.replaces, draft.body.actor, draft.body.address) == (None, None, None, None)
    assert draft.body.ciphertext == b"token"
    assert placed.tally == Tally(added=1)


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("stamp", [200, 201])
def test_a_row_never_beats_a_newer_write_or_delete(stamp: int, deleted: bool) -> None:
    """What the log holds stands, at equal times too, and a delete is not undone by an older value."""
    placed = placing()
    assert placed.draft(ROW, held(stamp, deleted=deleted)) is None
    assert placed.tally == Tally(outdated=1)


def test_a_newer_row_takes_over_a_live_entry_which_keeps_its_id() -> None:
    """The later write stands, whichever system took it."""
    placed = placing(last_id=1)
    draft = placed.draft(ROW, held(199))
    assert draft is not None
    assert draft.entry_id is None
    assert placed.tally == Tally(replaced=1)


def test_a_newer_row_begins_a_new_life_after_a_delete() -> None:
    """The entry comes back under the row's id."""
    placed = placing(last_id=1)
    draft = placed.draft(ROW, held(199, deleted=True))
    assert draft is not None
    assert draft.entry_id == 3
    assert placed.tally == Tally(added=1)


def test_a_time_to_come_is_taken_as_now_and_beats_nothing() -> None:
    """A wrong clock of the original neither drives later stamps ahead nor outdoes a write that is there."""
    ahead = replace(ROW, created_at=NOW + 1, updated_at=NOW + 1)
    placed = placing()
    draft = placed.draft(ahead, None)
    assert draft is not None
    assert (draft.created_at, draft.stamp) == (NOW, NOW)
    assert placed.draft(ahead, held(1)) is None


def test_ids_the_log_has_given_are_not_given_again() -> None:
    """A taken id, and one no client could hold, give way to ids above every row's."""
    placed = placing(last_id=3, greatest_id=5)
    ids = []
    for row_id in (3, 4, MAX_ID + 1, 5, 0, -1):
        draft = placed.draft(replace(ROW, id=row_id), None)
        assert draft is not None
        ids.append(draft.entry_id)
    assert ids == [6, 4, 7, 5, 8, 9]
    assert placed.tally == Tally(added=6, renumbered=4)
