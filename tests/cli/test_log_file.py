"""How a log that was named is read: as it is, without a trace; or through SQLite where somebody may write it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.log_file import reading
from oscd.cli.main import commands
from oscd.errors import StartRefused
from oscd.events.salt import salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import NodeClaim, is_claimed
from oscd.events.sqlite.reading import SqliteReading
from oscd.snapshots.copying import extent_of
from oscd.snapshots.take import take_snapshot
from tests.projections.history import Step, log_with, run_more
from tests.snapshots.logs import SALT, salted_log

HISTORY: list[Step] = [("create", "prod", "a", "db"), ("update", "prod", "a", "web")]
MORE: list[Step] = [("update", "prod", "a", "")]


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Path]:
    """A directory that cannot be written, with a copy of a log and a snapshot."""
    directory = tmp_path / "evidence"
    directory.mkdir()
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        take_snapshot(log, extent_of(log, None), SALT, directory / "snap.db", lambda _: None)
    shutil.copy(tmp_path / "log.db", directory / "copy.db")
    directory.chmod(0o555)
    yield directory
    directory.chmod(0o755)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["copy.db", "snap.db"])
def test_evidence_is_read_without_a_trace(evidence: Path, name: str) -> None:
    """Where nothing can be written nothing has to be, and where root could (as tests may run), nothing is."""
    before = contents(evidence)
    assert set(before) == {"copy.db", "snap.db"}
    for arguments in (
        ["verify", name],
        ["log", name],
        ["restore", "snap.db", "--to", str(evidence.parent / "n")],
    ):
        arguments[1] = str(evidence / arguments[1])
        done = CliRunner().invoke(commands, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        assert contents(evidence) == before


def head(path: Path) -> int:
    with reading(path, is_copy=True) as log:
        return SqliteReading(log).head()


def test_what_a_write_ahead_log_holds_is_read(tmp_path: Path) -> None:
    """A log that was copied with its `-wal`, or is in use, is read with what only that holds."""
    with log_with(tmp_path / "log.db", HISTORY):
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"log.db{suffix}", tmp_path / f"copy.db{suffix}")
        assert head(tmp_path / "log.db") == 2
        assert head(tmp_path / "copy.db") == 2


def test_a_claimed_log_is_read_through_sqlite(tmp_path: Path) -> None:
    """What its node writes from now on is seen, though the `-wal` is empty now; a claim is looked at, not taken."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY):
        pass
    assert not is_claimed(path)
    claim = NodeClaim(path)
    assert is_claimed(path)
    with reading(path, is_copy=True) as log:
        assert SqliteReading(log).head() == 2
        with closing(sqlite3.connect(path, isolation_level=None)) as node:
            run_more(node, MORE)
        assert SqliteReading(log).head() == 3
    claim.release()
    assert not is_claimed(path)
    NodeClaim(path).release()


def test_a_copy_that_is_written_meanwhile_is_refused(tmp_path: Path) -> None:
    """Pages of before and after tell nothing of either."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY):
        pass
    with pytest.raises(StartRefused, match="written while it was read"):
        write_while_read(path)


def write_while_read(path: Path) -> None:
    with reading(path, is_copy=True), closing(sqlite3.connect(path, isolation_level=None)) as other:
        schema.write_meta(other, "salt_digest", salt_digest(SALT))
