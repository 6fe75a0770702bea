"""Owns what users do at a node, under two keys: creates, updates, moves, deletes, rollbacks, several at once.

All of it goes through the use cases of `oscd.node`, and what they let through is judged at once: no key may have
changed what another one owned (contract §2). Must not know how nodes meet.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, cast

from oscd.commands import Caller, Create, Preconditions, Sealed, Update, decide
from oscd.errors import NotAuthorized, RequestRefused
from oscd.events.cipher import Cipher
from oscd.events.event import EVENT_ID_BYTES, Draft
from oscd.events.keyring import KeyRing
from oscd.events.log import Writing
from oscd.feed.bell import Bell
from oscd.node import Node
from oscd.projections import sqlite as projections
from oscd.projections.entry import Entry
from oscd.values import open_in_transaction
from tests.simulator.ledger import Place
from tests.simulator.log import MemoryFileLog, at_once

ENVIRONMENTS: Final = ("blue", "green")
KEYS: Final = ("a", "b", "c")
CATEGORIES: Final = (None, "", "red", "yellow")
USERS: Final = ("key of alice", "key of bob")


class Keys:
    """The ciphers of the two users: real ones, of keys that nobody had to stretch."""

    def __init__(self) -> None:
        self._ciphers = {user: Cipher.of_derived(hashlib.sha256(user.encode()).digest()) for user in USERS}

    def recall(self, user_key: str) -> Cipher:
        """See `oscd.events.keyring.KeyRing`."""
        return self._ciphers[user_key]

    def remember(self, user_key: str, cipher: Cipher) -> None:
        """See `oscd.events.keyring.KeyRing`."""


CIPHERS: Final = Keys()

NOBODY: Final = Caller()
ANY: Final = Preconditions()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request: `created`, `updated`, …, or the name of the refusal."""

    kind: str
    refusal: str | None


def node_over(log: MemoryFileLog) -> Node:
    """The use cases over a log, for the two users."""
    return Node(log, cast("KeyRing", CIPHERS), Bell())


class Users:
    """Who asks one node for changes.

    Args:
        random: What they ask for.
    """

    def __init__(self, log: MemoryFileLog, random: Random) -> None:
        self._log = log
        self._random = random
        self._node = node_over(log)

    def ask(self) -> Outcome:
        """Ask for something.

        Raises:
            AssertionError: A key was let through that does not own the entry.
        """
        random = self._random
        place = (random.choice(ENVIRONMENTS), random.choice(KEYS))
        user = random.choice(USERS)
        before = projections.entry(self._log.reading().store, *place)
        kind, request = self._request(place, user, before)
        head = self._log.reading().head()
        try:
            request()
        except RequestRefused as refusal:
            assert self._log.reading().head() == head, "a refused request changed something"
            return Outcome(kind, type(refusal).__name__)
        if kind not in ("several", "create") and before is not None and not before.deleted:
            owner = before.key_id
            assert owner == CIPHERS.recall(user).key_id, f"{user} could {kind} what another key owns"
        if self._log.reading().head() > head:
            self._holds_what_it_wrote()
        return Outcome(kind, None)

    def _holds_what_it_wrote(self) -> None:
        """An acknowledged write is what its node answers with, whatever any clock says."""
        reading = self._log.reading()
        last = reading.event_at(reading.head())
        assert last is not None
        after = projections.entry(reading.store, last.event.environment, last.event.key)
        assert after is not None
        assert after.winner == last.event.ref, "an acknowledged write lost at once"

    def _request(self, place: Place, user: str, before: Entry | None) -> tuple[str, Callable[[], object]]:
        random, node = self._random, self._node
        value = b'"%d"' % random.randrange(1000)
        category = random.choice(CATEGORIES)
        chance = random.random()
        if chance < 0.15:
            return "several", lambda: self._several(user, value)
        if chance < 0.27:
            version = 1 if before is None else random.randint(1, before.version)
            return "rollback", lambda: at_once(node.rollback(*place, version, user, NOBODY, ANY))
        if before is None or before.deleted:
            return "create", lambda: at_once(node.create(*place, category, value, user, NOBODY))
        if chance < 0.45:
            return "delete", lambda: at_once(node.delete(*place, user, NOBODY, ANY))
        return "update", lambda: at_once(node.update(*place, category, value, user, NOBODY, ANY))

    def _several(self, user: str, value: bytes) -> None:
        """One write of two or three entries, as an import makes one of many."""
        places = self._random.sample(
            [(environment, key) for environment in ENVIRONMENTS for key in KEYS],
            self._random.randint(2, 3),
        )
        category = self._random.choice(CATEGORIES)

        def run(writing: Writing[sqlite3.Connection]) -> None:
            drafts = [self._draft(writing, place, user, category, value) for place in places]
            if wanted := [draft for draft in drafts if draft is not None]:
                writing.append(wanted)

        at_once(self._log.write(run, size=0))

    def _draft(
        self,
        writing: Writing[sqlite3.Connection],
        place: Place,
        user: str,
        category: str | None,
        value: bytes,
    ) -> Draft | None:
        cipher = CIPHERS.recall(user)
        event_id = self._random.randbytes(EVENT_ID_BYTES)
        sealed = Sealed(cipher.seal(*place, event_id, value), event_id, cipher.key_id)
        current = projections.entry(writing.store, *place)
        if current is None or current.deleted:
            return decide(Create(*place, category, sealed, NOBODY), current)
        try:
            open_in_transaction(cipher, current, writing)
        except NotAuthorized:
            return None
        return decide(Update(*place, category, sealed, NOBODY, ANY), current)
