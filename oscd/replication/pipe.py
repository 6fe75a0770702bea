"""Owns the way from the bytes of one stream to what is done with them: read, cut, handed over, all at once.

While one batch is committed the next is cut, and bytes are read meanwhile, up to a bound; then the peer waits, as TCP
has it. Must not know what is done with a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol

from oscd.replication.calls import SILENCE_SECONDS
from oscd.replication.reception import Received, Reception
from oscd.replication.trouble import PeerTrouble
from oscd.replication.writes import LargeWrite

INBOX_BYTES: Final = 1024 * 1024
"""Read ahead at most: enough that a commit takes in many events while there is a backlog."""

LEAST_BYTES_PER_SECOND: Final = 64 * 1024
"""Of a frame or a write that takes longer than a silence may: less is a drip."""

_AT_ONCE_BYTES: Final = 4096
"""So few bytes are cut on the event loop, in well under a millisecond; more in a thread."""

Handle = Callable[[Received], Awaitable[None]]


class Arriving(Protocol):
    """Bytes as they arrive; see `oscd.replication.calls.Stream`."""

    async def read(self) -> bytes:
        """The next ones; never none."""


async def deliver(stream: Arriving, reception: Reception, handle: Handle) -> NoReturn:
    """Hand over what becomes whole, in order, one after the other, until the stream fails.

    What came before it failed is handed over first.

    Raises:
        PeerTrouble: It ended, was silent, or drips.
        PeerRefused: It is not what a peer sends.
        OSError: The disk does not take a large write.
        Exception: Whatever `handle` raises.
    """
    inbox = _Inbox()
    ready: asyncio.Queue[Received | Exception] = asyncio.Queue(1)
    tasks = {
        asyncio.ensure_future(_read(stream, inbox)),
        asyncio.ensure_future(_cut(inbox, reception, ready)),
    }
    try:
        while True:
            item = await ready.get()
            if isinstance(item, Exception):
                raise item
            try:
                await handle(item)
            finally:
                _let_go(item)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        reception.close()
        while not ready.empty():
            _let_go(ready.get_nowait())


class _Inbox:
    """Bytes that were read and not cut yet, and what ended the reading."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._size < INBOX_BYTES)
            self._parts.append(data)
            self._size += len(data)
            self._changed.notify_all()

    async def fail(self, failure: Exception) -> None:
        """No more comes."""
        async with self._changed:
            self._failure = failure
            self._changed.notify_all()

    async def take(self) -> bytes:
        """All that is there, once there is anything.

        Raises:
            Exception: Nothing is, and nothing comes any more.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._size > 0 or self._failure is not None)
            if self._failure is not None and not self._size:
                raise self._failure
            data = b"".join(self._parts)
            self._parts, self._size = [], 0
            self._changed.notify_all()
        return data


async def _read(stream: Arriving, inbox: _Inbox) -> None:
    try:
        while True:
            await inbox.put(await stream.read())
    except Exception as failure:
        await inbox.fail(failure)


async def _cut(inbox: _Inbox, reception: Reception, ready: asyncio.Queue[Received | Exception]) -> None:
    pace = _Pace()
    try:
        while True:
            began = time.monotonic()
            data = await inbox.take()
            waited = time.monotonic() - began
            items: deque[Received] = deque()
            failure = await _cut_in_place(reception, data, items)
            pace.note(len(data), waited, progressed=bool(items))
            await _put_all(items, ready)
            if failure is not None:
                raise failure
    except Exception as failure:
        await ready.put(failure)


async def _put_all(items: deque[Received], ready: asyncio.Queue[Received | Exception]) -> None:
    try:
        while items:
            await ready.put(items[0])
            items.popleft()
    finally:
        for item in items:
            _let_go(item)


async def _cut_in_place(reception: Reception, data: bytes, items: deque[Received]) -> Exception | None:
    """Cut on the loop or in a thread; whoever is cancelled meanwhile waits for the thread, which cannot be.

    Args:
        items: Take what has become whole; also where what follows is not to be had, which is given.
    """
    if len(data) <= _AT_ONCE_BYTES:
        return _cut_now(reception, data, items)
    cutting = asyncio.get_running_loop().run_in_executor(None, _cut_now, reception, data, items)
    try:
        return await asyncio.shield(cutting)
    except asyncio.CancelledError:
        await asyncio.wait({cutting})
        for item in items:
            _let_go(item)
        raise


def _cut_now(reception: Reception, data: bytes, items: deque[Received]) -> Exception | None:
    failure: Exception | None = None
    try:
        # One by one: what has come of them before one that fails is not lost.
        for item in reception.feed(data):
            items.append(item)
    except Exception as error:
        failure = error
    if (rest := reception.pending()) is not None:
        items.append(rest)
    return failure


def _let_go(item: Received | Exception) -> None:
    if isinstance(item, LargeWrite):
        item.close()


class _Pace:
    """Tells a peer that drips from one that sends something large."""

    def __init__(self) -> None:
        self._bytes = 0
        self._waited = 0.0

    def note(self, size: int, waited: float, *, progressed: bool) -> None:
        """So many bytes came after so many seconds of waiting for them.

        Raises:
            PeerTrouble: Nothing has become whole for too long, for what came.
        """
        self._bytes, self._waited = (0, 0.0) if progressed else (self._bytes + size, self._waited + waited)
        if self._waited > SILENCE_SECONDS + self._bytes / LEAST_BYTES_PER_SECOND:
            raise PeerTrouble(
                f"it sends less than {LEAST_BYTES_PER_SECOND >> 10} KiB a second of what it began"
            )
