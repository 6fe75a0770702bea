"""Nodes that write while cut off and pull from each other: logs that hold the same events in other orders.

It is what replication will do to a log, in memory: whole writes, in the order of the log they are pulled from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

from oscd.errors import OscdError
from oscd.events import codec
from oscd.events.event import Event, EventRef, EventType, Origin, Recorded
from oscd.events.log import Reading, Writing
from oscd.events.memory import MemoryReading, MemoryStore, _State
from oscd.feed.frame import Frame

Result = TypeVar("Result")
Change = tuple[str, str, str]
"""What a write does to an entry: kind, key, category."""


class MergingLog:
    """The log of one node, as far as it can be read.

    Attributes:
        trouble: Raised by every read until a test takes it away.
        reads: How many there were.
    """

    def __init__(self, node_id: str) -> None:
        self.origin = Origin(node_id, node_id.encode().hex().rjust(16, "0"))
        self.key_id = node_id.encode().rjust(16, b"k")
        self.recorded: list[Recorded] = []
        self.trouble: OscdError | None = None
        self.reads = 0

    async def read(self, function: Callable[[Reading[MemoryStore]], Result], *, size: int = 0) -> Result:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return function(self.reading())

    async def write(self, function: Callable[[Writing[MemoryStore]], Result], *, size: int) -> Result:
        raise AssertionError("a feed writes nothing")

    def reading(self) -> MemoryReading:
        return MemoryReading(_State(self.recorded))

    def append(self, changes: Sequence[Change], ticks: int = 1) -> None:
        """One write of this node; of an entry there is not, a change creates it, whatever it is.

        Args:
            ticks: How far the clock has gone on since the greatest stamp in the log.
        """
        own = [r for r in self.recorded if r.event.origin == self.origin]
        seq, last_seq = len(own), len(own) + len(changes)
        digest = own[-1].digest if own else codec.genesis_digest(self.origin)
        stamp = max((r.event.stamp for r in self.recorded), default=1_700_000_000_000_000) + ticks - 1
        for kind, key, category in changes:
            seq, stamp = seq + 1, stamp + 1
            winner = self._winner(key)
            type = "incarnation_began" if kind == "other" else _type(kind, winner)
            event = event_of(
                type,
                key,
                category,
                origin=self.origin,
                seq=seq,
                last_seq=last_seq,
                stamp=stamp,
                replaces=None if winner is None or kind == "other" else winner.ref,
                # Whoever creates an entry owns it; here each node has one such user.
                key_id=self.key_id if winner is None or type == EventType.CREATED else winner.key_id,
            )
            digest = codec.chain_digest(digest, codec.encode_header(event))
            self._record(event, digest)

    def pull(self, other: MergingLog, writes: int = 1_000_000) -> None:
        """Take in what the other log has and this one has not; at most so many writes."""
        held = {(r.event.origin, r.event.seq) for r in self.recorded}
        for recorded in other.recorded:
            event = recorded.event
            if (event.origin, event.seq) not in held:
                if not writes:
                    return
                self._record(event, recorded.digest)
                writes -= event.seq == event.last_seq

    def cut(self, offset: int) -> MergingLog:
        """The log as it was when it ended at this offset."""
        shorter = MergingLog(self.origin.node_id)
        shorter.recorded = self.recorded[:offset]
        return shorter

    def ends_of_writes(self) -> list[int]:
        """Offsets at which the log has ended at some time, 0 included."""
        return [0, *(r.offset for r in self.recorded if r.event.seq == r.event.last_seq)]

    def _winner(self, key: str) -> Event | None:
        reading = self.reading()
        winner = reading.winner("prod", key, reading.cut_at_head())
        return None if winner is None else winner.event

    def _record(self, event: Event, digest: bytes) -> None:
        reading = self.reading()
        previous = reading.winner(event.environment, event.key, reading.cut_at_head())
        self.recorded.append(
            Recorded(
                len(self.recorded) + 1,
                event,
                digest,
                None,
                None if previous is None else previous.offset,
                None,
            )
        )


def _type(kind: str, winner: Event | None) -> str:
    is_live = winner is not None and winner.type != EventType.DELETED
    return kind if is_live else EventType.CREATED


def event_of(
    type: str,
    key: str = "a",
    category: str = "",
    *,
    origin: Origin | None = None,
    seq: int = 1,
    last_seq: int | None = None,
    stamp: int = 1,
    replaces: EventRef | None = None,
    key_id: bytes | None = b"k" * 16,
) -> Event:
    """An event of an entry in `prod`, or of none."""
    is_other = type == "incarnation_began"
    return Event(
        origin=origin or Origin("node-a", "00" * 8),
        seq=seq,
        last_seq=seq if last_seq is None else last_seq,
        stamp=stamp,
        type=type,
        environment="" if is_other else "prod",
        key="" if is_other else key,
        category=category or None,
        version=1,
        created_at=stamp,
        updated_at=stamp,
        event_id=bytes(16),
        key_id=key_id,
        imported=False,
        replaces=replaces,
        body_digest=bytes(32),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next in a cluster.

    Attributes:
        kind: A node writes, pulls from another, or a reader goes to it and reads.
        other: The node that is pulled from.
        amount: Ticks of the clock, writes pulled, or pages read.
    """

    kind: str
    node: int
    other: int
    amount: int
    changes: Sequence[Change]


def steps(
    nodes: int, kinds: Sequence[str] = ("write", "write", "pull"), most: int = 25
) -> st.SearchStrategy[list[Step]]:
    """Histories of a cluster."""
    changes = st.tuples(
        st.sampled_from(["updated", "updated", "deleted", "other"]),
        st.sampled_from("abc"),
        st.sampled_from(["", "x", "y"]),
    )
    step = st.builds(
        Step,
        st.sampled_from(kinds),
        st.integers(0, nodes - 1),
        st.integers(0, nodes - 1),
        st.integers(1, 4),
        st.lists(changes, min_size=1, max_size=3, unique_by=lambda change: change[1]),
    )
    return st.lists(step, max_size=most)


def run(logs: Sequence[MergingLog], history: Sequence[Step]) -> None:
    """Have the nodes do it."""
    for step in history:
        if step.kind == "write":
            logs[step.node].append(step.changes, step.amount)
        else:
            logs[step.node].pull(logs[step.other], step.amount)


def cluster(nodes: int) -> list[MergingLog]:
    """Nodes that have written nothing yet."""
    return [MergingLog(f"node-{n}") for n in range(nodes)]


def meet(logs: Sequence[MergingLog]) -> None:
    """Have every node hold every event."""
    for log in logs:
        for other in logs:
            log.pull(other)
    for log in logs:
        for other in logs:
            log.pull(other)


def ref(event: Event) -> tuple[str, int]:
    return event.origin.incarnation, event.seq


def live(events: Iterator[Event] | Sequence[Event]) -> dict[str, Event]:
    """By key, the events whose entries live once all these are merged."""
    winners: dict[str, Event] = {}
    for event in sorted((e for e in events if e.is_of_entry), key=lambda e: e.precedence):
        winners[event.key] = event
    return {key: event for key, event in winners.items() if event.type != EventType.DELETED}


def apply(entries: dict[str, Event], told: Frame) -> None:
    """What a reader makes of a frame; it must make sense to one who holds these entries."""
    key = told.event.key
    before = entries.get(key)
    assert (before is None) == (told.effect is EventType.CREATED), "created is what was not there"
    assert before is None or before.precedence < told.event.precedence, "stamps of an entry rise"
    if told.effect is EventType.DELETED:
        del entries[key]
    else:
        entries[key] = told.event
