"""The directory of one run: private, gone with its node, and nobody else's is touched."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oscd.server.runtime import RuntimeDirectory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def abandoned(parent: Path) -> Path:
    """What a killed node leaves: a directory with files, of which it holds the lock no more."""
    directory = RuntimeDirectory(parent)
    (directory.path / "counter_0.db").write_bytes(b"x")
    os.close(directory._lock)
    return directory.path


def test_it_is_private_and_removed_with_its_node(tmp_path: Path) -> None:
    """No other user sees into it, and nothing of it stays."""
    directory = RuntimeDirectory(tmp_path)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.path.parent == tmp_path
    (directory.path / "file").write_bytes(b"x")
    (directory.path / "folder").mkdir()
    directory.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_in_memory_where_there_is_such_a_place() -> None:
    """Mapped files on a full disk kill whoever touches them, so the disk of the log is no place for it."""
    directory = RuntimeDirectory()
    try:
        in_memory = os.access("/dev/shm", os.W_OK | os.X_OK)  # noqa: S108 - only looked at
        assert (directory.path.parent == Path("/dev/shm")) == in_memory  # noqa: S108 - as above
    finally:
        directory.close()


def test_what_a_killed_node_left_is_removed(tmp_path: Path) -> None:
    """The next node takes away what the last one could not."""
    left = [abandoned(tmp_path)]
    directory = RuntimeDirectory(tmp_path)
    assert not any(path.exists() for path in left)
    assert list(tmp_path.iterdir()) == [directory.path]
    directory.close()


def test_a_node_that_lives_keeps_its_own(tmp_path: Path) -> None:
    """Several nodes may run side by side: what is locked is left alone."""
    first = RuntimeDirectory(tmp_path)
    (first.path / "file").write_bytes(b"x")
    second = RuntimeDirectory(tmp_path)
    assert (first.path / "file").read_bytes() == b"x"
    second.close()
    assert first.path.exists()
    first.close()


def test_what_belongs_to_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it is that runs now, root too, removes only its own."""
    left = abandoned(tmp_path)
    monkeypatch.setattr("oscd.server.runtime.os.getuid", lambda: left.stat().st_uid + 1)
    directory = RuntimeDirectory(tmp_path)
    assert (left / "counter_0.db").exists()
    directory.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Hostile neighbour: a link with such a name leads nobody to remove what it points at."""
    parent, victim = tmp_path / "parent", tmp_path / "victim"
    parent.mkdir()
    victim.mkdir()
    (victim / "file").write_bytes(b"x")
    name = abandoned(parent).name
    directory = RuntimeDirectory(parent)
    link = parent / name
    link.symlink_to(victim)
    RuntimeDirectory(parent).close()
    assert (victim / "file").exists()
    assert link.is_symlink()
    directory.close()


@pytest.mark.parametrize(
    "name", ["oscd-data", "oscd-run-backup", "oscd-run-", "oscd-run-abcdefgh.bak", "oscd-run-ABCDEFGH"]
)
def test_a_directory_that_only_looks_like_one_is_left_alone(tmp_path: Path, name: str) -> None:
    """Somebody may keep a database in a directory named after oscd, beside which a node then starts."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "configurations.db").write_bytes(b"x")
    RuntimeDirectory(tmp_path).close()
    assert (tmp_path / name / "configurations.db").exists()


def test_a_file_with_such_a_name_is_left_alone(tmp_path: Path) -> None:
    """Only directories are made here, so only directories are removed."""
    (tmp_path / "oscd-run-abcdefgh").write_bytes(b"x")
    RuntimeDirectory(tmp_path).close()
    assert (tmp_path / "oscd-run-abcdefgh").exists()


def test_one_that_another_node_took_for_abandoned_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making it and locking it another node may remove it: then there is a new one."""
    flock = fcntl.flock
    removed: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            (path,) = tmp_path.iterdir()
            path.rmdir()
            removed.append(path)
        flock(descriptor, operation)

    monkeypatch.setattr("oscd.server.runtime.fcntl.flock", late)
    directory = RuntimeDirectory(tmp_path)
    assert directory.path.exists()
    assert directory.path not in removed
    with pytest.raises(BlockingIOError):
        flock(os.open(directory.path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    directory.close()


def test_without_a_place_there_is_no_start(tmp_path: Path) -> None:
    """Where none can be made the caller is told, instead of going on without."""
    with pytest.raises(OSError, match="No such file"):
        RuntimeDirectory(tmp_path / "missing")
