"""Owns taking an HTTP/1.1 answer apart while it arrives (RFC 9112): its status, and its body without the chunks.

Pure and incremental. Must not know what the body says.
"""

from __future__ import annotations


class StreamedAnswer:
    """One answer of a connection that carries no other.

    Attributes:
        status: None until the head is whole.
        headers: Names in lower case.
        complete: Whether the body was ended as HTTP ends it. A body of neither chunks nor a length has no such end.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = bytearray()
        self._chunked = False
        self._left = 0
        self._chunk_ends = False
        self._last_chunk = False

    def feed(self, received: bytes) -> bytes:
        """Take the next bytes and give the body's bytes among them.

        Raises:
            ValueError: This is no answer of HTTP/1.1.
        """
        self._buffer += received
        if self.status is None and not self._read_head():
            return b""
        if self._chunked:
            return self._read_chunks()
        body = bytes(self._buffer)
        self._buffer.clear()
        if self._left:
            self._left -= len(body)
            self.complete = self._left <= 0
        return body

    def _read_head(self) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ", 2)[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = int(self.headers.get("content-length", 0))
        self._buffer = bytearray(rest)
        return True

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while self._buffer and not self.complete:
            if self._left:
                part = self._buffer[: self._left]
                self._left -= len(part)
                body += part
                del self._buffer[: len(part)]
            elif self._chunk_ends:
                if len(self._buffer) < 2:
                    break
                if self._buffer[:2] != b"\r\n":
                    raise ValueError("a chunk does not end where it says")
                del self._buffer[:2]
                self._chunk_ends = False
                self.complete = self._last_chunk
            else:
                size, end, rest = self._buffer.partition(b"\r\n")
                if not end:
                    break
                self._left = int(size.split(b";")[0], 16)
                self._chunk_ends, self._last_chunk = True, not self._left
                self._buffer = rest
        return bytes(body)
