"""Owns what this node knows of one peer by its statuses: how far each is behind the other, its clock, forks.

Pure but for the clock that comes in. Must not know how statuses come, nor act on them.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from oscd.events.event import Origin
from oscd.events.log import Reading
from oscd.events.position import Position
from oscd.events.standing import Own, Standing
from oscd.projections.sqlite import totals
from oscd.replication import verify
from oscd.replication.compare import contradictions, lag
from oscd.replication.take import Held
from oscd.replication.wire import PeerStatus

_CLOCK_STATUSES: Final = 10
"""Statuses that an estimate of a peer's clock rests on; they come each second."""

_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """A status of a peer beside this log, as of one view of it.

    Attributes:
        lag_events: How many events of the peer's position are not here.
        is_synced: Whether positions and state digests are equal.
        has_diverged: Whether positions are equal and state digests are not.
        forks: Origins whose events are not the same there as here.
    """

    lag_events: int
    is_synced: bool
    has_diverged: bool
    forks: tuple[Held, ...]


def look(reading: Reading[sqlite3.Connection], status: PeerStatus) -> Look:
    """Compare a status with this log."""
    own = reading.position()
    is_level = own == status.position
    is_same = is_level and totals(reading.store).state.hex() == status.state
    forks = [
        Held(fork.origin, fork.seq, verify.fork(fork.seq))
        for fork in contradictions(reading, status.position)
    ]
    claimed = _claimed(reading.own(), status.position)
    return Look(
        lag(own, status.position),
        is_synced=is_same,
        has_diverged=is_level and not is_same,
        forks=tuple(forks if claimed is None else [*forks, claimed]),
    )


def _claimed(own: Own, position: Position) -> Held | None:
    """What a peer says this node has written and it has not; while it asks, that is what it may have forgotten."""
    theirs = position.marks.get(own.origin.incarnation)
    if own.standing is not Standing.CONTINUES or theirs is None or theirs.seq <= own.seq:
        return None
    return Held(own.origin, own.seq + 1, "the peer claims events of this node that it never wrote.")


class PeerClock:
    """How far the clock of a peer is ahead of ours, as far as one can tell from statuses that were on their way.

    A status that was delayed makes the clock seem slow, never fast, so the greatest of the last ones is the best.
    """

    def __init__(self) -> None:
        self._ahead: deque[int] = deque(maxlen=_CLOCK_STATUSES)

    def heard(self, theirs: int, ours: int, delay: int) -> None:
        """Take in one status.

        Args:
            theirs: Its `now`, µs since 1970.
            ours: Our clock when it came.
            delay: How long it is thought to have been on its way, µs: half the round trip.
        """
        self._ahead.append(theirs + delay - ours)

    def skew_seconds(self) -> float | None:
        """Its clock minus ours; None where it was never heard."""
        return max(self._ahead) / _SECOND if self._ahead else None


@dataclass(slots=True)
class Sight:
    """What is known of one peer.

    Attributes:
        node_id: Its name, once it was met …
        run: … and the word of its start, as of its last status.
        last_seen: µs since 1970.
        position: Where it stood at its last status of this stream; None without a stream.
        looked: The last comparison, likewise.
        lacking_since: µs since 1970 since when this log lacks events of it; None where it lacks none.
        entries: Live ones there.
        held: Origins of which nothing more is taken from it.
        clock: Its clock.
    """

    node_id: str | None = None
    run: str | None = None
    last_seen: int | None = None
    position: Position | None = None
    looked: Look | None = None
    lacking_since: int | None = None
    entries: int | None = None
    held: tuple[Held, ...] = ()
    clock: PeerClock | None = None

    def heard(self, status: PeerStatus, now: int, delay: int) -> None:
        """Take in a status."""
        if self.clock is None or self.position is None:
            self.clock = PeerClock()
        self.clock.heard(status.now, now, delay)
        self.node_id, self.run = status.node_id, status.run
        self.last_seen = now
        self.position = status.position
        self.entries = status.entries

    def compared(self, seen: Look, now: int) -> None:
        """Take in what the last status says beside this log."""
        self.looked = seen
        if seen.lag_events == 0:
            self.lacking_since = None
        elif self.lacking_since is None:
            self.lacking_since = now

    def lost(self) -> None:
        """There is no stream any more, so nothing more than its name is known."""
        self.position = self.looked = self.lacking_since = None

    def lag_seconds(self, now: int) -> float | None:
        """Since when this log lacks events of it."""
        if self.looked is None:
            return None
        return 0.0 if self.lacking_since is None else max(0, now - self.lacking_since) / _SECOND

    def skew_seconds(self) -> float | None:
        """Its clock minus ours, while there is a stream."""
        return None if self.clock is None or self.position is None else self.clock.skew_seconds()

    def quarantined(self) -> list[Held]:
        """Every origin of which the peer has what is not taken, each once."""
        forks = () if self.looked is None else self.looked.forks
        return list({one.origin.incarnation: one for one in (*self.held, *forks)}.values())


def is_fork_of(own: Origin, held: Iterable[Held]) -> bool:
    """Whether a peer has another event of this node under a number that it has used: it was put back and went on."""
    return any(one.origin == own and one.reason == verify.fork(one.seq) for one in held)
