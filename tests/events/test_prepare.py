"""Starts on the log of an older oscd, and on one whose numbering a cluster may know better."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from oscd.errors import StartRefused, Unavailable
from oscd.events.event import Origin
from oscd.events.origins import MAX_ORIGINS_TO_BEGIN
from oscd.events.sqlite import schema
from oscd.events.sqlite.prepare import prepare
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.events.standing import Standing
from oscd.projections.sqlite import VERSION, SqliteProjections
from tests.projections.history import Step, run, run_more
from tests.snapshots.logs import events_of, tables_of

HISTORY: list[Step] = [
    ("create", "prod", "a", "db"),
    ("create", "dev", "a", ""),
    ("update", "prod", "a", "web"),
    ("delete", "dev", "a", ""),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of layout 1, as the node `tested` left it."""
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        log.execute("PRAGMA journal_mode = WAL").fetchone()
        log.execute("BEGIN IMMEDIATE")
        schema.migrate(log, schema.MIGRATIONS[:1])
        SqliteProjections().create(log)
        schema.write_meta(log, "projections", VERSION)
        clock = itertools.count(1_700_000_000_000_000)
        origin = schema.begin_own_origin(log, "tested")
        writing = SqliteWriting(
            log, origin=origin, projections=SqliteProjections(), clock=lambda: next(clock)
        )
        for number, step in enumerate(HISTORY):
            run(writing, step, number)
        log.execute("COMMIT")
        assert schema.layout(log) == 1
    return path


def indexed(log: sqlite3.Connection) -> list[str]:
    """The columns of the index of an entry's events."""
    return [name for _, _, name in log.execute("PRAGMA index_info(events_by_entry)")]


def test_a_log_of_layout_1_is_brought_up_to_date(path: Path) -> None:
    """The index names origins afterwards; events, tables and origin stay, and it verifies and is written on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        before = (events_of(log), tables_of(log), schema.own_origin(log))
        assert indexed(log) == ["environment", "key", "stamp"]
    origin = prepare(path, node_id="tested", projections=SqliteProjections()).origin
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        assert schema.layout(log) == len(schema.MIGRATIONS)
        assert indexed(log) == ["environment", "key", "stamp", "origin"]
        assert (events_of(log), tables_of(log), origin) == before
        run_more(log, [("update", "prod", "a", ""), ("create", "dev", "a", "")])
        assert SqliteReading(log).head() == 6
    told = CliRunner().invoke(commands, ["verify", str(path)])
    assert (told.exit_code, "6 events verified" in told.output) == (0, True), told.output


def test_a_migration_sorts_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new index of ten million events would take a gigabyte of memory."""
    stores: list[int] = []

    def watched(log: sqlite3.Connection) -> None:
        stores.extend(log.execute("PRAGMA temp_store").fetchone())
        migrate(log)

    migrate = schema.migrate
    monkeypatch.setattr(schema, "migrate", watched)
    prepared = prepare(path, node_id="tested", projections=SqliteProjections())
    with closing(prepared.file.connect()) as log:
        stores.extend(log.execute("PRAGMA temp_store").fetchone())
    assert stores == [1, 2], "1 is a file, 2 is memory"


def test_a_clustered_log_without_an_own_event_begins_another_origin(tmp_path: Path) -> None:
    """It may have been put back from its first minute, and peers may know events of that origin (invariant 9)."""
    path = tmp_path / "log.db"
    first = prepare(path, node_id="tested", projections=SqliteProjections(), asks=True)
    again = prepare(path, node_id="tested", projections=SqliteProjections(), asks=True)
    assert again.origin != first.origin
    with closing(again.file.connect()) as log:
        reading = SqliteReading(log)
        assert (reading.origin_count(), reading.own().standing) == (1, Standing.CONTINUES)


def know_origins(path: Path, count: int) -> None:
    """Have a log hold one event of each of so many other origins."""
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        log.execute("BEGIN IMMEDIATE")
        for number in range(count):
            origin = Origin("node-x", f"{number:016x}")
            schema.note_origin(log, origin)
            writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 1)
            run(writing, ("create", "prod", origin.incarnation, ""), number)
        log.execute("COMMIT")


def test_a_log_of_too_many_origins_is_not_renamed(path: Path) -> None:
    """Other nodes would not take what it wrote under the new name; under its former one it goes on."""
    know_origins(path, MAX_ORIGINS_TO_BEGIN - 1)
    with pytest.raises(StartRefused, match="written as tested"):
        prepare(path, node_id="renamed", projections=SqliteProjections())
    prepared = prepare(path, node_id="tested", projections=SqliteProjections())
    with closing(prepared.file.connect()) as log:
        run_more(log, [("create", "prod", "more", "")])
        assert SqliteReading(log).origin_count() == MAX_ORIGINS_TO_BEGIN


@pytest.mark.parametrize("asks", [False, True])
def test_a_restored_log_of_too_many_origins_is_read_and_not_written(path: Path, asks: bool) -> None:
    """No start begins an origin that other nodes would not take, and each write is refused."""
    know_origins(path, MAX_ORIGINS_TO_BEGIN - 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        # As a restore leaves it.
        log.execute("UPDATE meta SET name = 'ended_origin' WHERE name = 'own_origin'")
    for _ in range(2):
        prepared = prepare(path, node_id="tested", projections=SqliteProjections(), asks=asks)
        with closing(prepared.file.connect()) as log:
            reading = SqliteReading(log)
            assert (reading.head(), reading.origin_count()) == (
                len(HISTORY) + MAX_ORIGINS_TO_BEGIN - 1,
                MAX_ORIGINS_TO_BEGIN + 1,
            )
            with pytest.raises(Unavailable, match="begin an origin"):
                run_more(log, [("create", "prod", "more", "")])
