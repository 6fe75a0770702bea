"""Owns the question of the start (invariant 9), as the steward puts it: what peers have answered, and for how long.

The rule is `continuation.decide`; what it says is written into the log, in the transaction that has found it, so that
no append comes between. Must not ask: the links do.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from oscd.events.log import EventLog, Reading, Writing
from oscd.events.position import Position
from oscd.events.standing import Own, Standing
from oscd.replication import continuation
from oscd.replication.claims import Claims
from oscd.replication.link import Link
from oscd.replication.sight import is_fork_of
from oscd.replication.states import LinkState

AGAIN_SECONDS: Final = 3600.0
"""A node that finds its own history contradicted begins anew at most so often: a lying peer must not make it do so
without end."""

LATE_SECONDS: Final = 60.0
"""So long after the answers a peer that has more of this node's events is asked for them. It may have been sent them
only then, by a run of another that was put back since; what is on its way longer than that was given up. Later it can
only be forged, and a node that runs must not take it for its own: its next write shows that as a fork."""


class Asking:
    """The question, from the election of the steward on.

    Args:
        links: Of all configured peers.
        claims: What these have heard of this node's own events.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        log: EventLog[sqlite3.Connection],
        links: Sequence[Link],
        claims: Claims,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._links = links
        self._claims = claims
        self._clock = clock
        self._asked_at = clock()
        self._begun_at = float("-inf")
        self._settled_at: float | None = None

    async def look(self) -> Own:
        """See how the question stands, and write down what has changed; gives what is true of this log now.

        Raises:
            Unavailable: The log cannot be read or written.
        """
        own = await self._log.read(lambda reading: reading.own())
        is_forked = any(is_fork_of(own.origin, link.sight.quarantined()) for link in self._links)
        if own.standing is Standing.CONTINUES:
            if is_forked and self._may_begin():
                self._begun_at = self._clock()
                return await self._log.write(partial(_begin, own=own), size=0)
            return await self._look_back(own)
        verdict = partial(
            _settle,
            positions=self._positions(),
            is_forked=is_forked,
            claimed=self._claims.greatest(own.origin.incarnation),
            is_over=self._has_passed(continuation.ASK_SECONDS),
            is_given_up=self._has_passed(continuation.ASK_SECONDS + continuation.RECOVER_SECONDS),
        )
        if await self._log.read(lambda reading: verdict(reading)) is own.standing:
            return own
        settled = await self._log.write(partial(_write_down, verdict=verdict), size=0)
        if settled.standing is Standing.CONTINUES and self._settled_at is None:
            self._settled_at = self._clock()
        return settled

    async def _look_back(self, own: Own) -> Own:
        """Ask again where a peer turns out to have had more of this node's events when all had answered."""
        named = self._claims.greatest(own.origin.incarnation)
        if named <= own.seq or self._settled_at is None or self._clock() - self._settled_at >= LATE_SECONDS:
            return own
        self._asked_at = self._clock()
        return await self._log.write(partial(_ask, own=own, named=named), size=0)

    def _positions(self) -> list[Position | None]:
        """Where each peer stands that was asked; None of one that has not answered, or is gone again."""
        return [
            link.sight.position if link.asked_as is not None and link.asked_as[1] else None
            for link in self._links
            if link.state is not LinkState.ITSELF
        ]

    def _may_begin(self) -> bool:
        return self._clock() - self._begun_at >= AGAIN_SECONDS

    def _has_passed(self, seconds: float) -> bool:
        return self._clock() - self._asked_at >= seconds


def _settle(
    reading: Reading[sqlite3.Connection],
    positions: Sequence[Position | None],
    *,
    is_forked: bool,
    claimed: int,
    is_over: bool,
    is_given_up: bool,
) -> Standing:
    own = reading.own()
    answers = [
        None if position is None else continuation.answer(reading, own, position) for position in positions
    ]
    if is_forked:
        # It may lie further back than what a position can show of a peer that is ahead.
        answers.append(continuation.Answer(own.seq, is_contradicted=True))
    return continuation.decide(own, answers, is_over=is_over, is_given_up=is_given_up, claimed=claimed)


def _write_down(
    writing: Writing[sqlite3.Connection], verdict: Callable[[Reading[sqlite3.Connection]], Standing]
) -> Own:
    writing.settle(verdict(writing))
    return writing.own()


def _begin(writing: Writing[sqlite3.Connection], own: Own) -> Own:
    """Begin a new incarnation with the next append, unless one was begun already."""
    if writing.own().origin == own.origin:
        writing.settle(Standing.BEGINS)
    return writing.own()


def _ask(writing: Writing[sqlite3.Connection], own: Own, named: int) -> Own:
    """Ask where this log ended, unless it has come as far as was named: peers are told of what is appended now."""
    now = writing.own()
    if now.origin == own.origin and now.seq < named:
        writing.settle(Standing.ASKING)
    return writing.own()
