"""Owns what becomes of the bytes of one stream: whole writes in batches, statuses, a goodbye; in bounded memory.

Must not touch a log, nor wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from oscd.events.event import Event
from oscd.replication.errors import OriginHeld, PeerRefused
from oscd.replication.take import Held
from oscd.replication.verify import Candidate, origin_of, sound
from oscd.replication.wire import EventFrame, Frames, Goodbye, PeerStatus
from oscd.replication.writes import Bounds, LargeWrite, Writes

BATCH_EVENTS: Final = 500
BATCH_BYTES: Final = 1024 * 1024
LARGE_EVENTS: Final = 2000
LARGE_BYTES: Final = 4 * 1024 * 1024
"""A write of more events or bytes is not kept in memory."""

MAX_HELD_ORIGINS: Final = 256
"""Origins that one stream may have held before it is condemned itself."""

RECENT_EVENTS: Final = 4096


class Recent:
    """The digests of events that came in lately, shared by the links of a node: each event comes from every peer.

    A digest stands for an event and all before it, so what it names is here already, and is passed over unread.
    """

    def __init__(self, most: int = RECENT_EVENTS) -> None:
        # A dict, as it keeps the order in which they came.
        self._digests: dict[bytes, None] = {}
        self._most = most

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def note(self, digests: Iterable[bytes]) -> None:
        """Events with these digests are in the log now."""
        self._digests.update(dict.fromkeys(digests))
        for oldest in list(islice(self._digests, max(0, len(self._digests) - self._most))):
            del self._digests[oldest]


Received = Writes | LargeWrite | PeerStatus | Goodbye


class Reception:
    """One stream. Whoever is given a `LargeWrite` closes it.

    Args:
        directory: Where a large write waits.

    Attributes:
        held: By incarnation, the origins of which nothing more is taken from this stream.
    """

    def __init__(self, bounds: Bounds, directory: Path, recent: Recent) -> None:
        self.held: dict[str, Held] = {}
        self._bounds = bounds
        self._directory = directory
        self._recent = recent
        self._frames = Frames(bounds.max_body_bytes)
        self._whole: list[Candidate] = []
        self._whole_bytes = 0
        self._write: list[tuple[EventFrame, Candidate]] = []
        self._write_bytes = 0
        self._large: LargeWrite | None = None
        self._last: Event | None = None
        self._seqs: dict[str, int] = {}

    def feed(self, data: bytes) -> Iterator[Received]:
        """What has become whole; must be taken to the end before more is fed.

        Raises:
            PeerRefused: The stream is not what a peer sends.
            OSError: The disk does not take a large write.
        """
        for frame in self._frames.feed(data):
            if isinstance(frame, EventFrame):
                if self._gather(frame):
                    yield from self._end_write()
                continue
            if isinstance(frame, Goodbye):
                # It may come anywhere, as a log may fail in the middle; of what it cuts short nothing is kept.
                self._drop_write()
            elif self._last is not None:
                raise PeerRefused("it ends a write before its last event.")
            if (writes := self.pending()) is not None:
                yield writes
            yield frame

    def pending(self) -> Writes | None:
        """The whole writes that are here and were not given out yet."""
        if not self._whole:
            return None
        writes = Writes(self._whole, self._whole_bytes)
        self._whole, self._whole_bytes = [], 0
        return writes

    def hold(self, held: Held) -> None:
        """Take nothing more of an origin from this stream.

        Raises:
            PeerRefused: There are more of these than any cluster has.
        """
        self.held.setdefault(held.origin.incarnation, held)
        if len(self.held) > MAX_HELD_ORIGINS:
            raise PeerRefused("it sends events of more origins than any cluster has.")

    def close(self) -> None:
        """Let go of what has not become whole."""
        if self._large is not None:
            self._large.close()
            self._large = None

    def _gather(self, frame: EventFrame) -> bool:
        """Put an event to those of its write; whether there may be something to give out now."""
        if self._last is None and frame.digest in self._recent:
            return False
        if frame.incarnation in self.held and self._begun_by() in (None, frame.incarnation):
            # It may have been held within a write; what has come of that is not taken either.
            self._drop_write()
            return False
        try:
            candidate = sound(frame)
        except OriginHeld as held:
            self._hold_unsound(frame, str(held))
            return False
        event = candidate.event
        self._require_in_turn(event)
        size = len(frame.header) + len(frame.body or b"")
        if self._last is None and event.seq == event.last_seq and size <= LARGE_BYTES:
            # A write of one event, as nearly all are in a backlog.
            self._whole.append(candidate)
            self._whole_bytes += size
            return self._is_full()
        self._add(frame, candidate, size)
        return event.seq == event.last_seq

    def _begun_by(self) -> str | None:
        """The incarnation of which a write has begun and not ended."""
        return None if self._last is None else self._last.origin.incarnation

    def _hold_unsound(self, frame: EventFrame, reason: str) -> None:
        """Hold an origin by what its frame says, as its event is not to be believed."""
        self._drop_write()
        self.hold(Held(origin_of(frame), frame.seq, reason))

    def _require_in_turn(self, event: Event) -> None:
        incarnation, seq = event.origin.incarnation, event.seq
        if seq <= self._seqs.get(incarnation, 0):
            raise PeerRefused("it sends an event again.")
        self._seqs[incarnation] = seq
        last = self._last
        if last is not None and (event.origin, event.seq, event.last_seq) != (
            last.origin,
            last.seq + 1,
            last.last_seq,
        ):
            raise PeerRefused("it begins a write before another has ended.")

    def _add(self, frame: EventFrame, candidate: Candidate, size: int) -> None:
        self._last = candidate.event
        self._write_bytes += size
        if self._large is not None:
            self._large.add(frame)
            return
        self._write.append((frame, candidate))
        event = candidate.event
        if self._write_bytes > LARGE_BYTES or event.last_seq - event.seq >= LARGE_EVENTS:
            self._large = LargeWrite(self._directory, self._bounds, frame.incarnation)
            for held, _ in self._write:
                self._large.add(held)
            self._write.clear()

    def _end_write(self) -> Iterable[Received]:
        """What is given out as a write is whole: mostly nothing, as more are gathered."""
        large, self._large = self._large, None
        if large is None:
            self._whole += [candidate for _, candidate in self._write]
            self._whole_bytes += self._write_bytes
        self._drop_write()
        if large is None and not self._is_full():
            return ()
        return [one for one in (self.pending(), large) if one is not None]

    def _is_full(self) -> bool:
        return len(self._whole) >= BATCH_EVENTS or self._whole_bytes >= BATCH_BYTES

    def _drop_write(self) -> None:
        self.close()
        self._write.clear()
        self._write_bytes, self._last = 0, None
