"""A reader of server-sent events as the HTML standard has it (§9.2.6), strict where oscd promises more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SseEvent:
    """A named event.

    Attributes:
        at: The id that came with it, None where none did.
    """

    kind: str
    at: str | None
    data: Any


@dataclass(slots=True)
class SseStream:
    """What a stream has said so far.

    Attributes:
        last_id: What a browser would resume from.
        blocks: Each event, and each id that came alone, as None and the id.
        rest: Bytes of an event that is not whole yet.
    """

    events: list[SseEvent] = field(default_factory=list)
    blocks: list[tuple[SseEvent | None, str | None]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    retry: int | None = None
    last_id: str | None = None
    rest: bytes = b""

    def feed(self, raw: bytes) -> None:
        """Take in more bytes.

        Raises:
            AssertionError: They are not what oscd promises: one data line, a JSON object, known fields.
        """
        *whole, self.rest = (self.rest + raw).split(b"\n\n")
        for block in whole:
            self._block(block.decode("utf-8"))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of_kind(self, kind: str) -> list[SseEvent]:
        return [event for event in self.events if event.kind == kind]

    def _block(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, text = line.partition(":")
            assert "\r" not in line
            if not name:
                self.comments.append(text.strip())
                continue
            assert name not in fields, "one line of each"
            fields[name] = text.removeprefix(" ")
        assert set(fields) <= {"id", "event", "data", "retry"}
        assert ("event" in fields) == ("data" in fields)
        if "retry" in fields:
            self.retry = int(fields["retry"])
        at = fields.get("id")
        self.last_id = at if at is not None else self.last_id
        if "event" in fields:
            data = json.loads(fields["data"])
            assert isinstance(data, dict)
            self.events.append(SseEvent(fields["event"], at, data))
            self.blocks.append((self.events[-1], at))
        elif at is not None:
            self.blocks.append((None, at))


def parse(raw: bytes) -> SseStream:
    """Read a whole stream."""
    stream = SseStream()
    stream.feed(raw)
    assert stream.rest == b""
    return stream
