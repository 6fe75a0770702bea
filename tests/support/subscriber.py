"""Owns subscribers of a stream over plain sockets, for threads and for asyncio, that record what they are told.

Whether to reconnect is the caller's choice. Must not judge what came.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from oscd.events.position import decode_position
from tests.support.history import Attempt, Filters, History, Received
from tests.support.http_stream import StreamedAnswer
from tests.support.raw_http import connect, request
from tests.support.sse import Comment, Frame, SseParser
from tests.support.waiting import PATIENCE

PATH = "/sse/subscribe"
_READ_BYTES = 65536

Condition = Callable[[History], bool]
"""Whether a subscriber has been told what is waited for."""


def stands_at(position: str) -> Condition:
    """Whether a subscriber was told everything up to a position."""
    wanted = decode_position(position).marks

    def stands(history: History) -> bool:
        last = history.last_id
        if last is None:
            return False
        marks = decode_position(last).marks
        return all(origin in marks and marks[origin].seq >= mark.seq for origin, mark in wanted.items())

    return stands


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asks for.

    Attributes:
        headers: Keys it shows.
        after: `?after=`; None for none.
        snapshot: Whether it sends `?from=snapshot`.
        values: Whether it sends `?values=true`.
        ticket: `?ticket=`; None for none.
        keep_raw: Whether the bytes of the body are kept.
    """

    filters: Filters = field(default_factory=Filters)
    headers: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    snapshot: bool = False
    values: bool = False
    ticket: str | None = None
    keep_raw: bool = False

    def begin(self, last_event_id: str | None) -> tuple[bytes, Attempt]:
        """The request of a connection, and the record of it."""
        query = self.filters.query()
        query |= {} if self.after is None else {"after": self.after}
        query |= {"from": "snapshot"} if self.snapshot else {}
        query |= {"values": "true"} if self.values else {}
        query |= {} if self.ticket is None else {"ticket": self.ticket}
        headers = dict(self.headers) | ({} if last_event_id is None else {"Last-Event-ID": last_event_id})
        line = f"GET {PATH}{'?' if query else ''}{urlencode(query)} HTTP/1.1"
        lines = [f"{name}: {value}" for name, value in headers.items()]
        attempt = Attempt(last_event_id=last_event_id, after=self.after, snapshot=self.snapshot)
        return request(line, "Accept: text/event-stream", *lines), attempt


class Reading:
    """One connection's bytes on their way into its record."""

    def __init__(self, attempt: Attempt, *, keep_raw: bool) -> None:
        self._attempt = attempt
        self._keep_raw = keep_raw
        self._answer = StreamedAnswer()
        self._parser = SseParser()

    def take(self, received: bytes) -> bool:
        """Record what the next bytes say; no bytes mean that the node closed. Gives whether it goes on."""
        attempt = self._attempt
        if not received:
            attempt.ended = attempt.ended or "cut off"
            return False
        body = self._answer.feed(received)
        attempt.status = self._answer.status
        if self._keep_raw:
            attempt.raw += body
        if attempt.status == 200:
            self._record(body)
        if self._answer.complete:
            attempt.ended = "ended by the node" if attempt.status == 200 else f"refused with {attempt.status}"
        return attempt.ended is None

    def lost(self, error: OSError) -> None:
        """Record that the connection broke."""
        self._attempt.ended = f"cut off: {error}"

    def _record(self, body: bytes) -> None:
        for item in self._parser.feed(body):
            match item:
                case Frame(event, identifier, data):
                    told = {} if data is None else json.loads(data)
                    self._attempt.frames.append(Received(event, identifier, told, time.monotonic()))
                case Comment(text):
                    self._attempt.comments.append(text)
                case _:
                    pass


class Subscriber:
    """A subscriber for a thread: it reads when it is told to.

    Args:
        read_bytes: How much it takes at a time, at most.
        silence: Seconds without a byte after which `read` gives up.

    Attributes:
        history: What it was told, over all its connections.
        port: Where its next connection goes.
        wanted: What that asks for.
    """

    def __init__(
        self, port: int, wanted: Wanted, *, read_bytes: int = _READ_BYTES, silence: float = PATIENCE
    ) -> None:
        self.history = History(wanted.filters)
        self.port = port
        self.wanted = wanted
        self._read_bytes = read_bytes
        self._silence = silence
        self._socket: socket.socket | None = None
        self._reading: Reading | None = None

    def open(self, last_event_id: str | None = None) -> None:
        """Make a new connection, after closing one that is open.

        Raises:
            OSError: There is nobody at the port.
        """
        self.close()
        data, attempt = self.wanted.begin(last_event_id)
        connection = connect(self.port)
        try:
            connection.settimeout(self._silence)
            connection.sendall(data)
        except OSError:
            connection.close()
            raise
        self._socket = connection
        self.history.attempts.append(attempt)
        self._reading = Reading(attempt, keep_raw=self.wanted.keep_raw)

    def resume(self) -> None:
        """Make a new connection that goes on from the last id whose frame was complete; without one, as at first."""
        self.open(self.history.last_id)

    def read(self) -> bool:
        """Wait for bytes and record them. Gives whether the connection goes on.

        Raises:
            TimeoutError: Nothing came for as long as it is patient.
        """
        assert self._socket is not None, "open it first"
        assert self._reading is not None
        if self.history.attempts[-1].ended is not None:
            return False
        try:
            return self._reading.take(self._socket.recv(self._read_bytes))
        except ConnectionError as error:
            self._reading.lost(error)
            return False

    def read_until(self, told: Condition, seconds: float = PATIENCE) -> bool:
        """Read until the history fulfils a condition. Gives False where the connection ended before.

        Raises:
            AssertionError: The time is over.
        """
        deadline = time.monotonic() + seconds
        while not told(self.history):
            frames = self.history.attempts[-1].frames
            assert time.monotonic() < deadline, f"not told within {seconds:g} s: {frames[-3:]}"
            if not self.read():
                return told(self.history)
        return True

    def cut(self) -> None:
        """Reset the connection, as a network that fails does."""
        if self._socket is not None:
            # socket(7): with a linger time of 0 a close sends a reset.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection, if one is open. What was not read yet is lost."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            attempt = self.history.attempts[-1]
            attempt.ended = attempt.ended or "closed by the subscriber"


class AsyncSubscriber:
    """A subscriber of which one event loop holds a thousand: while it follows, it records whatever comes.

    Attributes:
        history: What it was told, over all its connections.
    """

    def __init__(self, port: int, wanted: Wanted) -> None:
        self.history = History(wanted.filters)
        self._port = port
        self._wanted = wanted
        self._writer: asyncio.StreamWriter | None = None
        self._stream: asyncio.StreamReader | None = None
        self._reading: Reading | None = None

    async def open(self, last_event_id: str | None = None) -> None:
        """Make a new connection, after closing one that is open.

        Raises:
            OSError: There is nobody at the port.
        """
        await self.close()
        data, attempt = self._wanted.begin(last_event_id)
        async with asyncio.timeout(PATIENCE):
            self._stream, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(data)
            await self._writer.drain()
        self.history.attempts.append(attempt)
        self._reading = Reading(attempt, keep_raw=self._wanted.keep_raw)

    async def resume(self) -> None:
        """Make a new connection that goes on from the last id whose frame was complete; without one, as at first."""
        await self.open(self.history.last_id)

    async def read(self) -> bool:
        """Wait for bytes and record them. Gives whether the connection goes on."""
        assert self._stream is not None, "open it first"
        assert self._reading is not None
        if self.history.attempts[-1].ended is not None:
            return False
        try:
            return self._reading.take(await self._stream.read(_READ_BYTES))
        except ConnectionError as error:
            self._reading.lost(error)
            return False

    async def read_until(self, told: Condition, seconds: float = PATIENCE) -> bool:
        """Read until the history fulfils a condition. Gives False where the connection ended before.

        Raises:
            AssertionError: The time is over.
        """
        try:
            async with asyncio.timeout(seconds):
                while not told(self.history):
                    if not await self.read():
                        return told(self.history)
        except TimeoutError as error:
            frames = self.history.attempts[-1].frames[-3:]
            raise AssertionError(f"not told within {seconds:g} s: {frames}") from error
        return True

    async def close(self) -> None:
        """Close the connection, if one is open. What was not read yet is lost."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
            attempt = self.history.attempts[-1]
            attempt.ended = attempt.ended or "closed by the subscriber"
            # One turn of the loop, in which the transport lets go of its socket.
            await asyncio.sleep(0)
