"""Owns whole writes that have come from a peer, until they are taken: small ones in memory, a large one in a file.

That file has no name, so nothing is left of it when the process dies. Must not know a stream, nor a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from oscd.replication.errors import PeerRefused
from oscd.replication.verify import Candidate, sound
from oscd.replication.wire import EventFrame, Frames, event_frame

_READ_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one event and one write may take, in bytes."""

    max_body_bytes: int
    max_write_bytes: int


@dataclass(frozen=True, slots=True)
class Writes:
    """Whole writes in memory; see `oscd.replication.take.Batch`."""

    events: Sequence[Candidate]
    size: int
    is_large: bool = False

    def candidates(self) -> Iterable[Candidate]:
        """The events."""
        return self.events

    def close(self) -> None:
        """Nothing is to be let go."""


class LargeWrite:
    """One write in a file; see `oscd.replication.take.Batch`.

    Attributes:
        incarnation: Of its origin.
    """

    is_large = True

    def __init__(self, directory: Path, bounds: Bounds, incarnation: str) -> None:
        self.size = 0
        self.incarnation = incarnation
        self._bounds = bounds
        self._file: IO[bytes] = TemporaryFile(dir=directory, prefix=".oscd-incoming-")  # noqa: SIM115 - see `close`

    def add(self, frame: EventFrame) -> None:
        """Put one more event into it.

        Raises:
            PeerRefused: It is larger than any write may be.
            OSError: The disk does not take it.
        """
        data = event_frame(frame)
        self.size += len(data)
        if self.size > self._bounds.max_write_bytes:
            raise PeerRefused("it sends a write that is larger than any may be.")
        self._file.write(data)

    def candidates(self) -> Iterator[Candidate]:
        """The events, read and checked anew."""
        self._file.seek(0)
        frames = Frames(self._bounds.max_body_bytes)
        while data := self._file.read(_READ_BYTES):
            for frame in frames.feed(data):
                assert isinstance(frame, EventFrame)
                yield sound(frame)

    def close(self) -> None:
        """Let go of the file, which has no name."""
        self._file.close()
