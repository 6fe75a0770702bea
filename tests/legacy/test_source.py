"""The original's database is read as it is, and never changed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from oscd.legacy.errors import ImportRefused
from oscd.legacy.row import Row, Unfit
from oscd.legacy.source import MAX_EXAMPLES, LegacyDatabase, Survey
from tests.support.original import LOOSE_TABLE, Stored, make_original, snapshot

NOW = 2_000_000_000_000_000
LATER = "2025-01-02 03:04:05.123457"


def rows_of(path: Path) -> list[Row | Unfit]:
    with LegacyDatabase(path) as source:
        return list(source.rows())


def ids_of(path: Path) -> list[int]:
    return [row.id for row in rows_of(path)]


def in_wal_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def test_rows_come_in_the_order_of_their_last_write(tmp_path: Path) -> None:
    """By updated_at, then by id; a row that tells no time comes first."""
    rows = [
        Stored(1, "c", updated_at=LATER),
        Stored(2, "b"),
        Stored(3, "a"),
        Stored(4, "d", created_at=None, updated_at=None),
        Stored(5, "e", created_at="2024-12-31 00:00:00", updated_at=None),
    ]
    assert ids_of(make_original(tmp_path, rows, table=LOOSE_TABLE)) == [4, 5, 2, 3, 1]


@pytest.mark.parametrize("as_blob", [False, True])
def test_a_token_may_be_text_or_bytes(tmp_path: Path, as_blob: bool) -> None:
    """Both column types have been written by the original's versions."""
    row = Stored(1, "a", {"x": 1})
    token = row.columns()[2]
    path = make_original(tmp_path, [Stored(1, "a", token=token.encode() if as_blob else token)])

    (found,) = rows_of(path)

    assert isinstance(found, Row)
    assert found.token == token.encode()


@pytest.mark.parametrize("wal", [False, True])
def test_reading_changes_nothing(tmp_path: Path, wal: bool) -> None:
    """No byte, no time and no file of the source's directory changes, in either journal mode."""
    path = make_original(tmp_path, [Stored(number, f"key-{number}") for number in range(1, 50)])
    if wal:
        in_wal_mode(path)
    before = snapshot(tmp_path)

    with LegacyDatabase(path) as source:
        assert source.survey(NOW) == Survey(rows=49, unfit=0, examples=(), from_future=0)
        assert snapshot(tmp_path) == before
        source.require_unchanged()

    assert snapshot(tmp_path) == before


def test_writes_that_are_only_in_the_write_ahead_log_are_not_overlooked(tmp_path: Path) -> None:
    """A database whose `-wal` is still there is refused with what to do, untouched; done, it can be read."""
    live = make_original(tmp_path / "live", [Stored(1, "a")])
    in_wal_mode(live)
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("UPDATE configurations SET category = 'late'")
        connection.commit()
        # As a crash leaves them: copied while a program has them open.
        shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    path = tmp_path / "crashed" / live.name
    path.with_name(f"{path.name}-shm").unlink()
    before = snapshot(path.parent)

    with pytest.raises(ImportRefused, match=r"configurations\.db-wal.*journal_mode=DELETE"):
        LegacyDatabase(path)

    assert snapshot(path.parent) == before
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    (row,) = rows_of(path)
    assert isinstance(row, Row)
    assert row.category == "late"


def test_an_interrupted_write_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """A hot rollback journal can only be played back by writing: refused with what to do, untouched."""
    live = make_original(tmp_path / "live", [Stored(n, f"key-{n}") for n in range(1, 200)])
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("UPDATE configurations SET category = 'half'")
        shutil.copytree(tmp_path / "live", tmp_path / "crashed")
        connection.rollback()
    path = tmp_path / "crashed" / live.name
    assert path.read_bytes() != live.read_bytes(), "the transaction did not reach the file"
    before = snapshot(path.parent)

    with pytest.raises(ImportRefused, match=r"-journal.*journal_mode=DELETE"):
        LegacyDatabase(path)

    assert snapshot(path.parent) == before
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    assert all(isinstance(row, Row) and row.category is None for row in rows_of(path))


def test_a_database_that_is_being_written_is_refused(tmp_path: Path) -> None:
    """While a program commits nothing can be read: it says to stop the original."""
    path = make_original(tmp_path, [Stored(1, "a")])
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ImportRefused, match="stop OpenSecureConf"):
            LegacyDatabase(path)


@pytest.mark.parametrize("wal", [False, True])
def test_a_write_during_the_reading_is_noticed(tmp_path: Path, wal: bool) -> None:
    """Whoever writes the source meanwhile, be it into a `-wal`, stops the import."""
    path = make_original(tmp_path, [Stored(1, "a")])
    if wal:
        in_wal_mode(path)
    with LegacyDatabase(path) as source:
        if wal:
            writer = sqlite3.connect(path)
            writer.execute("DELETE FROM configurations")
            writer.commit()
        else:
            writer = None
            with path.open("ab") as file:
                file.write(b"x")
        with pytest.raises(ImportRefused, match="while it was read"):
            source.require_unchanged()
        if writer is not None:
            writer.close()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("CREATE TABLE other (id INTEGER PRIMARY KEY)", "no table `configurations`"),
        ("CREATE TABLE configurations (id INTEGER PRIMARY KEY, key TEXT, encrypted_value TEXT)", "lacks"),
        (LOOSE_TABLE.replace("id INTEGER PRIMARY KEY", "id INTEGER"), "no primary key"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, table: str, message: str) -> None:
    """Another program's file, an older version's, a hand-made one: each is told what is wrong."""
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(table)
    with pytest.raises(ImportRefused, match=message):
        LegacyDatabase(path)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty, foreign or damaged file is refused with one line."""
    path = tmp_path / "some.db"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match="--database"):
        LegacyDatabase(path)
    assert snapshot(tmp_path).keys() == {"some.db"}


def test_of_two_rows_for_one_entry_the_later_one_is_fit(tmp_path: Path) -> None:
    """Without the original's constraint rows may collide: the older one is unfit, whatever the order of ids."""
    rows = [
        Stored(1, "a", updated_at=LATER),
        Stored(2, "a"),
        Stored(3, "a", environment="staging"),
        Stored(4, "b"),
        Stored(5, b"b"),
    ]
    path = make_original(tmp_path, rows, table=LOOSE_TABLE)

    unfit = [row for row in rows_of(path) if isinstance(row, Unfit)]

    assert [row.id for row in unfit] == [2, 4]
    assert {row.reason for row in unfit} == {"another row for the same key and environment was written later"}


def test_a_survey_counts_everything_and_names_the_first(tmp_path: Path) -> None:
    """However many rows are unfit, only `MAX_EXAMPLES` are named; rows from the future are counted."""
    unfit = [Stored(number, "") for number in range(1, MAX_EXAMPLES + 6)]
    rows = [*unfit, Stored(90, "a"), Stored(91, "b", updated_at="2999-01-01 00:00:00.000000")]
    with LegacyDatabase(make_original(tmp_path, rows, table=LOOSE_TABLE)) as source:
        survey = source.survey(NOW)
    assert (survey.rows, survey.unfit, survey.from_future) == (MAX_EXAMPLES + 7, MAX_EXAMPLES + 5, 1)
    assert len(survey.examples) == MAX_EXAMPLES
