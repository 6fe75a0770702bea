"""Owns reading a stream of server-sent events: bytes in, what they say out, as the WHATWG HTML standard has it
(§9.2.5 and §9.2.6, "Parsing an event stream" and "Interpreting an event stream").

Pure and incremental. Must not know oscd's events, nor forgive a server what the standard does not.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\r|\n")
_NUMBER = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """A block that was ended by its empty line, and said something.

    Attributes:
        event: Its type; `message` where it names none, empty where nothing is dispatched.
        id: What its `id` field said, None where it has none. The last one seen is where to resume.
        data: None where it has no `data` field: then nothing is dispatched, but its id counts all the same.
    """

    event: str
    id: str | None
    data: str | None


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that says nothing to the application, without its colon and one blank after it."""

    text: str


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait before reconnecting, in ms; it counts from its line on."""

    milliseconds: int


Item = Frame | Comment | Retry


class SseParser:
    """The parser of one connection's stream. A block that is cut off never becomes a frame."""

    def __init__(self) -> None:
        # utf-8-sig leaves out one leading byte order mark; what is no UTF-8 becomes U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._after_cr = False
        self._event = ""
        self._id: str | None = None
        self._data: list[str] = []

    def feed(self, received: bytes) -> list[Item]:
        """Take the next bytes and give what became whole with them."""
        text = self._decoder.decode(received)
        if self._after_cr and text:
            # A CR ends its line at once; an LF that follows it in the next bytes belongs to the same end.
            text, self._after_cr = text.removeprefix("\n"), False
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, self._rest = _LINE_END.split(self._rest + text)
        items: list[Item] = []
        for line in lines:
            item = self._take(line)
            if item is not None:
                items.append(item)
        return items

    def _take(self, line: str) -> Item | None:
        if not line:
            return self._end_block()
        if line.startswith(":"):
            return Comment(line[1:].removeprefix(" "))
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if _NUMBER.fullmatch(value):
                return Retry(int(value))
            case _:
                pass
        return None

    def _end_block(self) -> Frame | None:
        event, identity, data = self._event, self._id, self._data
        self._event, self._id, self._data = "", None, []
        if data:
            return Frame(event or "message", identity, "\n".join(data))
        return None if identity is None else Frame("", identity, None)
