"""What an entry was: versions as a person names them, found in its history.

Owns: which version a number, a position or nothing means. Must not know a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from oscd.client.entries import Entry, Json, Version
from oscd.client.errors import UsageRefused, VersionMissing, VersionSealed
from oscd.client.moment import is_position
from oscd.client.service import Service

Name = int | str
"""A version's number, or a position."""


@dataclass(frozen=True, slots=True)
class State:
    """What an entry was, opened.

    Attributes:
        exists: False where it was deleted, and there is no value.
    """

    version: int
    timestamp: str
    position: str
    category: str | None
    exists: bool
    value: Json = field(default=None, repr=False)


def version_name(text: str) -> Name:
    """What a person calls a version: `3` or `v3` is its number, `A…` a position.

    Raises:
        UsageRefused: It is neither.
    """
    digits = text.removeprefix("v")
    if digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    if not is_position(text):
        raise UsageRefused(
            f"{text[:80]!r} names no version; accepted is a number or a position, of `oscd history`"
        )
    return text


def current(entry: Entry) -> State:
    """An entry as it stands, or stood at a position."""
    return State(
        entry.version, entry.updated_at, entry.position or "", entry.category, exists=True, value=entry.value
    )


def named(service: Service, environment: str, key: str, name: Name) -> State:
    """The state that a name means.

    A number means the newest version of it that was not superseded, and that has a value if there is one: each life
    of an entry counts anew. A position means the very version that has it, else the entry as it stood there.

    Raises:
        VersionMissing, EntryMissing: There is none.
        VersionSealed, AccessRefused: The user key does not open it.
    """
    deleted: Version | None = None
    for version in service.history(environment, key, values=True):
        if version.position == name or (version.version == name and not version.superseded):
            if version.type != "deleted":
                return _opened(version)
            deleted = deleted or version
    if deleted is not None:
        return _opened(deleted)
    if isinstance(name, int):
        raise VersionMissing(
            f"'{key}' in {environment} has no version {name}; `oscd history` lists those there are"
        )
    return current(service.get(environment, key, at=name))


def standing(service: Service, environment: str, key: str) -> Iterator[State]:
    """What the entry is, what it was before, and so on; without what was superseded.

    Raises:
        EntryMissing: There never was such an entry.
        VersionSealed: The user key does not open the next.
    """
    for version in service.history(environment, key, values=True):
        if not version.superseded:
            yield _opened(version)


def _opened(version: Version) -> State:
    exists = version.type != "deleted"
    if exists and not version.opened:
        raise VersionSealed(
            f"version {version.version} of {version.timestamp}: this user key does not open it"
        )
    return State(
        version.version, version.timestamp, version.position, version.category, exists, version.value
    )
