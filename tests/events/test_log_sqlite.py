"""The SQLite log keeps the contract, and what only a file can break: trouble with it, and other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oscd.errors import NotFound, StartRefused, Unavailable
from oscd.events.event import ORIGIN_BEGAN, Draft, EventRef, EventType, Recorded
from oscd.events.log import Reading, Writing
from oscd.events.sqlite import schema, transaction
from oscd.events.sqlite.batch import MAX_BYTES
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.file import KeptOpen, LogFile, Room, WriteLock
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import verify_chain
from tests.events.log_contract import (
    LogContract,
    LogUnderTest,
    SteppedClock,
    append,
    draft,
    every_event,
)


class Noted:
    """Projections that note the offsets they were told."""

    version = 1

    def create(self, store: sqlite3.Connection) -> None:
        store.execute("DROP TABLE IF EXISTS applied")
        store.execute("CREATE TABLE applied (n INTEGER)")

    def apply(self, store: sqlite3.Connection, recorded: Recorded) -> None:
        store.execute("INSERT INTO applied VALUES (?)", (recorded.offset,))

    def apply_all(self, store: sqlite3.Connection, recorded: Sequence[Recorded]) -> None:
        for one in recorded:
            self.apply(store, one)


def applied(reading: Reading[Any]) -> list[int]:
    return [n for (n,) in reading.store.execute("SELECT n FROM applied ORDER BY n")]


def open_log(
    path: Path, clock: SteppedClock, room: Room | None = None, begin_seconds: float = 30
) -> SqliteLog:
    prepared = prepare(path, node_id="node-a", projections=Noted())
    log = SqliteLog(
        prepared.file,
        projections=Noted(),
        clock=clock,
        room=room,
        begin_seconds=begin_seconds,
    )
    log.start()
    return log


@pytest.fixture
async def log_under_test(tmp_path: Path) -> AsyncIterator[LogUnderTest]:
    clock = SteppedClock()
    log = open_log(tmp_path / "log.db", clock)
    origin = await log.write(lambda writing: writing.origin, size=0)

    yield LogUnderTest(log, applied, clock, origin)
    await log.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = open_log(tmp_path / "log.db", SteppedClock())
    yield log
    await log.close()


class TestSqliteLog(LogContract):
    """Every test of the contract."""


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Lock the database as another program might."""
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        stranger.execute("ROLLBACK")
        stranger.close()


async def test_a_strangers_lock_is_503_and_passes(log: SqliteLog) -> None:
    """While another program holds the database writes are refused; reads go on, and writes do when it lets go."""
    await append(log, draft("before"))
    with exclusively(log.file.path):
        with pytest.raises(Unavailable, match="locked by another program"):
            await append(log, draft("refused"))
        assert [r.event.key for r in await every_event(log)] == ["before"]
    await append(log, draft("after"))
    assert [r.event.key for r in await every_event(log)] == ["before", "after"]


async def test_nothing_is_acknowledged_into_a_file_that_was_moved(log: SqliteLog, tmp_path: Path) -> None:
    """While the path leads elsewhere writes are refused; service returns when the same file is back."""
    await append(log, draft("before"))
    away = tmp_path / "away.db"
    log.file.path.rename(away)
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        await append(log, draft("refused"))
    assert await log.probe() is not None
    shutil.copy(away, log.file.path)
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        await append(log, draft("refused, as a copy is not the file"))
    away.rename(log.file.path)
    assert await log.probe() is None
    await append(log, draft("after"))
    assert [r.event.key for r in await every_event(log)] == ["before", "after"]


async def test_each_commit_that_appended_is_told_before_its_answers(tmp_path: Path) -> None:
    """Invariant 4: after the commit, and how many events of all writers went in together; what appends none, or was
    not committed, is not told.
    """
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=Noted())
    told: list[int] = []
    seen: list[int] = []

    def committed(events: int, seconds: float) -> None:
        asyncio.get_running_loop()  # raises on any thread but that of the event loop
        assert 0 < seconds < 60
        told.append(events)
        with closing(sqlite3.connect(prepared.file.path)) as other:
            assert other.execute("SELECT count(*) FROM events").fetchone() == (sum(told),)

    log = SqliteLog(
        prepared.file,
        projections=Noted(),
        clock=SteppedClock(),
        committed=committed,
    )
    log.start()

    async def write(*drafts: Draft) -> None:
        await append(log, *drafts)
        seen.append(sum(told))

    await asyncio.gather(write(draft("a")), write(draft("b"), draft("c")))
    assert (sum(told), seen) == (3, [3, 3])
    assert await log.probe() is None
    assert await log.write(lambda writing: writing.head(), size=0) == 3
    with pytest.raises(ZeroDivisionError):
        await log.write(lambda writing: (writing.append([draft("undone")]), 1 // 0), size=1)
    with exclusively(log.file.path), pytest.raises(Unavailable):
        await append(log, draft("refused"))
    away = tmp_path / "away.db"
    log.file.path.rename(away)
    with pytest.raises(Unavailable):
        await append(log, draft("refused"))
    away.rename(log.file.path)
    assert sum(told) == 3
    await log.close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_nothing_is_acknowledged_without_the_files_beside(tmp_path: Path, suffix: str) -> None:
    """While the write-ahead log or its index is not the one all workers share, no write is acknowledged."""
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=Noted())
    kept = KeptOpen(prepared.file)
    log = SqliteLog(kept.file, projections=Noted(), clock=SteppedClock())
    log.start()
    await append(log, draft("before"))
    beside, away = Path(f"{log.file.path}{suffix}"), tmp_path / "away"
    beside.rename(away)
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        await append(log, draft("refused"))
    beside.write_bytes(b"")
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        await append(log, draft("refused, as another file is there"))
    away.replace(beside)
    await append(log, draft("after"))
    assert [r.event.key for r in await every_event(log)] == ["before", "after"]
    await log.close()
    kept.close()
    assert not kept.file.wal_path.exists()


async def test_another_file_at_the_path_is_not_even_opened(log: SqliteLog, tmp_path: Path) -> None:
    """A restored copy put over the path of a running node is refused before SQLite could pair it with the WAL."""
    await append(log, draft("before"))
    copy = tmp_path / "copy.db"
    prepare(copy, node_id="node-a", projections=Noted())
    before = copy.read_bytes()
    copy.replace(log.file.path)
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        log.file.connect()
    assert log.file.path.read_bytes() == before


async def test_a_removed_lock_file_stops_writes(tmp_path: Path) -> None:
    """While the lock file is not the one all workers share, nothing is written under another."""
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=Noted())
    kept = KeptOpen(prepared.file)
    log = SqliteLog(kept.file, projections=Noted(), clock=SteppedClock())
    log.start()
    log.file.lock_path.unlink()
    with pytest.raises(Unavailable, match="moved, deleted or replaced"):
        await append(log, draft("refused"))
    await log.close()
    kept.close()


async def test_a_full_file_loses_the_batch_and_nothing_else(log: SqliteLog) -> None:
    """Invariant 3: a batch that hits the size limit leaves no event without its projection."""
    await append(log, draft("before"))

    def limit(writing: Writing[sqlite3.Connection]) -> None:
        pages = writing.store.execute("PRAGMA page_count").fetchone()[0]
        writing.store.execute(f"PRAGMA max_page_count = {pages + 2}")

    await log.write(limit, size=0)
    outcomes = await asyncio.gather(
        *(append(log, draft(f"k{n}", ciphertext=b"x" * 6000)) for n in range(8)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert refused
    assert "full" in refused[0].detail
    head, noted = await log.read(lambda reading: (reading.head(), applied(reading)))
    assert noted == list(range(1, head + 1))
    assert head == 1 + len(outcomes) - len(refused)
    await log.write(
        lambda writing: writing.store.execute("PRAGMA max_page_count = 100000").fetchone(), size=0
    )
    await append(log, draft("after"))


@pytest.mark.parametrize(
    ("room", "reason"),
    [(Room(min_free_bytes=2**62), "OSC_MIN_FREE_BYTES"), (Room(max_log_bytes=1), "OSC_MAX_LOG_BYTES")],
)
async def test_without_room_only_deletes_pass(tmp_path: Path, room: Room, reason: str) -> None:
    """Past either limit what would grow the log is refused by the limit's name, and deletes are not."""
    log = open_log(tmp_path / "log.db", SteppedClock(), room)
    with pytest.raises(Unavailable, match=reason):
        await append(log, draft("refused"))
    assert reason in (await log.probe() or "")
    await log.write(lambda writing: writing.append([draft("delete", ciphertext=None)]), size=0)
    assert await log.read(lambda reading: reading.head()) == 1
    await log.close()


@pytest.mark.parametrize("free", [False, True])
async def test_a_write_needs_room_by_its_size(tmp_path: Path, free: bool) -> None:
    """A write that would take the log past a limit is refused before it runs; a small one still passes."""
    disk = os.statvfs(tmp_path)
    left = 2**30
    log = open_log(
        tmp_path / "log.db",
        SteppedClock(),
        Room(min_free_bytes=disk.f_bavail * disk.f_frsize - left) if free else Room(max_log_bytes=left),
    )
    ran: list[int] = []
    with pytest.raises(Unavailable, match="OSC_M"):
        await log.write(lambda _: ran.append(1), size=left)
    assert ran == []
    await append(log, draft("small"))
    await log.close()


async def test_a_write_of_many_pages_is_one_write(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are taken a page at a time, each page reaches the projections, and all of them end in one commit."""
    monkeypatch.setattr(transaction, "APPEND_PAGE", 3)
    head_at: list[int] = []

    def run(writing: Writing[sqlite3.Connection]) -> list[int]:
        def coming() -> Iterator[Draft]:
            for n in range(8):
                head_at.append(writing.head())
                yield draft(f"k{n}")

        writing.append_many(coming(), 8)
        return applied(writing)

    assert await log.write(run, size=100) == list(range(1, 9))
    assert head_at == [0, 0, 0, 3, 3, 3, 6, 6]
    assert [r.event.last_seq for r in await every_event(log)] == [8] * 8


async def test_a_large_write_that_fails_is_undone_without_a_savepoint(log: SqliteLog) -> None:
    """Alone in its batch it is its own transaction: where it raises, or the file is full, nothing of it stays."""
    await log.write(
        lambda writing: writing.append_many((draft(f"k{n}") for n in range(3_000)), 3_000), size=1
    )
    scattered = random.Random(7).sample(range(3_000), 300)

    def fail(writing: Writing[sqlite3.Connection]) -> None:
        writing.append_many((draft(f"k{n}", EventType.UPDATED) for n in scattered), 300)
        with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
            writing.store.execute("RELEASE command")
        raise NotFound("no")

    def overfill(writing: Writing[sqlite3.Connection]) -> None:
        pages = writing.store.execute("PRAGMA page_count").fetchone()[0]
        writing.store.execute(f"PRAGMA max_page_count = {pages + 2}")
        writing.append_many((draft(f"k{n}", EventType.UPDATED) for n in scattered), 300)

    def lose(writing: Writing[sqlite3.Connection]) -> None:
        writing.append([draft("lost")])
        writing.store.execute("ROLLBACK")  # As SQLite does where the disk is full, and nobody noticed.

    with pytest.raises(NotFound, match="no"):
        await log.write(fail, size=MAX_BYTES)
    with pytest.raises(Unavailable, match="not known"):
        await log.write(lose, size=MAX_BYTES)
    with pytest.raises(Unavailable, match="full"):
        await log.write(overfill, size=MAX_BYTES)
    await log.write(lambda writing: writing.store.execute("PRAGMA max_page_count = 100000"), size=0)
    (after,) = await append(log, draft("after"))
    assert (after.offset, after.event.seq) == (3_001, 3_001)
    assert await log.read(applied) == list(range(1, 3_002))


async def test_a_command_that_has_not_begun_in_time_never_runs(tmp_path: Path) -> None:
    """Where another worker holds the write lock too long, the command gets 503 and leaves no trace later."""
    log = open_log(tmp_path / "log.db", SteppedClock(), begin_seconds=0.1)
    lock = WriteLock(log.file.lock_path)
    with lock.held(), pytest.raises(Unavailable, match="busy"):
        await append(log, draft("too late"))
    lock.close()
    await log.close()
    log = open_log(tmp_path / "log.db", SteppedClock())
    await append(log, draft("in time"))
    assert [r.event.key for r in await every_event(log)] == ["in time"]
    await log.close()


async def test_a_closed_log_refuses_and_leaves_one_file(tmp_path: Path) -> None:
    """After close the write-ahead log is in the database, nothing is lost, and more writes are refused."""
    log = open_log(tmp_path / "log.db", SteppedClock())
    await append(log, draft("kept"))
    await log.close()
    assert not log.file.wal_path.exists()
    with pytest.raises(Unavailable, match="shutting down"):
        await append(log, draft("late"))


async def test_checkpoints_empty_the_wal_into_the_database(log: SqliteLog) -> None:
    """After a checkpoint the events are readable from the database file alone."""
    await append(log, draft("k"))
    await log.checkpoint()
    alone = sqlite3.connect(f"{log.file.path.as_uri()}?immutable=1", uri=True)
    assert alone.execute("SELECT key FROM events").fetchall() == [("k",)]
    alone.close()


def test_an_older_layout_is_migrated_in_one_transaction(tmp_path: Path) -> None:
    """A migration that fails half-way leaves the file as it was; one that works raises the layout."""
    connection = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    schema.migrate(connection)
    connection.execute("COMMIT")

    def add_table(to: sqlite3.Connection) -> None:
        to.execute("CREATE TABLE added (n)")

    def fail(to: sqlite3.Connection) -> None:
        to.execute("CREATE TABLE half (n)")
        raise RuntimeError

    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(RuntimeError):
        schema.migrate(connection, (*schema.MIGRATIONS, add_table, fail))
    connection.execute("ROLLBACK")
    assert schema.layout(connection) == len(schema.MIGRATIONS)
    connection.execute("BEGIN IMMEDIATE")
    schema.migrate(connection, (*schema.MIGRATIONS, add_table))
    connection.execute("COMMIT")
    assert schema.layout(connection) == len(schema.MIGRATIONS) + 1
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "added" in tables
    assert "half" not in tables
    connection.close()


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    """A file that a newer oscd wrote is refused with a line that says what to do, and not changed."""
    path = tmp_path / "log.db"
    prepare(path, node_id="node-a", projections=Noted())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StartRefused, match="layout 99"):
        prepare(path, node_id="node-a", projections=Noted())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE configurations (id INTEGER)", "oscd import-legacy"),
        ("CREATE TABLE something (id INTEGER)", "another program"),
    ],
)
def test_a_file_of_another_program_is_refused_untouched(tmp_path: Path, statement: str, said: str) -> None:
    """The original's database is refused with the command that takes it over; any other with its name."""
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute(statement)
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StartRefused, match=said):
        prepare(path, node_id="node-a", projections=Noted())
    assert path.read_bytes() == before
    assert not Path(f"{path}-wal").exists()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file that is not SQLite's is refused and left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk" * 100)
    with pytest.raises(StartRefused, match="cannot be used"):
        prepare(path, node_id="node-a", projections=Noted())
    assert path.read_text() == "remember the milk" * 100


def test_a_second_claim_on_a_log_is_refused(tmp_path: Path) -> None:
    """Two nodes on one file: the second is told so; once the first lets go it may."""
    first = NodeClaim(tmp_path / "log.db")
    with pytest.raises(StartRefused, match="another oscd"):
        NodeClaim(tmp_path / "log.db")
    first.release()
    NodeClaim(tmp_path / "log.db").release()


def test_other_projections_are_projected_anew(tmp_path: Path) -> None:
    """A log that was projected by another version of the tables is replayed at the next start."""

    async def fill() -> None:
        log = open_log(tmp_path / "log.db", SteppedClock())
        await append(log, draft("a"), draft("b"))
        await log.close()

    asyncio.run(fill())
    newer = Noted()
    newer.version = 2
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=newer)
    connection = prepared.file.connect()
    assert connection.execute("SELECT n FROM applied").fetchall() == [(1,), (2,)]
    connection.close()


def test_a_renamed_node_begins_a_new_origin(tmp_path: Path) -> None:
    """Invariant 2: under another node id the log appends to an incarnation of its own, from seq 1."""
    first = prepare(tmp_path / "log.db", node_id="node-a", projections=Noted()).origin
    assert prepare(tmp_path / "log.db", node_id="node-a", projections=Noted()).origin == first
    renamed = prepare(tmp_path / "log.db", node_id="node-b", projections=Noted())
    assert renamed.origin.node_id == "node-b"
    assert renamed.origin.incarnation != first.incarnation
    assert renamed.is_empty, "an origin that wrote nothing did not end anywhere"


async def test_a_new_origin_names_where_the_old_one_ended(tmp_path: Path) -> None:
    """Invariant 9: the first event of an incarnation that follows another one names the last event of that."""
    path = tmp_path / "log.db"
    log = open_log(path, SteppedClock())
    old = [
        recorded.event.ref for recorded in [*await append(log, draft("a")), *await append(log, draft("b"))]
    ]
    await log.close()
    origin = prepare(path, node_id="node-b", projections=Noted()).origin
    assert prepare(path, node_id="node-b", projections=Noted()).origin == origin
    back = prepare(path, node_id="node-a", projections=Noted())
    with closing(back.file.connect(read_only=True)) as connection:
        events = [recorded.event for recorded in SqliteReading(connection).events(0, 10)]
        assert list(verify_chain(connection, lambda _: None)) == []
    assert back.origin not in (origin, old[0].origin)
    assert [(event.type, event.origin, event.seq, event.replaces) for event in events[2:]] == [
        (ORIGIN_BEGAN, origin, 1, old[-1]),
        (ORIGIN_BEGAN, back.origin, 1, EventRef(origin, 1)),
    ]


def write_back_to_back(file: LogFile, barrier: Any, stop_at: int, result: Any) -> None:  # noqa: ANN401
    """One process of the fairness test: commit as fast as it can until the log has `stop_at` events."""

    async def run() -> int:
        log = SqliteLog(file, projections=Noted(), clock=SteppedClock())
        log.start()
        barrier.wait(60)
        mine = 0
        while (await append(log, draft(f"{os.getpid()}-{mine}")))[0].offset < stop_at:
            mine += 1
        await log.close()
        return mine

    result.put(asyncio.run(run()))


def test_processes_share_the_log_fairly(tmp_path: Path) -> None:
    """Four processes that write back to back each get at least 15 % of the commits, and none is lost."""
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=Noted())
    context = multiprocessing.get_context("spawn")
    barrier, result = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=write_back_to_back, args=(prepared.file, barrier, 2000, result))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    shares = [result.get(timeout=100) for _ in processes]
    for process in processes:
        process.join(30)
    print(f"commits of each process: {shares}")
    assert min(shares) >= 0.15 * sum(shares)
    connection = prepared.file.connect()
    assert (
        connection.execute('SELECT count(*), max(seq), max("offset") FROM events').fetchone()
        == (sum(shares) + 4,) * 3
    )
    connection.close()
