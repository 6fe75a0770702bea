"""The salt file: whole or absent, never overwritten, never another log's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from oscd.errors import StartRefused
from oscd.events.cipher import SALT_BYTES
from oscd.events.salt import create_salt, ensure_salt, load_salt, salt_digest, salt_warning


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "encryption.salt"


def put(path: Path, salt: bytes) -> bytes:
    path.write_bytes(salt)
    path.chmod(0o600)
    return salt


def test_a_new_salt_is_private_whole_and_alone(path: Path) -> None:
    """A salt just made is 64 random bytes, mode 0600, and its draft is gone."""
    salt = create_salt(path)

    assert len(salt) == SALT_BYTES
    assert len(set(salt)) > 1
    assert load_salt(path) == salt
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]
    assert salt_warning(path) is None


def test_an_existing_salt_is_never_overwritten(path: Path) -> None:
    """Making a salt where there is one refuses and leaves it as it was."""
    put(path, b"a" * SALT_BYTES)

    with pytest.raises(StartRefused, match="OSC_SALT_FILE_PATH"):
        create_salt(path)

    assert path.read_bytes() == b"a" * SALT_BYTES
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("step", ["open", "fdopen", "fsync", "link"])
def test_a_failure_before_the_salt_has_its_name_leaves_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A disk that fails at any step before the link stops the start in one line and leaves no salt."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StartRefused, match="No space left on device") as refused:
        create_salt(path)
    monkeypatch.undo()

    assert "\n" not in str(refused.value)
    assert not path.exists()


@pytest.mark.parametrize("call", range(1, 8))
def test_a_crash_leaves_no_salt_or_a_whole_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Whichever system call is the last before a crash, there is no salt, or a whole one that serves."""

    class Crash(BaseException):
        """Stands for the end of the process: nothing may catch it and clean up."""

    calls: list[str] = []

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call_or_crash(*args: object, **kwargs: object) -> object:
            if len(calls) >= call:
                raise Crash
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call_or_crash)

    for name in ("open", "fdopen", "fsync", "link", "unlink"):
        counted(name)
    with contextlib.suppress(Crash):
        create_salt(path)
    monkeypatch.undo()

    assert len(calls) == call
    if path.exists():
        assert len(load_salt(path)) == SALT_BYTES
    assert path.exists() == ("link" in calls)


def test_the_bytes_are_durable_before_the_name_and_the_name_before_the_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 6: the file is synced before it is linked, its directory after."""
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        steps.append("sync " + ("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"))
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        steps.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    create_salt(path)

    assert steps == ["sync file", "link", "sync directory"]


@pytest.mark.parametrize("size", [0, SALT_BYTES - 1, SALT_BYTES + 1])
@pytest.mark.parametrize("log_is_empty", [True, False])
def test_a_file_of_another_size_is_no_salt(path: Path, size: int, log_is_empty: bool) -> None:
    """A truncated or longer file stops the start beside any log, and stays."""
    salt = put(path, b"a" * size)

    with pytest.raises(StartRefused, match=r"OSC_SALT_FILE_PATH=.*64 bytes"):
        ensure_salt(path, salt_digest(salt), log_is_empty)

    assert path.read_bytes() == salt


def test_an_unreadable_file_stops_the_start(tmp_path: Path) -> None:
    """What cannot be read is refused with the reason, not replaced."""
    with pytest.raises(StartRefused, match="cannot be read"):
        ensure_salt(tmp_path, None, log_is_empty=True)


def test_an_empty_log_gets_a_salt_and_keeps_it(path: Path) -> None:
    """Beside an empty log a missing salt is made once; the next start finds it."""
    salt = ensure_salt(path, None, log_is_empty=True)

    assert ensure_salt(path, salt_digest(salt), log_is_empty=True) == salt
    assert ensure_salt(path, salt_digest(salt), log_is_empty=False) == salt


def test_an_empty_log_takes_the_salt_that_is_there(path: Path) -> None:
    """A salt put there by hand is used, even in place of one noted before: nothing was encrypted yet."""
    salt = put(path, b"a" * SALT_BYTES)

    assert ensure_salt(path, None, log_is_empty=True) == salt
    assert ensure_salt(path, salt_digest(b"b" * SALT_BYTES), log_is_empty=True) == salt


def test_a_log_with_events_never_gets_a_new_salt(path: Path) -> None:
    """A salt missing beside events stops the start, says what to do, and none is made."""
    with pytest.raises(StartRefused, match=r"OSC_SALT_FILE_PATH=.*no such file.*restore"):
        ensure_salt(path, salt_digest(b"a" * SALT_BYTES), log_is_empty=False)

    assert not path.exists()


@pytest.mark.parametrize("noted", [salt_digest(b"b" * SALT_BYTES), None])
def test_a_log_with_events_accepts_only_the_salt_it_noted(path: Path, noted: bytes | None) -> None:
    """Another salt than the noted one, or one that nothing vouches for, stops the start."""
    put(path, b"a" * SALT_BYTES)

    with pytest.raises(StartRefused, match="OSC_SALT_FILE_PATH"):
        ensure_salt(path, noted, log_is_empty=False)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_salt_that_others_may_read_is_warned_about(path: Path, mode: int) -> None:
    """Loose permissions are a warning with the setting, the mode and the remedy; the salt still loads."""
    put(path, b"a" * SALT_BYTES)
    path.chmod(mode)

    assert load_salt(path) == b"a" * SALT_BYTES
    warning = salt_warning(path)
    assert warning is not None
    assert all(part in warning for part in ("OSC_SALT_FILE_PATH", f"{mode:04o}", "chmod 600"))
