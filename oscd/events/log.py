"""Owns the port of the event log: what commands, projections and later readers may ask of any log.

`tests/events/log_contract.py` is the executable form of these docstrings, run on every implementation.
A log sees bytes and positions; it never decrypts. Must not import a sibling folder: what an event does to a
projection comes in as `Projections`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oscd.errors import LogCorrupt
from oscd.events.cut import Cut
from oscd.events.event import Body, Change, Draft, Event, Origin, Recorded
from oscd.events.foreign import Foreign, OriginTip, Raw
from oscd.events.position import Mark, Position, mark
from oscd.events.standing import Own, Standing

Store = TypeVar("Store")
StoreIn = TypeVar("StoreIn", contravariant=True)
StoreOut = TypeVar("StoreOut", covariant=True)
Result = TypeVar("Result")

MicrosecondClock = Callable[[], int]


class Projections(Protocol[StoreIn]):
    """What every event is applied to, in the transaction that appends it (invariant 3)."""

    @property
    def version(self) -> int:
        """Number of the tables' layout; a log that was projected by another number is projected anew."""

    def create(self, store: StoreIn) -> None:
        """Make empty projections; drop what was there."""

    def apply(self, store: StoreIn, recorded: Recorded) -> None:
        """Apply one event. Depends on the projections' own state and the event only, never on a clock."""

    def apply_all(self, store: StoreIn, recorded: Sequence[Recorded]) -> None:
        """Apply events that follow each other in the log; leaves what `apply` of one after the other leaves."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where an event stands in a log, and its chain digest."""

    offset: int
    digest: bytes


class Reading(Protocol[StoreOut]):
    """One consistent view of the log and its projections. Valid only inside the function it was given to."""

    @property
    def store(self) -> StoreOut:
        """Where the projections live."""

    def head(self) -> int:
        """Offset of the last event, 0 in an empty log."""

    def position(self) -> Position:
        """Where a reader of everything stands."""

    def find(self, incarnation: str, seq: int) -> Found | None:
        """Where the `seq`-th event of an origin stands; None where this log has not got it."""

    def events(self, after: int, limit: int) -> Sequence[Recorded]:
        """The events with `offset > after`, in order, at most `limit` of them; fewer where they are large."""

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """The events with `offset > after`, in order, at most `limit` of them, each with the one it met.

        No body is read.
        """

    def met(self, environment: str, key: str, before: int, ahead: Mapping[str, int]) -> Event | None:
        """The greatest-stamped event of an entry among those a reader has been told.

        Args:
            before: It was told every event with a smaller offset …
            ahead: … and of these origins (by incarnation) every event up to that seq.
        """

    def event_at(self, offset: int) -> Recorded | None:
        """The event at `offset`."""

    def body_at(self, offset: int, *, at_most: int | None = None) -> Body | None:
        """The body of the event at `offset`.

        None where there is no such event, its body was removed, or it has more than `at_most` bytes.
        """

    def winner(self, environment: str, key: str, cut: Cut) -> Recorded | None:
        """The greatest-stamped event of an entry among those the cut covers."""

    def versions(
        self, environment: str, key: str, cut: Cut, before: Event | None, limit: int
    ) -> Sequence[tuple[int, Event]]:
        """The events of an entry that the cut covers with their offsets, the greatest-stamped first.

        Args:
            before: Only those of less precedence than this one; None: all.
            limit: How many at most.
        """

    def raw(self, after: int, limit: int) -> Sequence[Raw]:
        """The events with `offset > after` as they are stored, at most `limit`; fewer where they are large."""

    def tip_of(self, incarnation: str) -> OriginTip | None:
        """Where the chain of an origin ends here; None where this log has never heard of it."""

    def origin_count(self) -> int:
        """How many origins this log knows, its own among them."""

    def own(self) -> Own:
        """What this log knows of the origin it appends to."""

    def runs(self) -> Mapping[str, str]:
        """By node id, the latest run of other nodes that this log has noted (`Writing.fence`)."""

    def writes_held(self) -> str | None:
        """Why every append is refused now (`Writing.hold_writes`); None where none is for that reason."""

    def cut_at_head(self) -> Cut:
        """What covers every event of this log."""

    def cut_of(self, position: Position) -> Cut | None:
        """What a position covers; None where this log does not hold all of it, or it stands within a write."""

    def cut_upto(self, stamp: int) -> Cut:
        """What covers the events stamped up to then, without a write whose last event is stamped later."""

    def cut_naming(self, event: Event) -> Cut:
        """What covers an event, the rest of its write, and what stands before it in precedence.

        Of the entry's events that the cut covers, the event itself is the winner: no write has two events of one
        entry.
        """


class Writing(Reading[StoreOut], Protocol[StoreOut]):
    """A view that can append. All of it commits with the batch it runs in, or nothing does."""

    @property
    def origin(self) -> Origin:
        """The origin whose events this log writes itself."""

    def append(self, drafts: Sequence[Draft]) -> Sequence[Recorded]:
        """Append the events of one write, in order, and apply each to the projections.

        Offsets and seqs continue without a gap (invariants 1 and 2); each stamp is
        `max(now, greatest stamp in the log + 1)`, for an imported row `max(its own, the origin's last + 1)`. Where
        the log's standing is `begins`, a new incarnation is begun first.

        Raises:
            Unavailable: Writes are held, the log's standing is `asking` (invariant 9), or this would be the first
                event of an origin that is one too many for other nodes (`oscd.events.origins`).
        """

    def append_many(self, drafts: Iterable[Draft], count: int) -> None:
        """Append the events of one write, as `append` does, without holding more than a page of them.

        Args:
            drafts: Taken once, in order.
            count: How many they are: the first event names the last one of its write.

        Raises:
            ValueError: They are more or fewer. The write must be given up then.
            Unavailable: As `append`.
        """

    def ingest(self, events: Iterable[Foreign]) -> int:
        """Take in whole writes that other logs wrote first, and apply each event to the projections.

        They get offsets and entry ids of this log and meet what it holds; their seqs, stamps and digests stay. No
        more than a page of them is held.

        Args:
            events: Taken once, in order; verified.

        Raises:
            ValueError: One is not the next of its origin here (invariant 2). All must be given up then.
        """

    def settle(self, standing: Standing) -> None:
        """Say whether this log may append to its origin (invariant 9)."""

    def fence(self, node_id: str, run: str, members: Collection[str] = ()) -> None:
        """Note the latest run of another node: what an older one still has on its way is not taken any more.

        Where `oscd.events.runs.MAX_RUNS` nodes are known, one is forgotten: that which was noted longest ago of
        those that have no event here and are no member.

        Args:
            members: Node ids of the cluster, as far as they are known.

        Raises:
            Unavailable: The log remembers as many nodes as it may, and none of them may be forgotten.
        """

    def hold_writes(self, reason: str | None) -> None:
        """Refuse appends with that reason until it is None again."""


class EventLog(Protocol[StoreOut]):
    """An append-only log of events with the projections that follow it."""

    async def read(self, function: Callable[[Reading[StoreOut]], Result], *, size: int = 0) -> Result:
        """Run `function` on a view that holds every write acknowledged before the call.

        Args:
            function: Reads; must be short, as others wait for the same view.
            size: Bytes it will return, so that what one view returns stays bounded; 0 for a few.

        Raises:
            Unavailable: The log cannot be read right now.
            RequestRefused: Whatever `function` raises passes through.
        """

    async def write(self, function: Callable[[Writing[StoreOut]], Result], *, size: int) -> Result:
        """Run `function` in the write transaction and answer after its commit is durable (invariant 6).

        Args:
            function: Decides against current state and appends. What it raises undoes only its own changes.
            size: Bytes it adds, so that a batch stays bounded; 0 for a delete, which is let through even
                where the log has no room to grow. What adds more than the log has room for is refused.

        Raises:
            Unavailable: Nothing was appended: the log cannot be written, or the command did not begin in 5 s.
            RequestRefused: Whatever `function` raises passes through.
        """


class Settling(EventLog[StoreOut], Protocol[StoreOut]):
    """A log whose writes may go on when nobody waits for them any more."""

    async def settled(self) -> None:
        """Wait until no write runs that began before this call.

        A caller may leave, or be told that the outcome is not known, while its function goes on: this tells when what
        that holds is free.
        """


def scan(reading: Reading[Store], *, after: int = 0, page: int = 1000) -> Iterator[Recorded]:
    """Every event past `after`, read a page at a time."""
    while events := reading.events(after, page):
        yield from events
        after = events[-1].offset


def covers(reading: Reading[Store], position: Position) -> bool:
    """Whether this log holds every event up to `position`, and the same ones."""
    return all(
        (found := reading.find(incarnation, wanted.seq)) is not None
        and mark(wanted.seq, found.digest) == wanted
        for incarnation, wanted in position.marks.items()
    )


def past_write(reading: Reading[Store], marks: Mapping[str, Mark], event: Event) -> Position:
    """Where a reader stands who has been told an event and, as a write is told whole, the rest of its write.

    Args:
        marks: Where the reader stands who has been told the event.

    Raises:
        LogCorrupt: The log holds half a write.
    """
    if event.seq == event.last_seq:
        return Position(dict(marks))
    incarnation = event.origin.incarnation
    last = reading.find(incarnation, event.last_seq)
    if last is None:
        raise LogCorrupt("the rest of a write is missing; run `oscd verify`")
    return Position({**marks, incarnation: mark(event.last_seq, last.digest)})
