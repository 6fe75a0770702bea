"""Owns how a cluster gets its one salt.

A node whose log is empty and that has none asks every peer that its operator named. Who has one gives it; where all
of them have answered that they have none, the node that comes first by name makes it, and the others wait for that.
So two salts are made only where two nodes were not told of each other. Must not replace a salt, and takes none that
was not asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused, Unavailable
from oscd.events.cipher import SALT_BYTES
from oscd.events.event import is_node_id
from oscd.events.salt import keep_salt, load_salt, salt_digest
from oscd.replication.calls import Answer, Calls
from oscd.replication.peers import NODE_HEADER, RUN_HEADER
from oscd.replication.trouble import PeerTrouble

_log = logging.getLogger("oscd.cluster")

PATH: Final = "/cluster/salt"
FIRST_PAUSE_SECONDS: Final = 0.25
MOST_PAUSE_SECONDS: Final = 1.0
"""Between two rounds; the pause doubles."""


@dataclass(frozen=True, slots=True)
class Has:
    """A peer has this salt."""

    peer: str
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HasNone:
    """A peer has no salt yet; it is this node itself where both words are."""

    peer: str
    node_id: str
    run: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is not known whether a peer has one, and why."""

    peer: str
    reason: str


Answered = Has | HasNone | Unknown


@dataclass(frozen=True, slots=True)
class Keep:
    """There is a salt; keep it."""

    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Make:
    """There is none anywhere, and it is for this node to make it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again: for whom this node waits, and why, as a sentence."""

    reason: str


Verdict = Keep | Make | Wait


def decide(node_id: str, run: str, answers: Sequence[Answered]) -> Verdict:
    """What a node without a salt does next.

    Args:
        node_id: Its own.
        run: The word of its own start.
        answers: One of each configured peer.
    """
    salts = {answer.salt: answer.peer for answer in answers if isinstance(answer, Has)}
    if len(salts) > 1:
        first, second = sorted(salts.values())[:2]
        return Wait(
            f"{first} and {second} have different salts, so they are not of one cluster; take one of them out of"
            " OSC_CLUSTER_NODES."
        )
    if salts:
        (salt,) = salts
        return Keep(salt)
    unknown = [f"{answer.peer} ({answer.reason})" for answer in answers if isinstance(answer, Unknown)]
    if unknown:
        return Wait(f"It waits for {', '.join(unknown)}.")
    others = [answer for answer in answers if isinstance(answer, HasNone) and answer.run != run]
    first_of_all = min(others, key=lambda other: other.node_id, default=None)
    if first_of_all is None or node_id < first_of_all.node_id:
        return Make()
    if any(other.node_id == node_id for other in others):
        return Wait(f"Another node is called {node_id} too; give one of them another OSC_CLUSTER_NODE_ID.")
    return Wait(
        f"It waits for {first_of_all.peer} ({first_of_all.node_id}), which comes first by name, to make it."
    )


class Salts:
    """Gets the salt of a node that has none.

    Args:
        path: Where it is kept.
        note: Notes its digest in the log, before the file is there; False where the log is not empty any more.
        peers: Every configured one.
    """

    def __init__(
        self,
        path: Path,
        note: Callable[[bytes], Awaitable[bool]],
        peers: Iterable[Calls],
        *,
        node_id: str,
        run: str,
    ) -> None:
        self._path = path
        self._note = note
        self._peers = tuple(peers)
        self._node_id = node_id
        self._run = run

    async def obtain(self, waits: Callable[[str], None]) -> bytes:
        """Load, fetch or make the salt; lasts until there is one.

        Args:
            waits: Told for whom this node waits, each time it is somebody else.
        """
        said, pause = "", FIRST_PAUSE_SECONDS
        while True:
            try:
                found = await self._here() or await self._elsewhere()
                if isinstance(found, bytes):
                    return found
                reason = found.reason
            except (StartRefused, Unavailable) as trouble:
                reason = str(trouble)
            if reason != said:
                said = reason
                waits(f"This node has no salt yet. {said}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)

    async def _here(self) -> bytes | None:
        """The salt of the file, where somebody has put one there."""
        if not await asyncio.to_thread(os.path.lexists, self._path):
            return None
        salt = await asyncio.to_thread(load_salt, self._path)
        await self._noted(salt)
        return salt

    async def _elsewhere(self) -> bytes | Wait:
        """The salt of the cluster, kept now; or for whom to wait."""
        verdict = decide(self._node_id, self._run, await asyncio.gather(*map(_asked, self._peers)))
        if isinstance(verdict, Wait):
            return verdict
        salt = verdict.salt if isinstance(verdict, Keep) else os.urandom(SALT_BYTES)
        # First the note: no value may be sealed under a salt that the log does not know.
        await self._noted(salt)
        await asyncio.to_thread(keep_salt, self._path, salt)
        _log.info("the salt of the cluster was %s", "taken" if isinstance(verdict, Keep) else "made")
        return salt

    async def _noted(self, salt: bytes) -> None:
        if not await self._note(salt_digest(salt)):
            raise StartRefused("The log has events that another salt belongs to; restore that one.")


async def _asked(calls: Calls) -> Answered:
    peer = calls.peer.name
    try:
        return _read(calls, await calls.ask(PATH))
    except PeerTrouble as trouble:
        return Unknown(peer, str(trouble))


def _read(calls: Calls, answer: Answer) -> Answered:
    peer = calls.peer.name
    if answer.status == 200:
        if len(answer.content) == SALT_BYTES:
            return Has(peer, answer.content)
        return Unknown(peer, f"it gives something that is not a salt of {SALT_BYTES} bytes")
    node_id, run = (answer.headers.get(name.lower(), "") for name in (NODE_HEADER, RUN_HEADER))
    # For whom this node waits is told to anybody who asks `/ready`.
    is_named = all(is_node_id(word) and not calls.holds_key(word) for word in (node_id, run))
    if answer.status == 204 and is_named:
        return HasNone(peer, node_id, run)
    return Unknown(peer, "it does not say who it is: is it a node of this version?")
