"""Owns an event log in memory, with the guarantees of the port except durability.

It shows that the port does not depend on SQLite, and lets many nodes live in one process. Its store, where
projections keep their state, is a dictionary.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from oscd.errors import Unavailable
from oscd.events import codec
from oscd.events.cut import Cut
from oscd.events.event import (
    EVENT_ID_BYTES,
    Body,
    Change,
    Draft,
    Event,
    EventRef,
    Origin,
    Recorded,
    life_number,
    origin_began,
)
from oscd.events.foreign import Foreign, OriginTip, Raw
from oscd.events.log import Found, MicrosecondClock, Projections, Reading, Writing, covers
from oscd.events.origins import require_place
from oscd.events.position import Position, mark
from oscd.events.runs import MAX_RUNS, forgotten
from oscd.events.standing import Own, Standing

Result = TypeVar("Result")
MemoryStore = dict[str, Any]


_NOWHERE = Origin("", "")


@dataclass(slots=True)
class _State:
    recorded: list[Recorded] = field(default_factory=list)
    store: MemoryStore = field(default_factory=dict)
    origin: Origin = _NOWHERE
    standing: Standing = Standing.CONTINUES
    writes_held: str | None = None
    fences: dict[str, str] = field(default_factory=dict)
    bodies: dict[int, bytes | None] = field(default_factory=dict)
    """By offset, the bytes of bodies that came from elsewhere."""


class MemoryReading:
    """A view of the log; see `oscd.events.log.Reading`."""

    def __init__(self, state: _State) -> None:
        self._state = state

    @property
    def store(self) -> MemoryStore:
        """Where the projections live."""
        return self._state.store

    def head(self) -> int:
        """Offset of the last event, 0 in an empty log."""
        return len(self._state.recorded)

    def position(self) -> Position:
        """Where a reader of everything stands."""
        return Position(
            {r.event.origin.incarnation: mark(r.event.seq, r.digest) for r in self._state.recorded}
        )

    def find(self, incarnation: str, seq: int) -> Found | None:
        """Where the `seq`-th event of an origin stands; None where this log has not got it."""
        for r in self._state.recorded:
            if (r.event.origin.incarnation, r.event.seq) == (incarnation, seq):
                return Found(r.offset, r.digest)
        return None

    def events(self, after: int, limit: int) -> Sequence[Recorded]:
        """The events with `offset > after`, in order, at most `limit` of them."""
        return self._state.recorded[after : after + limit]

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """The events with `offset > after`, in order, at most `limit` of them, each with the one it met."""
        return [
            Change(r.offset, r.event, r.digest, None if r.previous is None else self._at(r.previous).event)
            for r in self._state.recorded[after : after + limit]
        ]

    def met(self, environment: str, key: str, before: int, ahead: Mapping[str, int]) -> Event | None:
        """The greatest-stamped event of an entry among those a reader has been told."""
        return max(
            (
                r.event
                for r in self._state.recorded
                if (r.event.environment, r.event.key) == (environment, key)
                and (r.offset < before or r.event.seq <= ahead.get(r.event.origin.incarnation, 0))
            ),
            key=lambda event: event.precedence,
            default=None,
        )

    def _at(self, offset: int) -> Recorded:
        return self._state.recorded[offset - 1]

    def event_at(self, offset: int) -> Recorded | None:
        """The event at `offset`."""
        return self._at(offset) if 1 <= offset <= self.head() else None

    def body_at(self, offset: int, *, at_most: int | None = None) -> Body | None:
        """The body of the event at `offset`; None where it is not there, or has more than `at_most` bytes."""
        recorded = self.event_at(offset)
        body = None if recorded is None else recorded.body
        is_too_large = at_most is not None and body is not None and len(codec.encode_body(body)) > at_most
        return None if is_too_large else body

    def winner(self, environment: str, key: str, cut: Cut) -> Recorded | None:
        """The greatest-stamped event of an entry among those the cut covers."""
        return next(iter(self._of_entry(environment, key, cut)), None)

    def versions(
        self, environment: str, key: str, cut: Cut, before: Event | None, limit: int
    ) -> Sequence[tuple[int, Event]]:
        """The events of an entry that the cut covers with their offsets, the greatest-stamped first."""
        found = [(r.offset, r.event) for r in self._of_entry(environment, key, cut)]
        return [
            (offset, event)
            for offset, event in found
            if before is None or event.precedence < before.precedence
        ][:limit]

    def _of_entry(self, environment: str, key: str, cut: Cut) -> list[Recorded]:
        found = (r for r in self._state.recorded if (r.event.environment, r.event.key) == (environment, key))
        covered = (r for r in found if cut.covers(r.event.ref))
        return sorted(covered, key=lambda r: r.event.precedence, reverse=True)

    def raw(self, after: int, limit: int) -> Sequence[Raw]:
        """The events with `offset > after` as they are stored, at most `limit` of them."""
        return [
            Raw(
                r.offset,
                r.event.origin.incarnation,
                r.event.seq,
                r.digest,
                codec.encode_header(r.event),
                self._state.bodies.get(r.offset, None if r.body is None else codec.encode_body(r.body)),
            )
            for r in self._state.recorded[after : after + limit]
        ]

    def tip_of(self, incarnation: str) -> OriginTip | None:
        """Where the chain of an origin ends here; None where this log has never heard of it."""
        tips = {r.event.origin.incarnation: r for r in self._state.recorded}
        if incarnation in tips:
            last = tips[incarnation]
            return OriginTip(last.event.origin, last.event.seq, last.digest, last.event.stamp)
        own = self._state.origin
        return OriginTip(own, 0, codec.genesis_digest(own), 0) if incarnation == own.incarnation else None

    def origin_count(self) -> int:
        """How many origins this log knows, its own among them."""
        return len({self._state.origin, *(r.event.origin for r in self._state.recorded)})

    def own(self) -> Own:
        """What this log knows of the origin it appends to."""
        origin = self._state.origin
        seq = sum(r.event.origin == origin for r in self._state.recorded)
        return Own(origin, seq, self._state.standing)

    def runs(self) -> Mapping[str, str]:
        """By node id, the latest run of other nodes that this log has noted."""
        return dict(self._state.fences)

    def writes_held(self) -> str | None:
        """Why every append is refused now; None where none is for that reason."""
        return self._state.writes_held

    def cut_at_head(self) -> Cut:
        """What covers every event of this log."""
        return _cut(self._state.recorded)

    def cut_of(self, position: Position) -> Cut | None:
        """What a position covers; None where this log does not hold all of it, or it stands within a write."""
        if not covers(self, position):
            return None
        cut = Cut(position, {})
        covered = [r for r in self._state.recorded if cut.covers(r.event.ref)]
        is_whole = all(cut.covers(self._end_of_write(r).ref) for r in covered)
        return Cut(position, _cut(covered).stamps) if is_whole else None

    def cut_upto(self, stamp: int) -> Cut:
        """What covers the events stamped up to then, without a write whose last event is stamped later."""
        return _cut([r for r in self._state.recorded if self._end_of_write(r).stamp <= stamp])

    def cut_naming(self, event: Event) -> Cut:
        """What covers an event, the rest of its write, and what stands before it in precedence."""
        own = (event.origin, event.last_seq)
        return _cut(
            [
                r
                for r in self._state.recorded
                if (
                    r.event.seq <= own[1]
                    if r.event.origin == own[0]
                    else self._end_of_write(r).precedence < event.precedence
                )
            ]
        )

    def _end_of_write(self, recorded: Recorded) -> Event:
        end = (recorded.event.origin, recorded.event.last_seq)
        return next(r.event for r in self._state.recorded if (r.event.origin, r.event.seq) == end)


def _cut(covered: Sequence[Recorded]) -> Cut:
    """The cut that covers these events; of each origin they are the first ones."""
    lasts = {r.event.origin.incarnation: r for r in covered}
    return Cut(
        Position({name: mark(r.event.seq, r.digest) for name, r in lasts.items()}),
        {name: r.event.stamp for name, r in lasts.items()},
    )


class MemoryWriting(MemoryReading):
    """A view that can append; see `oscd.events.log.Writing`."""

    def __init__(self, state: _State, projections: Projections[MemoryStore], clock: MicrosecondClock) -> None:
        super().__init__(state)
        self._projections = projections
        self._clock = clock

    @property
    def origin(self) -> Origin:
        """The origin whose events this log writes itself."""
        return self._state.origin

    def settle(self, standing: Standing) -> None:
        """Say whether this log may append to its origin."""
        self._state.standing = standing

    def fence(self, node_id: str, run: str, members: Collection[str] = ()) -> None:
        """Note the latest run of another node.

        Raises:
            Unavailable: The log remembers as many nodes as it may, and none of them may be forgotten.
        """
        fences = self._state.fences
        if node_id not in fences and len(fences) >= MAX_RUNS:
            writers = {r.event.origin.node_id for r in self._state.recorded}
            del fences[forgotten(fences, writers.union(members))]
        # At the end, as the latest.
        fences.pop(node_id, None)
        fences[node_id] = run

    def hold_writes(self, reason: str | None) -> None:
        """Refuse appends with that reason until it is None again."""
        self._state.writes_held = reason

    def append(self, drafts: Sequence[Draft]) -> Sequence[Recorded]:
        """Append the events of one write, in order, and apply each to the projections.

        Raises:
            Unavailable: Writes are held, it is not known yet where this log's origin ended, or it would have to begin
                an origin too many.
        """
        self._require_may_append()
        return self._append(drafts)

    def _require_may_append(self) -> None:
        if self._state.writes_held is not None:
            raise Unavailable(self._state.writes_held)
        if self._state.standing is Standing.ASKING:
            raise Unavailable("This log asks its peers where it ended.")
        own = self.own()
        if self._state.standing is Standing.BEGINS:
            require_place(self.origin_count())
            self._begin_anew(own)
        elif not own.seq:
            require_place(self.origin_count() - 1)

    def _begin_anew(self, ended: Own) -> None:
        self._state.origin = Origin(ended.origin.node_id, secrets.token_hex(8))
        self._state.standing = Standing.CONTINUES
        if ended.seq:
            began = origin_began(EventRef(ended.origin, ended.seq), secrets.token_bytes(EVENT_ID_BYTES))
            self._append([began])

    def _append(self, drafts: Sequence[Draft]) -> Sequence[Recorded]:
        last_seq = sum(r.event.origin == self.origin for r in self._state.recorded) + len(drafts)
        return [self._append_one(draft, last_seq) for draft in drafts]

    def append_many(self, drafts: Iterable[Draft], count: int) -> None:
        """Append the events of one write; all is in memory here anyway."""
        events = list(drafts)
        if len(events) != count:
            raise ValueError(f"{len(events)} drafts were given for a write of {count}")
        self.append(events)

    def _append_one(self, draft: Draft, last_seq: int) -> Recorded:
        own = [r for r in self._state.recorded if r.event.origin == self.origin]
        body = codec.encode_body(draft.body)
        event = codec.event_from_draft(
            draft,
            origin=self.origin,
            seq=len(own) + 1,
            last_seq=last_seq,
            stamp=self._stamp(draft.stamp, own[-1].event.stamp if own else 0),
            body=body,
        )
        before = own[-1].digest if own else codec.genesis_digest(self.origin)
        digest = codec.chain_digest(before, codec.encode_header(event))
        return self._record(event, digest, draft.body, draft.entry_id)

    def ingest(self, events: Iterable[Foreign]) -> int:
        """Take in whole writes that other logs wrote first.

        Raises:
            ValueError: One is not the next of its origin here.
        """
        before = self.head()
        for foreign in events:
            event = foreign.event
            tip = self.tip_of(event.origin.incarnation)
            seq, stamp = (0, 0) if tip is None else (tip.seq, tip.stamp)
            if event.seq != seq + 1 or event.stamp <= stamp:
                raise ValueError(f"event {event.seq} is taken in after event {seq} of its origin")
            body = None if foreign.body is None else codec.decode_body(foreign.body)
            recorded = self._record(event, foreign.digest, body, None)
            self._state.bodies[recorded.offset] = foreign.body
        return self.head() - before

    def _record(self, event: Event, digest: bytes, body: Body | None, wanted_id: int | None) -> Recorded:
        is_of_entry = event.is_of_entry
        previous = self.winner(event.environment, event.key, self.cut_at_head()) if is_of_entry else None
        recorded = Recorded(
            offset=self.head() + 1,
            event=event,
            digest=digest,
            body=body,
            previous=None if previous is None else previous.offset,
            entry_id=life_number(
                event.type,
                None if previous is None else previous.entry_id,
                max((r.entry_id or 0 for r in self._state.recorded), default=0),
                wanted_id,
            ),
        )
        self._state.recorded.append(recorded)
        self._projections.apply(self.store, recorded)
        return recorded

    def _stamp(self, imported: int | None, last: int) -> int:
        if imported is not None:
            return max(imported, last + 1)
        return max(self._clock(), max((r.event.stamp for r in self._state.recorded), default=0) + 1)


class MemoryLog:
    """A log that lives as long as its object; see `oscd.events.log.EventLog`."""

    def __init__(
        self, *, origin: Origin, projections: Projections[MemoryStore], clock: MicrosecondClock
    ) -> None:
        self._state = _State(origin=origin)
        self._projections = projections
        self._clock = clock
        projections.create(self._state.store)

    async def read(self, function: Callable[[Reading[MemoryStore]], Result], *, size: int = 0) -> Result:
        """Run `function` on the current state."""
        return function(MemoryReading(self._state))

    async def write(self, function: Callable[[Writing[MemoryStore]], Result], *, size: int) -> Result:
        """Run `function`; what it raises undoes its changes."""
        changed = copy.deepcopy(self._state)
        result = function(MemoryWriting(changed, self._projections, self._clock))
        self._state = changed
        return result
