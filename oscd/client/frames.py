"""Owns the bytes of server-sent events on their way in (WHATWG HTML §9.2): lines become frames. Must not do I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from oscd.client.entries import Json, as_object, read_json
from oscd.client.errors import AnswerUnreadable

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_MAX_RETRY_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Frame:
    """A block of a stream.

    Attributes:
        event: Its type; empty where the block only moves the position.
        id: The position after it; None where it does not move.
        data: Its JSON object.
    """

    event: str
    id: str | None
    data: Mapping[str, Json] = field(repr=False)


class FrameReader:
    """The parser of one connection. A block that is cut off never becomes a frame.

    Attributes:
        retry_seconds: The pause the node asks for before the next connection; None until it does.
    """

    def __init__(self) -> None:
        self.retry_seconds: float | None = None
        self._rest = bytearray()
        self._fields: dict[bytes, bytes] = {}

    def feed(self, part: bytes) -> list[Frame]:
        """Take the next bytes and give the frames that became whole with them.

        Raises:
            AnswerUnreadable: A block is no JSON object, or larger than any of a node.
        """
        self._rest += part
        if len(self._rest) > MAX_FRAME_BYTES:
            raise AnswerUnreadable(f"a line of the stream is larger than {MAX_FRAME_BYTES >> 20} MiB")
        if b"\n" not in part:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return [frame for line in lines if (frame := self._take(line.removesuffix(b"\r"))) is not None]

    def _take(self, line: bytes) -> Frame | None:
        if not line:
            return self._end_block()
        name, _, text = line.partition(b":")
        text = text.removeprefix(b" ")
        if name == b"retry" and text.isdigit():
            self.retry_seconds = min(int(text[:9]), _MAX_RETRY_MS) / 1000
        elif name:  # A line that begins with a colon is a comment.
            self._fields[name] = text
        return None

    def _end_block(self) -> Frame | None:
        fields, self._fields = self._fields, {}
        place = fields.get(b"id")
        identity = None if place is None else place.decode("ascii", errors="replace")
        if b"data" not in fields:
            return None if identity is None else Frame("", identity, {})
        event = fields.get(b"event", b"message").decode(errors="replace")
        return Frame(event, identity, as_object(read_json(fields[b"data"])))
