"""The rules: what a command becomes, and when it is refused."""

from __future__ import annotations

import pytest

from oscd.commands import (
    Caller,
    Command,
    Create,
    Delete,
    Preconditions,
    Sealed,
    Update,
    decide,
    refuse_early,
)
from oscd.errors import AlreadyExists, NotFound, PreconditionFailed
from oscd.events.event import MAX_VERSION, EventRef, EventType, Origin
from oscd.projections.entry import Entry

SEALED = Sealed(b"token", b"i" * 16, b"k" * 16)
CALLER = Caller("ada", "10.0.0.1")
WINNER = EventRef(Origin("n", "00112233445566aa"), 7)
TAG = (b"e" * 16).hex()


def entry(*, deleted: bool = False, category: str | None = "db") -> Entry:
    return Entry(
        environment="prod",
        key="k",
        id=None if deleted else 3,
        category=category,
        version=4,
        created_at=1000,
        updated_at=2000,
        stamp=2000,
        winner=WINNER,
        offset=9,
        event_id=b"e" * 16,
        key_id=b"k" * 16,
        imported=False,
        deleted=deleted,
    )


def create(category: str | None = None) -> Create:
    return Create("prod", "k", category, SEALED, CALLER)


def update(category: str | None = None, preconditions: Preconditions | None = None) -> Update:
    return Update("prod", "k", category, SEALED, CALLER, preconditions or Preconditions())


def delete(preconditions: Preconditions | None = None) -> Delete:
    return Delete("prod", "k", b"d" * 16, b"k" * 16, CALLER, preconditions or Preconditions())


def test_a_create_begins_a_life_at_version_one() -> None:
    """A new entry is version 1 and replaces nothing; what it holds is what the caller sent."""
    draft = decide(create("db"), None)
    assert (draft.type, draft.version, draft.replaces, draft.created_at) == (EventType.CREATED, 1, None, None)
    assert (draft.category, draft.body.ciphertext, draft.body.actor) == ("db", b"token", "ada")


def test_a_create_after_a_delete_replaces_the_tombstone() -> None:
    """A re-created entry starts at version 1 again, and its event names the delete it was decided against."""
    draft = decide(create(), entry(deleted=True))
    assert (draft.version, draft.replaces, draft.created_at) == (1, WINNER, None)


def test_an_update_continues_the_life() -> None:
    """An update raises the version, keeps when the entry was created, and names what it replaces."""
    draft = decide(update(), entry())
    assert (draft.type, draft.version, draft.created_at) == (EventType.UPDATED, 5, 1000)
    assert draft.replaces == WINNER


def test_the_greatest_version_is_kept() -> None:
    """A peer may have claimed it of an entry; what is written next is still an event that every node takes."""
    greatest = entry()._replace(version=MAX_VERSION)
    assert [decide(command, greatest).version for command in (update(), delete())] == [MAX_VERSION] * 2


@pytest.mark.parametrize(("given", "becomes"), [(None, "db"), ("", None), ("web", "web")])
def test_the_category_is_kept_removed_or_set(given: str | None, becomes: str | None) -> None:
    """Contract §4: an absent category keeps the old one, an empty one removes it."""
    assert decide(update(given), entry()).category == becomes


def test_a_delete_carries_the_entrys_category_and_no_value() -> None:
    """Whoever follows a category hears of deletes in it; a delete seals nothing."""
    draft = decide(delete(), entry())
    assert (draft.type, draft.category, draft.version, draft.body.ciphertext) == (
        EventType.DELETED,
        "db",
        5,
        None,
    )


@pytest.mark.parametrize("current", [None, entry(deleted=True)])
@pytest.mark.parametrize("command", [update(), delete()])
def test_what_is_not_there_cannot_be_changed(command: Command, current: Entry | None) -> None:
    """Update and delete of an entry that never was, or is deleted: not found."""
    with pytest.raises(NotFound, match="'k' not found in environment 'prod'"):
        decide(command, current)


def test_what_is_there_cannot_be_created() -> None:
    """A duplicate create says "already exists", the words the published client looks for."""
    with pytest.raises(AlreadyExists, match="already exists"):
        decide(create(), entry())


def tags(*values: str) -> frozenset[str]:
    return frozenset(values)


@pytest.mark.parametrize(
    ("preconditions", "holds"),
    [
        (Preconditions(), True),
        (Preconditions(if_match=tags(TAG)), True),
        (Preconditions(if_match=tags("other", TAG)), True),
        (Preconditions(if_match=tags("*")), True),
        (Preconditions(if_match=tags("other")), False),
        (Preconditions(if_match=tags()), False),
        (Preconditions(if_none_match=tags("other")), True),
        (Preconditions(if_none_match=tags(TAG)), False),
        (Preconditions(if_none_match=tags("*")), False),
        (Preconditions(if_match=tags(TAG), if_none_match=tags(TAG)), False),
    ],
)
@pytest.mark.parametrize("make", [update, delete])
def test_preconditions_guard_the_entry(make: object, preconditions: Preconditions, *, holds: bool) -> None:
    """RFC 9110 §13.1: `If-Match` wants one of its tags, `If-None-Match` none of them."""
    command: Command = update(None, preconditions) if make is update else delete(preconditions)
    if holds:
        assert decide(command, entry()).replaces == WINNER
    else:
        with pytest.raises(PreconditionFailed):
            decide(command, entry())


@pytest.mark.parametrize("current", [None, entry(deleted=True)])
def test_if_none_match_star_creates(current: Entry | None) -> None:
    """A PUT with `If-None-Match: *` makes the entry where there is none, and only there."""
    draft = decide(update("web", Preconditions(if_none_match=tags("*"))), current)
    assert (draft.type, draft.version, draft.category) == (EventType.CREATED, 1, "web")
    with pytest.raises(PreconditionFailed):
        decide(update("web", Preconditions(if_none_match=tags("*"))), entry())


def test_not_found_comes_before_a_failed_precondition() -> None:
    """Contract §3: 404 before 412."""
    with pytest.raises(NotFound):
        decide(update(None, Preconditions(if_match=tags("other"))), None)


@pytest.mark.parametrize(
    ("command", "exists", "creates", "refused"),
    [
        (Create, True, False, AlreadyExists),
        (Create, False, False, None),
        (Update, False, False, NotFound),
        (Update, False, True, None),
        (Update, True, True, None),
        (Delete, False, False, NotFound),
        (Delete, True, False, None),
    ],
)
def test_what_existence_alone_decides(
    command: type[Command], refused: type[Exception] | None, *, exists: bool, creates: bool
) -> None:
    """What would be refused anyway is refused before a key is derived."""
    if refused is None:
        refuse_early(command, "prod", "k", exists=exists, creates=creates)
    else:
        with pytest.raises(refused):
            refuse_early(command, "prod", "k", exists=exists, creates=creates)
