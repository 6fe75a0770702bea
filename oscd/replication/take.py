"""Owns taking shipped writes into this log, in the transaction of its one writer.

A write is taken whole or not at all. Links race, and each sends what others have sent: what is here already is passed
over, if it is the same. Must not wait, nor know where the events come from but by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from oscd.events.event import Event, Origin
from oscd.events.foreign import Foreign, OriginTip
from oscd.events.log import Writing
from oscd.events.standing import Standing
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.verify import Candidate, Terms, fork, require_next


class Batch(Protocol):
    """Whole writes in the order they came."""

    @property
    def size(self) -> int:
        """Bytes of their headers and bodies."""

    @property
    def is_large(self) -> bool:
        """Whether it is one write that is not in memory, and is read as it is taken."""

    def candidates(self) -> Iterable[Candidate]:
        """The events, each time anew."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose stream it is: the node, and the run of it that this stream comes from."""

    node_id: str
    run: str


@dataclass(frozen=True, slots=True)
class Held:
    """An origin of which nothing more is taken from a stream, from an event on.

    Attributes:
        passes: Whether time alone may cure the reason.
    """

    origin: Origin
    seq: int
    reason: str
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a batch: events that are new here, and the origins held in it."""

    events: int
    held: tuple[Held, ...] = ()


def meet(writing: Writing[Any], sender: Sender, before: str | None, members: Collection[str] = ()) -> bool:
    """Note whose stream this is; False where the peer has started anew since it was asked for.

    Args:
        before: The run of that node that was noted before the stream was asked for.
        members: Node ids of the cluster, as far as they are known.

    Raises:
        Unavailable: The log remembers as many nodes as it may, and none of them may be forgotten.
    """
    noted = writing.runs().get(sender.node_id)
    if noted == sender.run:
        return True
    if noted != before:
        return False  # Another run has asked meanwhile, and was told what this log holds.
    writing.fence(sender.node_id, sender.run, members)
    return True


def take(writing: Writing[Any], batch: Batch, terms: Terms, sender: Sender) -> Taken:
    """Take in what is new of a batch.

    Raises:
        PeerRefused: Something is missing in it, or it comes from a run of the peer that is over.
        OriginHeld: Of a large write only, of which nothing is taken then; `held_in` says it of which origin.
        LogCorrupt: This log was changed by hand.
    """
    if writing.runs().get(sender.node_id) != sender.run:
        # It has asked where its log ended and was told: what an older run has on its way must not change that.
        raise PeerRefused("it has started anew.")
    taking = _Taking(writing, terms)
    if batch.is_large:
        return Taken(writing.ingest(taking.write(batch.candidates())))
    new: list[Foreign] = []
    for write in _writes(batch.candidates()):
        new += taking.write_or_hold(write)
    return Taken(writing.ingest(new) if new else 0, tuple(taking.held.values()))


def held_in(batch: Batch, held: OriginHeld) -> Held:
    """The origin of a large write that was not taken."""
    return _held(next(iter(batch.candidates())).event, held)


def _held(first: Event, held: OriginHeld) -> Held:
    return Held(first.origin, first.seq, str(held), passes=held.passes)


@dataclass(slots=True)
class _Taking:
    """How far each origin has been followed in one batch."""

    writing: Writing[Any]
    terms: Terms
    held: dict[str, Held] = field(default_factory=dict)
    _tips: dict[str, OriginTip | None] = field(default_factory=dict)
    _begun: int = 0
    # The incarnation that this log goes on with; no name where it may not.
    _own: str | None = None

    def write_or_hold(self, write: Sequence[Candidate]) -> Sequence[Foreign]:
        first = write[0].event
        if first.origin.incarnation in self.held:
            return ()
        try:
            if len(write) == 1:
                return write if self._is_new(write[0]) else ()
            return list(self.write(write))
        except OriginHeld as held:
            self.held[first.origin.incarnation] = _held(first, held)
            return ()

    def write(self, write: Iterable[Candidate]) -> Iterator[Foreign]:
        """What is new of one write.

        Raises:
            PeerRefused, OriginHeld: As `take`.
        """
        entries: set[int] = set()
        for candidate in write:
            event = candidate.event
            if event.is_of_entry:
                place = hash((event.environment, event.key))
                if place in entries:
                    raise OriginHeld("a write of it has two events of one entry.")
                entries.add(place)
            if self._is_new(candidate):
                yield candidate

    def _is_new(self, candidate: Candidate) -> bool:
        event = candidate.event
        incarnation = event.origin.incarnation
        if incarnation not in self._tips:
            self._tips[incarnation] = self.writing.tip_of(incarnation)
        tip = self._tips[incarnation]
        if tip is not None and event.seq <= tip.seq:
            self._require_same(candidate)
            return False
        self._require_not_own(incarnation)
        origins = 0 if tip is not None else self.writing.origin_count() + self._begun
        self._tips[incarnation] = require_next(tip, candidate, self.terms, origins)
        self._begun += tip is None
        return True

    def _require_same(self, candidate: Candidate) -> None:
        event = candidate.event
        here = self.writing.find(event.origin.incarnation, event.seq)
        if here is None or here.digest != candidate.digest:
            raise OriginHeld(fork(event.seq))

    def _require_not_own(self, incarnation: str) -> None:
        if self._own is None:
            own = self.writing.own()
            self._own = own.origin.incarnation if own.standing is Standing.CONTINUES else ""
        if incarnation == self._own:
            raise OriginHeld("this node never wrote that.")


def _writes(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    write: list[Candidate] = []
    for candidate in candidates:
        write.append(candidate)
        if candidate.event.seq == candidate.event.last_seq:
            yield write
            write = []
