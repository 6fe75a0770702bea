"""Owns the event log of one worker process: one connection that writes, one that reads, a batcher for each.

What is acknowledged is durable: an answer is given only after COMMIT has fsynced the write-ahead log and the
path was found to still lead to it (invariant 6). Must not know what a function decides or a projection holds.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from oscd.errors import Unavailable
from oscd.events.log import MicrosecondClock, Projections, Reading, Writing
from oscd.events.sqlite.batch import BEGIN_SECONDS, Batcher, Job
from oscd.events.sqlite.checkpoint import checkpoint
from oscd.events.sqlite.faults import CommitFailed, finish, needs_reopen, translated
from oscd.events.sqlite.file import LogFile, Room, WriteLock
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.thread import ConnectionThread
from oscd.events.sqlite.transaction import SqliteWriting

Result = TypeVar("Result")


class SqliteLog:
    """The log as one worker uses it; see `oscd.events.log.EventLog`.

    Args:
        file: The file, made by `prepare`.
        projections: What every appended event is applied to.
        clock: µs since 1970.
        room: How far the log may grow.
        begin_seconds: How long a command may wait for its turn.
        committed: Told of each commit that appended events, on the event loop, before the answers go out: how many,
            and how many seconds the transaction took.
    """

    def __init__(
        self,
        file: LogFile,
        *,
        projections: Projections[sqlite3.Connection],
        clock: MicrosecondClock,
        room: Room | None = None,
        begin_seconds: float = BEGIN_SECONDS,
        committed: Callable[[int, float], None] | None = None,
    ) -> None:
        self.file = file
        self._committed = committed
        self._begin = partial(SqliteWriting, projections=projections, clock=clock)
        self._room = room if room is not None else Room()
        self._lock = WriteLock(file.lock_path)
        self._writer = ConnectionThread(file.connect, self._close_locked)
        self._reader = ConnectionThread(partial(file.connect, read_only=True), self._close_locked)
        self._writes = Batcher(self._commit, begin_seconds=begin_seconds)
        self._reads = Batcher(self._view, begin_seconds=begin_seconds)

    def start(self) -> None:
        """Begin to serve. The file is opened with the first job, and anew after trouble with it."""
        self._writes.start()
        self._reads.start()

    async def close(self) -> None:
        """Finish what is queued and close both connections, under the write lock."""
        await self._writes.close()
        await self._reads.close()
        await self._reader.close()
        await self._writer.close()
        self._lock.close()

    async def read(
        self, function: Callable[[Reading[sqlite3.Connection]], Result], *, size: int = 0
    ) -> Result:
        """Run `function` on a view that holds every write acknowledged before the call.

        Args:
            size: Bytes it will return, so that what one view returns stays bounded.

        Raises:
            Unavailable: The log cannot be read right now.
            Exception: Whatever `function` raises.
        """
        return await self._reads.submit(function, size=size)

    async def write(self, function: Callable[[Writing[sqlite3.Connection]], Result], *, size: int) -> Result:
        """Run `function` in the write transaction; answer after its commit is durable.

        Raises:
            Unavailable: Nothing was appended.
            Exception: Whatever `function` raises; its own changes are undone.
        """
        return await self._writes.submit(function, size=size)

    async def settled(self) -> None:
        """Wait until no write runs that began before, whoever still waits for it."""
        await self._writes.settled()

    async def probe(self) -> str | None:
        """Why the log cannot be written right now, or None where it can."""
        try:
            await self.write(_touch, size=1)
        except Unavailable as trouble:
            return trouble.detail
        return None

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database, under the write lock. For the steward only.

        Raises:
            sqlite3.Error, OSError, Unavailable: Not now; nothing is lost.
        """
        if self.file.wal_size():
            await self._writer.run(self._checkpoint_on_thread)

    def _close_locked(self, connection: sqlite3.Connection) -> None:
        # The last connection to close checkpoints, so even that happens under the lock.
        with self._lock.held():
            connection.close()

    def _checkpoint_on_thread(self, connection: sqlite3.Connection) -> None:
        with self._lock.held():
            self.file.require_in_place()
            checkpoint(connection, self.file.wal_size())

    async def _commit(self, jobs: Sequence[Job]) -> None:
        events, seconds = await self._run(self._writer, partial(self._commit_on_thread, jobs))
        if events and self._committed is not None:
            self._committed(events, seconds)

    async def _view(self, jobs: Sequence[Job]) -> None:
        await self._run(self._reader, partial(_view_on_thread, jobs))

    async def _run(self, thread: ConnectionThread, batch: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            return await thread.run(batch)
        except (CommitFailed, sqlite3.Error, OSError) as error:
            if needs_reopen(error):
                await thread.close()
            raise translated(error) from error

    def _commit_on_thread(self, jobs: Sequence[Job], connection: sqlite3.Connection) -> tuple[int, float]:
        """Run a batch and commit it; gives how many events it appended, and the seconds that took."""
        begun = time.perf_counter()
        with self._lock.held():
            self.file.require_in_place()
            lack = self.file.lack_of_room(self._room, sum(job.size for job in jobs))
            connection.execute("BEGIN IMMEDIATE")
            try:
                writing = self._begin(connection)
                before = writing.tip.offset
                for job in jobs:
                    if not job.begin():
                        continue
                    if lack is not None and job.size:
                        job.error = Unavailable(f"Nothing was changed: {lack}; deletes are still accepted.")
                    elif len(jobs) == 1:
                        _run_alone(job, writing)
                    else:
                        _run_command(job, writing)
                finish(connection)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self.file.require_kept_in_place()
        return writing.tip.offset - before, time.perf_counter() - begun


def _run_alone(job: Job, writing: SqliteWriting) -> None:
    """Run the only function of a batch; where it raises, nothing is left of the transaction.

    It needs no savepoint, for which SQLite would keep a copy of every page that it touches: of a large import that
    overwrites here and there in a large log, 2.6 KB for each entry.

    Raises:
        sqlite3.Error: As `_run_command`.
    """
    connection, tip = writing.store, writing.tip
    try:
        job.result = job.function(writing)
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK")
        # Always committed, as a batch is: were there no transaction, as a full disk has ended it, that must fail.
        connection.execute("BEGIN")
        writing.rewind(tip)
        job.error = translated(error)


def _run_command(job: Job, writing: SqliteWriting) -> None:
    """Run one function of a batch; undo its changes alone where it raises.

    Raises:
        sqlite3.Error: SQLite has rolled the whole transaction back by itself (a full disk), so the batch is lost:
            what followed would autocommit one statement at a time.
    """
    connection, tip = writing.store, writing.tip
    connection.execute("SAVEPOINT command")
    try:
        job.result = job.function(writing)
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO command")
        writing.rewind(tip)
        job.error = translated(error)
    connection.execute("RELEASE command")


def _view_on_thread(jobs: Sequence[Job], connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    try:
        reading = SqliteReading(connection)
        for job in jobs:
            if job.begin():
                try:
                    job.result = job.function(reading)
                except Exception as error:
                    job.error = translated(error)
    finally:
        connection.execute("ROLLBACK")


def _touch(writing: Writing[sqlite3.Connection]) -> None:
    """Write a page, as the next append will."""
    writing.store.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', 0)")
