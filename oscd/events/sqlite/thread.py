"""Owns a connection and the one thread that uses it. Must not know what runs there.

aiosqlite is that thread. A hop to it costs as much as seventy point selects, so whole functions go there, not
single statements.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import aiosqlite

Result = TypeVar("Result")


class _NotOpened:
    """What stands for a connection that could not be opened, until its thread has been ended.

    Were the error raised there, aiosqlite would end the thread without waiting for it, and a loop that closes
    meanwhile makes that thread fail in turn.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def close(self) -> None:
        """As aiosqlite calls it."""


class ConnectionThread:
    """A connection that is opened, used and closed on a thread of its own, and can be opened anew.

    Args:
        connect: Opens it.
        close: Closes it.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        close: Callable[[sqlite3.Connection], None] = sqlite3.Connection.close,
    ) -> None:
        self._connect = connect
        self._close = close
        self._connection: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()

    async def run(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `function` with the connection, opening it first where it is not open.

        Raises:
            sqlite3.Error, OSError, Unavailable: The connection cannot be opened.
            Exception: Whatever `function` raises.
        """
        connection = self._connection or await self._open()
        # aiosqlite has no public call that runs a function on its thread; all of its own calls go this way.
        result: Result = await connection._execute(function, connection._conn)  # type: ignore[no-untyped-call]
        return result

    async def _open(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._connection is None:
                connection = await aiosqlite.Connection(self._attempt, iter_chunk_size=64)  # type: ignore[arg-type]
                opened: object = connection._conn
                if isinstance(opened, _NotOpened):
                    await connection.close()
                    raise opened.error
                self._connection = connection
            return self._connection

    def _attempt(self) -> sqlite3.Connection | _NotOpened:
        try:
            return self._connect()
        except Exception as error:
            return _NotOpened(error)

    async def close(self) -> None:
        """Close the connection and end its thread; the next `run` opens both anew."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # A disk in trouble may refuse even the close; the thread ends all the same.
        with suppress(sqlite3.Error, OSError):
            await connection._execute(self._close, connection._conn)  # type: ignore[no-untyped-call]
        await connection.close()
