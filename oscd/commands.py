"""Owns the rules: a command and the current entry give a draft event, or a refusal.

Pure: no I/O, no clock, no cipher. Values arrive sealed, and whoever calls has made sure that the caller's key
opens the entry (`node.py`), because authorization is shown by decrypting and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from oscd.errors import AlreadyExists, NotFound, PreconditionFailed
from oscd.events.event import Body, Draft, EventRef, EventType, next_version
from oscd.projections.entry import Entry


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what they claim to be (`X-Actor`), and the address they ask from."""

    actor: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A value as it will be stored."""

    ciphertext: bytes
    event_id: bytes
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Preconditions:
    """`If-Match` and `If-None-Match` (RFC 9110 §13.1): entity tags, or `*`; None where not sent."""

    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None

    @property
    def creates(self) -> bool:
        """Whether the caller wants the entry to be new: `If-None-Match: *`, and no `If-Match` that contradicts."""
        return self.if_match is None and self.if_none_match is not None and "*" in self.if_none_match

    def require_absent(self) -> None:
        """Check them against an entry that does not exist.

        Raises:
            PreconditionFailed: One does not hold; nothing may be changed.
        """
        if self.if_match is not None:
            raise PreconditionFailed("If-Match: there is no such entry now.")

    def require(self, entry: Entry) -> None:
        """Check them against an entry that exists.

        Raises:
            PreconditionFailed: One does not hold; nothing may be changed.
        """
        tag = entry.tag
        if self.if_match is not None and not self.if_match & {tag, "*"}:
            raise PreconditionFailed("If-Match: the entry has changed since; read it again.")
        if self.if_none_match is not None and self.if_none_match & {tag, "*"}:
            raise PreconditionFailed("If-None-Match: the entry exists in that state.")


@dataclass(frozen=True, slots=True)
class Create:
    """Make an entry that does not exist."""

    environment: str
    key: str
    category: str | None
    sealed: Sealed
    caller: Caller


@dataclass(frozen=True, slots=True)
class Update:
    """Give an existing entry a new value.

    Attributes:
        category: None keeps the old one, "" removes it.
    """

    environment: str
    key: str
    category: str | None
    sealed: Sealed
    caller: Caller
    preconditions: Preconditions


@dataclass(frozen=True, slots=True)
class Delete:
    """End an existing entry.

    Attributes:
        event_id: 16 random bytes; a delete has them like any event, though it seals nothing.
        key_id: Whose key the caller showed.
    """

    environment: str
    key: str
    event_id: bytes
    key_id: bytes
    caller: Caller
    preconditions: Preconditions


@dataclass(frozen=True, slots=True)
class Rollback:
    """Give an entry the value and category of an older version, sealed anew; a deleted one begins a new life.

    Attributes:
        category: The version's; None where it had none.
    """

    environment: str
    key: str
    category: str | None
    sealed: Sealed
    caller: Caller
    preconditions: Preconditions


Command = Create | Update | Delete | Rollback


@dataclass(frozen=True, slots=True)
class Release:
    """End an entry whose user key is lost or somebody else's, as whoever holds the log's file may.

    Attributes:
        event_id: As in `Delete`.
    """

    environment: str
    key: str
    event_id: bytes


OPERATOR = Caller(actor="operator", address="local")
"""Who releases. No client can pass for it: a client's address is always that of a socket."""


def not_found(environment: str, key: str) -> NotFound:
    """The refusal of a command on an entry that does not exist."""
    return NotFound(f"Configuration '{key}' not found in environment '{environment}'")


def refuse_early(command: type[Command], environment: str, key: str, *, exists: bool, creates: bool) -> None:
    """What can be refused before a key is derived: whether the entry exists.

    Args:
        exists: Whether the entry is there and not deleted.
        creates: Whether an update may create it.

    Raises:
        AlreadyExists: A create of an entry that is there, whoever owns it.
        NotFound: Any other command on an entry that is not.
    """
    if command is Create and exists:
        raise AlreadyExists(f"Configuration '{key}' already exists in environment '{environment}'")
    if command is not Create and not exists and not creates:
        raise not_found(environment, key)


def decide(command: Command, current: Entry | None) -> Draft:
    """The event this command is, against the current entry or its tombstone.

    Raises:
        AlreadyExists, NotFound: As `refuse_early`.
        PreconditionFailed: The entry is not in the state the caller named.
    """
    live = current if current is not None and not current.deleted else None
    if isinstance(command, Rollback):
        return _rolled_back(command, live, None if current is None else current.winner)
    creates = isinstance(command, Update) and command.preconditions.creates
    refuse_early(type(command), command.environment, command.key, exists=live is not None, creates=creates)
    replaces = None if current is None else current.winner
    if live is None:
        assert not isinstance(command, Delete)
        return _created(command, replaces)
    assert not isinstance(command, Create)
    command.preconditions.require(live)
    if isinstance(command, Delete):
        return _deleted(command, live, key_id=command.key_id, caller=command.caller)
    return _updated(command, live)


def decide_release(command: Release, current: Entry | None) -> Draft:
    """The event a release is, against the current entry or its tombstone.

    Raises:
        NotFound: There is no such entry.
    """
    if current is None or current.deleted:
        raise not_found(command.environment, command.key)
    return _deleted(command, current, key_id=None, caller=OPERATOR)


def _rolled_back(command: Rollback, live: Entry | None, replaces: EventRef | None) -> Draft:
    if live is None:
        command.preconditions.require_absent()
        return _created(command, replaces)
    command.preconditions.require(live)
    return replace(_updated(command, live), category=command.category)


def _created(command: Create | Update | Rollback, replaces: EventRef | None) -> Draft:
    return valued(
        (command.environment, command.key),
        command.category,
        command.sealed,
        command.caller,
        replaces=replaces,
    )


def _updated(command: Update | Rollback, current: Entry) -> Draft:
    return valued(
        (command.environment, command.key),
        current.category if command.category is None else command.category,
        command.sealed,
        command.caller,
        replaces=current.winner,
        version=next_version(current.version),
        created_at=current.created_at,
    )


def valued(
    place: tuple[str, str],
    category: str | None,
    sealed: Sealed,
    caller: Caller,
    *,
    replaces: EventRef | None,
    version: int = 1,
    created_at: int | None = None,
    updated_at: int | None = None,
) -> Draft:
    """The event that gives an entry a value.

    Args:
        place: Environment and key.
        category: None and "" for none.
        version: 1 begins a life, any other goes on with one.
        created_at, updated_at: µs since 1970; None: when it is stamped.
    """
    environment, key = place
    return Draft(
        type=EventType.CREATED if version == 1 else EventType.UPDATED,
        environment=environment,
        key=key,
        category=category or None,
        version=version,
        created_at=created_at,
        updated_at=updated_at,
        event_id=sealed.event_id,
        key_id=sealed.key_id,
        replaces=replaces,
        body=Body(sealed.ciphertext, caller.actor, caller.address),
    )


def _deleted(command: Delete | Release, current: Entry, *, key_id: bytes | None, caller: Caller) -> Draft:
    return Draft(
        type=EventType.DELETED,
        environment=command.environment,
        key=command.key,
        category=current.category,
        version=next_version(current.version),
        created_at=current.created_at,
        event_id=command.event_id,
        key_id=key_id,
        replaces=current.winner,
        body=Body(None, caller.actor, caller.address),
    )
