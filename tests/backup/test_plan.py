"""What becomes of an entry of a backup, by what the log holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oscd.backup import plan as plan_module
from oscd.backup.document import BackedUp, Failure
from oscd.backup.plan import FOREIGN, NOTHING, TWICE, Plan, Standing
from oscd.commands import Caller, Sealed
from oscd.errors import BodyTooLarge
from oscd.events.event import Draft, EventRef, EventType, Origin
from oscd.projections.entry import Entry

NOW = 2_000
ENTRY = BackedUp(("e", "k"), "db", b"1", created_at=1_000, updated_at=1_500)
SEALED = Sealed(b"token", b"i" * 16, b"k" * 16)
CALLER = Caller("someone", "192.0.2.1")
LIVE = Entry(
    environment="e",
    key="k",
    id=7,
    category="old",
    version=4,
    created_at=10,
    updated_at=20,
    stamp=20,
    winner=EventRef(Origin("node", "aa" * 8), 9),
    offset=9,
    event_id=b"o" * 16,
    key_id=b"k" * 16,
    imported=False,
    deleted=False,
)
TOMBSTONE = LIVE._replace(id=None, deleted=True)


def drafted(entry: BackedUp, standing: Standing, *, overwrite: bool = False) -> Draft | None:
    plan = Plan(overwrite, NOW)
    (fit,) = plan.admit([entry])
    if not plan.decide(fit, standing):
        assert list(plan.drafts(CALLER)) == []
        return None
    plan.keep(fit.place, SEALED)
    (draft,) = plan.drafts(CALLER)
    return draft


@pytest.mark.parametrize(("standing", "replaces"), [(NOTHING, None), (Standing(TOMBSTONE), LIVE.winner)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_entry_that_is_not_there_is_created(
    standing: Standing, replaces: EventRef | None, overwrite: bool
) -> None:
    """As version 1 of a new life, with the times of the backup and a stamp and an id of now."""
    draft = drafted(ENTRY, standing, overwrite=overwrite)
    assert draft is not None
    assert (draft.type, draft.version, draft.replaces) == (EventType.CREATED, 1, replaces)
    assert (draft.environment, draft.key, draft.category) == ("e", "k", "db")
    assert (draft.created_at, draft.updated_at, draft.stamp, draft.entry_id) == (1_000, 1_500, None, None)
    assert (draft.event_id, draft.key_id, draft.imported) == (SEALED.event_id, SEALED.key_id, False)
    assert (draft.body.ciphertext, draft.body.actor, draft.body.address) == (b"token", "someone", "192.0.2.1")


def test_an_entry_of_the_caller_is_overwritten_where_asked_for() -> None:
    """By an update that keeps the backup's times and category."""
    draft = drafted(ENTRY, Standing(LIVE, opens=True), overwrite=True)
    assert draft is not None
    assert (draft.type, draft.version, draft.replaces) == (EventType.UPDATED, 5, LIVE.winner)
    assert (draft.created_at, draft.updated_at, draft.category) == (1_000, 1_500, "db")


@pytest.mark.parametrize(
    ("created_at", "updated_at", "overwritten", "expected"),
    [
        (None, None, False, (None, None)),
        (None, 5, False, (5, 5)),
        (5, None, False, (5, 5)),
        (5, 3_000, False, (5, NOW)),
        (3_000, 3_000, False, (NOW, NOW)),
        (None, None, True, (LIVE.created_at, None)),
    ],
)
def test_times_are_the_backups_and_none_is_of_the_future(
    created_at: int | None, updated_at: int | None, overwritten: bool, expected: tuple[int | None, int | None]
) -> None:
    """One that is not told is the other one, or now; a future one is now."""
    entry = replace(ENTRY, created_at=created_at, updated_at=updated_at)
    draft = drafted(entry, Standing(LIVE, opens=True) if overwritten else NOTHING, overwrite=True)
    assert draft is not None
    assert (draft.created_at, draft.updated_at) == expected


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_entry_of_another_key_has_failed(overwrite: bool) -> None:
    """Whatever was asked for."""
    plan = Plan(overwrite, NOW)
    assert not plan.decide(ENTRY, Standing(LIVE, opens=False))
    assert plan.failures == [Failure("e", "k", FOREIGN)]
    assert (plan.skipped, plan.ready) == (0, {})


def test_an_entry_of_the_caller_is_skipped_where_it_is_not_to_be_overwritten() -> None:
    """It is no failure."""
    plan = Plan(overwrite=False, now=NOW)
    assert not plan.decide(ENTRY, Standing(LIVE, opens=True))
    assert (plan.skipped, plan.ready, plan.failures) == (1, {}, [])


def test_the_second_of_two_has_failed() -> None:
    """The first one counts, even if it is skipped; an entry that is none counts for nothing but the total."""
    other = replace(ENTRY, place=("e", "other"))
    plan = Plan(overwrite=False, now=NOW)
    bad = Failure(None, None, "why")
    assert plan.admit([ENTRY, bad, ENTRY, other]) == [ENTRY, other]
    assert plan.admit([other]) == []
    assert plan.failures == [bad, Failure("e", "k", TWICE), Failure("e", "other", TWICE)]
    assert plan.total == 5


@pytest.mark.parametrize(
    ("standing", "overwrite", "left"),
    [
        (NOTHING, False, 1),
        (Standing(TOMBSTONE), False, 1),
        (Standing(LIVE, opens=True), True, 1),
        (Standing(LIVE, opens=True), False, 0),
        (Standing(LIVE), True, 0),
    ],
)
def test_what_changed_meanwhile_is_decided_anew(standing: Standing, overwrite: bool, left: int) -> None:
    """By the same rules; what is not imported any more takes no room, and is counted once."""
    plan = Plan(overwrite, NOW)
    plan.decide(ENTRY, NOTHING)
    plan.keep(ENTRY.place, SEALED)
    size = plan.size
    plan.decide_anew(ENTRY.place, standing)
    assert plan.size == left * size
    assert [draft.replaces for draft in plan.drafts(CALLER)] == [
        None if standing.entry is None else standing.entry.winner
    ] * left
    assert left + plan.skipped + len(plan.failures) == 1


def test_a_backup_of_too_many_entries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 10: those that failed and those that come twice count like any other."""
    monkeypatch.setattr(plan_module, "MAX_ENTRIES", 3)
    plan = Plan(overwrite=False, now=NOW)
    plan.admit([ENTRY, ENTRY, Failure(None, None, "why")])
    with pytest.raises(BodyTooLarge, match="hold 3 entries; make one of each environment or category"):
        plan.admit([Failure(None, None, "why")])
