"""Imports: exactly what was shown is done, on exactly the state it was shown for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from oscd.client.documents import Item
from oscd.client.errors import AccessRefused, Conflict, UsageRefused
from oscd.client.plan import Effect, apply, items_of_variables, plan
from oscd.client.service import ANY, Filters, Service
from oscd.client.target import Target
from oscd.client.variables import Naming
from tests.support.node import OTHER_USER_KEY, USER_KEY, RunningNode

_numbers = itertools.count()


@pytest.fixture
def service(shared_node: RunningNode) -> Iterator[Service]:
    with Service(Target(shared_node.base_url, user_key=USER_KEY.encode())) as service:
        yield service


@pytest.fixture
def place() -> str:
    """An environment of this test alone."""
    return f"plan-{next(_numbers)}"


def held(service: Service, environment: str) -> dict[str, object]:
    return {entry.key: entry.value for entry in service.entries(Filters(environment))}


def test_a_plan_says_what_it_would_do_and_does_nothing(service: Service, place: str) -> None:
    """New, differing and equal entries are told apart; 1 and true differ, the order of members does not count."""
    for key, value in {"same": {"a": 1, "b": 2}, "kind": 1, "differs": "x"}.items():
        service.put(place, key, value, if_none_match="*")
    items = [
        Item("same", place, None, {"b": 2, "a": 1}),
        Item("kind", place, None, True),
        Item("differs", place, None, "y"),
        Item("new", place, None, None),
    ]
    before = held(service, place)
    effects = [step.effect for step in plan(service, items, overwrite=True)]
    assert effects == [Effect.SAME, Effect.CHANGE, Effect.CHANGE, Effect.CREATE]
    kept = [step.effect for step in plan(service, items, overwrite=False)]
    assert kept == [Effect.SAME, Effect.KEEP, Effect.KEEP, Effect.CREATE]
    assert held(service, place) == before


def test_categories_are_part_of_an_entry(service: Service, place: str) -> None:
    """A file that says none takes it away, one that does not say it leaves it."""
    service.put(place, "a", 1, category="db", if_none_match="*")
    assert plan(service, [Item("a", place, None, 1)], overwrite=True)[0].effect is Effect.SAME
    steps = plan(service, [Item("a", place, "", 1)], overwrite=True)
    assert steps[0].effect is Effect.CHANGE
    assert apply(service, steps).error is None
    assert service.get(place, "a").category is None


def test_an_entry_changed_between_is_not_overwritten(service: Service, place: str) -> None:
    """The conflict stops the import; what was done, what failed and what was not tried are told."""
    for key in "abc":
        service.put(place, key, "old", if_none_match="*")
    steps = plan(service, [Item(key, place, None, "new") for key in "abc"], overwrite=True)
    service.put(place, "b", "theirs")
    outcome = apply(service, steps)
    assert isinstance(outcome.error, Conflict)
    assert [step.item.key for step in outcome.done] == ["a"]
    assert outcome.failed is steps[1]
    assert outcome.left == [steps[2]]
    assert held(service, place) == {"a": "new", "b": "theirs", "c": "old"}


@pytest.mark.parametrize("key", ["created", "deleted"])
def test_an_entry_that_came_or_went_between_is_a_conflict(service: Service, place: str, key: str) -> None:
    """Neither is one overwritten that was not there, nor one made again that was deleted."""
    if key == "deleted":
        service.put(place, key, "old", if_none_match="*")
    steps = plan(service, [Item(key, place, None, "new")], overwrite=True)
    if key == "deleted":
        service.delete(place, key)
    else:
        service.put(place, key, "theirs", if_none_match="*")
    after = held(service, place)
    assert isinstance(apply(service, steps).error, Conflict)
    assert held(service, place) == after


def test_an_entry_of_another_key_is_refused_before_anything(
    shared_node: RunningNode, service: Service, place: str
) -> None:
    """It is named, and nothing is written."""
    with Service(Target(shared_node.base_url, user_key=OTHER_USER_KEY.encode())) as other:
        other.put(place, "theirs", 1, if_none_match="*")
    with pytest.raises(AccessRefused, match="'theirs'"):
        plan(service, [Item("mine", place, None, 1), Item("theirs", place, None, 2)], overwrite=True)
    assert held(service, place) == {}


def test_names_of_variables_find_their_entries(service: Service, place: str) -> None:
    """A name is the entry that an export would call so, whose kind of value stays; else it is a new key."""
    service.put(place, "app/db-port", 5432, if_none_match="*")
    service.put(place, "app/flag", "1", if_none_match="*")
    found = [("DB_PORT", "5433"), ("FLAG", "1"), ("NEW", "2")]
    assert items_of_variables(service, found, place, Naming("app/")) == [
        Item("app/db-port", place, None, 5433),
        Item("app/flag", place, None, "1"),
        Item("app/NEW", place, None, "2"),
    ]


def test_a_name_of_two_entries_is_refused(service: Service, place: str) -> None:
    """Both are named."""
    for key in ("a/b", "a-b"):
        service.put(place, key, 1, if_none_match="*")
    with pytest.raises(UsageRefused, match=r"A_B could be 'a-b' and 'a/b'"):
        items_of_variables(service, [("A_B", "2")], place, Naming())


def test_a_variable_that_no_node_takes_stops_all(service: Service, place: str) -> None:
    """As in a document, what could not be stored is refused by its name before anything is written."""
    with pytest.raises(UsageRefused, match=f"^{'N' * 300}: key: "):
        items_of_variables(service, [("GOOD", "1"), ("N" * 300, "1")], place, Naming())
    service.put(place, "number", 1, if_none_match=ANY)
    with pytest.raises(UsageRefused, match=r"^NUMBER: .*nested too deeply"):
        items_of_variables(service, [("NUMBER", "[" * 65 + "]" * 65)], place, Naming())
