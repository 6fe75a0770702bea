"""Private files: readable by their owner alone, whole or not there, and never by accident in place of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oscd.client.errors import UsageRefused
from oscd.client.private_file import write_private


def test_a_file_is_private_from_the_start(tmp_path: Path) -> None:
    """Its mode is 0600, whatever the umask, and nothing else is left in the directory."""
    before = os.umask(0)
    try:
        write_private(tmp_path / "x.env", b"A=1\n", replace=False)
    finally:
        os.umask(before)
    assert (tmp_path / "x.env").read_bytes() == b"A=1\n"
    assert (tmp_path / "x.env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x.env"]


def test_a_file_that_exists_stays(tmp_path: Path) -> None:
    """Without leave to replace it, it keeps its content; the refusal names the option."""
    (tmp_path / "x.env").write_bytes(b"old")
    with pytest.raises(UsageRefused, match="--force"):
        write_private(tmp_path / "x.env", b"new", replace=False)
    assert (tmp_path / "x.env").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.env"]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody makes between the look and the write is not replaced either."""
    target = tmp_path / "x.env"
    sync = os.fsync

    def sync_while_another_writes(descriptor: int) -> None:
        sync(descriptor)
        target.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", sync_while_another_writes)
    with pytest.raises(UsageRefused, match="--force"):
        write_private(target, b"ours", replace=False)
    assert target.read_bytes() == b"theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["x.env"]


def test_a_replaced_file_becomes_private(tmp_path: Path) -> None:
    """With leave to replace it, content and mode are new; a link to it stays a link."""
    (tmp_path / "real.env").write_bytes(b"old")
    (tmp_path / "real.env").chmod(0o644)
    (tmp_path / "x.env").symlink_to("real.env")
    write_private(tmp_path / "x.env", b"new", replace=True)
    assert (tmp_path / "x.env").is_symlink()
    assert (tmp_path / "real.env").read_bytes() == b"new"
    assert (tmp_path / "real.env").stat().st_mode & 0o777 == 0o600


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    """A device or a pipe, which a rename would do away with, is refused even so."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(UsageRefused, match="no regular file"):
            write_private(path, b"new", replace=True)


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fails the old file stays whole and no piece of the new one is left."""
    (tmp_path / "x.env").write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageRefused, match="No space left"):
        write_private(tmp_path / "x.env", b"new", replace=True)
    assert (tmp_path / "x.env").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.env"]
