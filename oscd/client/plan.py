"""Owns what an import would do to a node's entries, and doing exactly that.

Each step remembers the state it was made from, and is carried out only on that state (compare-and-swap). An import
never deletes. Must not know files or a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from oscd.client.documents import Item, item
from oscd.client.entries import Entry, Json
from oscd.client.errors import ClientError, Conflict, EntryMissing, Refusal, UsageRefused
from oscd.client.service import ANY, Filters, Service
from oscd.client.variables import Naming, text_of, value_of


class Effect(Enum):
    """What a step does."""

    CREATE = "created"
    CHANGE = "changed"
    KEEP = "kept"
    """The entry differs, and existing entries are not to be changed."""
    SAME = "unchanged"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one entry.

    Attributes:
        before: The entry as it was when the step was made; None where there was none.
    """

    item: Item
    before: Entry | None
    effect: Effect

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.effect in {Effect.CREATE, Effect.CHANGE}

    @property
    def name(self) -> str:
        """Which entry, for a person."""
        return f"{self.item.environment} {self.item.key}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done of a plan.

    Attributes:
        failed: The step that failed, after which nothing more was tried; None where none did.
        error: Why.
    """

    done: Sequence[Step]
    failed: Step | None = None
    error: ClientError | None = None
    left: Sequence[Step] = ()


def plan(service: Service, items: Iterable[Item], *, overwrite: bool) -> list[Step]:
    """Compare items with a node's entries. Nothing is written.

    Args:
        overwrite: Whether entries that exist may be changed.

    Raises:
        ClientError: As `Service.get`; that another user key owns one of the entries, says which.
    """
    return [_step(item, _read(service, item), overwrite=overwrite) for item in items]


def apply(service: Service, steps: Sequence[Step], told: Callable[[Step], None] = lambda _: None) -> Outcome:
    """Carry out a plan, step by step, up to the first that fails.

    Args:
        told: Called after each step that was carried out.
    """
    done: list[Step] = []
    writing = [step for step in steps if step.writes]
    for number, step in enumerate(writing):
        try:
            _write(service, step)
        except ClientError as error:
            return Outcome(done, step, error, writing[number + 1 :])
        done.append(step)
        told(step)
    return Outcome(done)


def items_of_variables(
    service: Service, found: Iterable[tuple[str, str]], environment: str, naming: Naming
) -> list[Item]:
    """Which entries variables are: those that an export would call so; else new ones, the prefix before their name.

    Raises:
        UsageRefused: Two entries are called so, or the API would not take one.
        ClientError: As `Service.entries`.
    """
    called: dict[str, list[Entry]] = {}
    for entry in service.entries(Filters(environment=environment, prefix=naming.prefix)):
        called.setdefault(naming.spelt(entry.key) or "", []).append(entry)
    return [_item(name, text, called.get(name, []), environment, naming) for name, text in found]


def _item(name: str, text: str, called: Sequence[Entry], environment: str, naming: Naming) -> Item:
    match called:
        case []:
            return item(naming.prefix + name, environment, None, text, name)
        case [entry] if text_of(entry.value) == text:
            return Item(entry.key, environment, None, entry.value)
        case [entry]:
            return item(entry.key, environment, None, value_of(text, entry.value), name)
        case _:
            keys = " and ".join(repr(entry.key) for entry in called)
            raise UsageRefused(f"{name} could be {keys}; narrow it with --prefix")


def _read(service: Service, item: Item) -> Entry | None:
    failure: Refusal
    try:
        return service.get(item.environment, item.key)
    except EntryMissing:
        return None
    except Refusal as refused:
        detail = f"{item.key!r} in {item.environment!r}: {refused.detail}"
        failure = type(refused)(refused.status, detail, refused.fields)
    raise failure


def _step(item: Item, before: Entry | None, *, overwrite: bool) -> Step:
    if before is None:
        return Step(item, before, Effect.CREATE)
    same_category = item.category is None or item.category == (before.category or "")
    if same_category and _exact(item.value) == _exact(before.value):
        return Step(item, before, Effect.SAME)
    return Step(item, before, Effect.CHANGE if overwrite else Effect.KEEP)


def _exact(value: Json) -> str:
    """A value such that 1, 1.0 and true differ, but not the order of an object's members."""
    return json.dumps(value, sort_keys=True)


def _write(service: Service, step: Step) -> None:
    item, before = step.item, step.before
    which = f"{item.key!r} in {item.environment!r}"
    failure: Refusal
    try:
        if before is None:
            service.put(item.environment, item.key, item.value, category=item.category, if_none_match=ANY)
        else:
            service.put(item.environment, item.key, item.value, category=item.category, if_match=before.tag)
        return
    except EntryMissing as missing:
        failure = Conflict(missing.status, f"{which} has been deleted since")
    except Conflict as conflict:
        since = "exists now" if before is None else "has been changed since"
        failure = Conflict(conflict.status, f"{which} {since}")
    raise failure
