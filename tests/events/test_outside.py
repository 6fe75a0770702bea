"""Writing to a log from outside a node: whether one serves it, starts, stops, or has another file by now."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from oscd.errors import StartRefused, Unavailable
from oscd.events.sqlite.claim import NodeClaim, served_file
from oscd.events.sqlite.faults import CommitFailed
from oscd.events.sqlite.file import KeptOpen, WriteLock
from oscd.events.sqlite.outside import transaction_beside
from oscd.events.sqlite.prepare import keep_open, prepare
from oscd.events.sqlite.schema import read_meta, write_meta
from oscd.projections.sqlite import SqliteProjections
from tests.events.no_commit import no_commit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return prepare(tmp_path / "log.db", node_id="tested", projections=SqliteProjections()).file.path


@contextmanager
def served(path: Path) -> Iterator[KeptOpen]:
    """What a node holds of its log while it serves."""
    claim = NodeClaim(path)
    kept = keep_open(prepare(path, node_id="tested", projections=SqliteProjections()).file)
    claim.note(kept.file)
    try:
        yield kept
    finally:
        kept.close()
        claim.release()


def write(path: Path, value: int, settle_seconds: float = 0) -> None:
    with transaction_beside(path, settle_seconds=settle_seconds) as log:
        write_meta(log, "tested", value)


def fail(path: Path) -> None:
    with transaction_beside(path) as log:
        write_meta(log, "tested", 3)
        log.execute("no statement")


def write_without_commit(path: Path) -> None:
    with transaction_beside(path) as log:
        write_meta(log, "tested", 3)
        no_commit(log)


def written(path: Path) -> object:
    with closing(sqlite3.connect(path)) as log:
        return read_meta(log, "tested")


def test_a_stopped_log_is_claimed_for_as_long_as_it_is_written(path: Path) -> None:
    """No node can start in between; afterwards one may, and what was written is in the one file."""
    with transaction_beside(path) as log:
        with pytest.raises(StartRefused, match="another oscd"):
            NodeClaim(path)
        write_meta(log, "tested", 1)
    NodeClaim(path).release()
    assert written(path) == 1
    assert not Path(f"{path}-wal").exists()


def test_a_node_that_starts_meanwhile_waits_for_it(path: Path) -> None:
    """A start that comes while the log is written from outside is not refused: it is its turn a moment later."""
    claims: list[NodeClaim] = []
    with transaction_beside(path):
        node = threading.Thread(target=lambda: claims.append(NodeClaim(path, wait_seconds=30)))
        node.start()
        assert not claims
    node.join(30)
    claims[0].release()


def test_a_served_log_is_written_beside_its_node(path: Path) -> None:
    """The node's files stay the ones it serves from, and its write-ahead log is not checkpointed at the end."""
    with served(path) as kept:
        write(path, 2)
        assert kept.file.is_in_place()
        assert kept.file.wal_size() > 0
        assert written(path) == 2


def test_what_fails_inside_changes_nothing(path: Path) -> None:
    """All that happened inside is undone, and the log is free again."""
    with pytest.raises(sqlite3.OperationalError):
        fail(path)
    assert written(path) is None
    NodeClaim(path).release()


def test_a_commit_that_fails_leaves_it_open_what_was_kept(path: Path) -> None:
    """Nobody may say that nothing was changed then; the log is free again."""
    with pytest.raises(CommitFailed) as failed:
        write_without_commit(path)
    assert str(failed.value.__cause__) == "not authorized"
    NodeClaim(path).release()


def test_another_file_at_the_path_of_a_served_log_is_not_touched(path: Path, tmp_path: Path) -> None:
    """SQLite would pair it with the node's write-ahead log; so it is refused, byte for byte as it was."""
    with served(path) as kept:
        write(path, 4)
        copy = tmp_path / "copy"
        shutil.copy(path, copy)
        path.rename(tmp_path / "moved")
        os.replace(copy, path)
        before = path.read_bytes()
        with pytest.raises(Unavailable, match="moved, deleted or replaced"):
            write(path, 5)
        assert path.read_bytes() == before
        os.replace(tmp_path / "moved", path)
        assert kept.file.is_in_place()
        write(path, 6)
    assert written(path) == 6


def test_a_removed_lock_file_stops_the_write(path: Path) -> None:
    """Under another lock file than the node's workers hold, nothing excludes them."""
    with served(path) as kept:
        kept.file.lock_path.unlink()
        with pytest.raises(Unavailable):
            write(path, 7)


def test_a_node_that_starts_is_waited_for(path: Path) -> None:
    """While a node holds the claim and does not serve yet, the write waits; then it goes in beside it."""
    claim = NodeClaim(path)
    with pytest.raises(StartRefused, match="starting or stopping"):
        write(path, 8)
    kept = keep_open(prepare(path, node_id="tested", projections=SqliteProjections()).file)
    writer = threading.Thread(target=write, args=(path, 8, 30))
    writer.start()
    claim.note(kept.file)
    writer.join(30)
    assert written(path) == 8
    kept.close()
    claim.release()


def test_a_node_that_stops_is_waited_for(path: Path) -> None:
    """Its files are gone and its claim is not: the write waits for the claim, and is made once."""
    claim = NodeClaim(path)
    kept = keep_open(prepare(path, node_id="tested", projections=SqliteProjections()).file)
    claim.note(kept.file)
    lock = WriteLock(kept.file.lock_path)
    with lock.held():
        writer = threading.Thread(target=write, args=(path, 9, 30))
        writer.start()
    kept.close()
    claim.release()
    writer.join(30)
    lock.close()
    assert written(path) == 9


def test_what_a_killed_node_noted_is_not_believed(path: Path) -> None:
    """The next to claim the log forgets it, and says nothing until it serves."""
    with served(path):
        noted = Path(f"{path}-node-lock").read_bytes()
    Path(f"{path}-node-lock").write_bytes(noted)
    assert served_file(path) is not None
    claim = NodeClaim(path)
    assert served_file(path) is None
    claim.release()


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b"[1,2,3,4]", b"[[1,2],[3,4],[5,6]]", b"null", b"[[1],[2],[3],[4]]"]
)
def test_half_a_note_is_none(path: Path, note: bytes) -> None:
    """Whatever else is in the file, nothing is taken for the files of a node."""
    Path(f"{path}-node-lock").write_bytes(note)
    assert served_file(path) is None


def test_there_must_be_a_log(tmp_path: Path) -> None:
    """A path without a file is refused and gets none."""
    with pytest.raises(StartRefused, match="no such file"):
        write(tmp_path / "none.db", 1)
    assert list(tmp_path.iterdir()) == []
