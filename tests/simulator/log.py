"""Owns the log of a simulated node: a real one, whose file is in memory, and whose disk may be put back or lost.

Its layout, its transactions and its projections are those that ship; only the threads, the locks and the fsync of
`oscd.events.sqlite.log` are not here. Must not know other nodes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from oscd.events.log import MicrosecondClock, Reading, Writing
from oscd.events.sqlite import schema
from oscd.events.sqlite.prepare import _own_origin
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.projections.sqlite import SqliteProjections

Result = TypeVar("Result")

_PROJECTIONS = SqliteProjections()


class Killed(Exception):
    """The process is no more, so nobody is answered."""


class MemoryFileLog:
    """The log of one node; see `oscd.events.log.EventLog`.

    Args:
        node_id: Whose it is.
        clock: µs since 1970, by that node's clock.
        committed: Told of each transaction that appended: the offset before it.
        dies: Whether the process is killed now; asked before and after each commit.
        asks: Whether it has peers.
    """

    def __init__(
        self,
        node_id: str,
        clock: MicrosecondClock,
        committed: Callable[[int], None],
        dies: Callable[[str], bool],
        *,
        asks: bool,
    ) -> None:
        self._node_id = node_id
        self._clock = clock
        self._committed = committed
        self._dies = dies
        self._asks = asks
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self.wipe()

    def prepare(self) -> None:
        """What a start does before it serves (`oscd.events.sqlite.prepare`)."""
        self._connection.execute("BEGIN IMMEDIATE")
        _own_origin(self._connection, self._node_id, _PROJECTIONS, self._asks)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Be done with it."""
        self._connection.close()

    def copy(self) -> bytes:
        """The file as it is."""
        return self._connection.serialize()

    def put_back(self, copy: bytes) -> None:
        """Be an older copy of the file."""
        self._connection.deserialize(copy)

    def wipe(self) -> None:
        """Be an empty file."""
        self._connection.deserialize(_empty())

    def reading(self) -> SqliteReading:
        """A view of what is committed."""
        return SqliteReading(self._connection)

    def change(self, function: Callable[[SqliteWriting], Result]) -> Result:
        """Run a function in a transaction of its own."""
        self._connection.execute("BEGIN IMMEDIATE")
        writing = SqliteWriting(self._connection, projections=_PROJECTIONS, clock=self._clock)
        head = writing.tip.offset
        try:
            result = function(writing)
            if self._dies("killed before commit"):
                raise Killed
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        if writing.tip.offset != head:
            self._committed(head)
        if self._dies("killed after commit"):
            raise Killed
        return result

    async def read(
        self, function: Callable[[Reading[sqlite3.Connection]], Result], *, size: int = 0
    ) -> Result:
        """See `oscd.events.log.EventLog`."""
        return function(self.reading())

    async def write(self, function: Callable[[Writing[sqlite3.Connection]], Result], *, size: int) -> Result:
        """See `oscd.events.log.EventLog`."""
        return self.change(function)


@cache
def _empty() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("BEGIN")
    schema.migrate(connection)
    _PROJECTIONS.create(connection)
    schema.write_meta(connection, "projections", _PROJECTIONS.version)
    connection.execute("COMMIT")
    try:
        return connection.serialize()
    finally:
        connection.close()


def at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine gives that never waits, as nothing does here.

    Raises:
        AssertionError: It waits.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise AssertionError("nothing waits in a simulation")
