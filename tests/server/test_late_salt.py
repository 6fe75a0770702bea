"""The salt that comes after the start: awaited, taken once the log knows it, and refused until then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from oscd.errors import Unavailable
from oscd.events.keyring import KeyRing
from oscd.events.salt import keep_salt, salt_digest
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.noted import note_digest, noted_digest
from oscd.events.sqlite.prepare import prepare
from oscd.feed.frame import StreamFilter
from oscd.projections.sqlite import SqliteProjections
from oscd.server import late_salt
from oscd.server.late_salt import LateSalt
from oscd.streams.ticket import Tickets
from oscd.times import microseconds_now
from tests.events.log_contract import draft
from tests.support.waiting import eventually

SALT = bytes(range(64))


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_salt, "LOOK_SECONDS", 0.01)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    prepared = prepare(tmp_path / "log.db", node_id="node-a", projections=SqliteProjections())
    log = SqliteLog(prepared.file, projections=SqliteProjections(), clock=microseconds_now)
    log.start()
    yield log
    await log.close()


@pytest.fixture
async def salt(tmp_path: Path, log: SqliteLog) -> AsyncIterator[LateSalt]:
    salt = LateSalt(tmp_path / "salt", None, partial(log.read, noted_digest))
    salt.start()
    yield salt
    await salt.close()


async def test_a_salt_that_was_there_at_the_start_is_never_looked_for(tmp_path: Path, log: SqliteLog) -> None:
    """A lone node, and one that has been in its cluster before, has it from the first request on."""
    salt = LateSalt(tmp_path / "missing", SALT, partial(log.read, noted_digest))
    salt.start()
    assert (salt(), salt.trouble) == (SALT, None)
    await salt.close()


async def test_what_needs_the_salt_is_unavailable_until_it_is_there(
    tmp_path: Path, log: SqliteLog, salt: LateSalt
) -> None:
    """Until the file is there and noted, keys and tickets get 503 with a sentence; then they work by themselves."""
    ring = KeyRing(salt, slot=_NoSlot(), derive=lambda key, salt: (key, salt))  # type: ignore[arg-type, return-value]
    tickets = Tickets(salt, rounds=1)
    for refused in (ring.derive("user-key"), tickets.issue(StreamFilter(), 60, None)):
        with pytest.raises(Unavailable, match="no salt yet") as unavailable:
            await refused
        assert unavailable.value.retry_after == 1
    assert salt.trouble is not None
    await log.write(lambda writing: note_digest(writing, salt_digest(SALT)), size=0)
    keep_salt(tmp_path / "salt", SALT)
    await eventually(lambda: salt.trouble is None)
    derived: object = await ring.derive("user-key")
    assert derived == ("user-key", SALT)
    await tickets.issue(StreamFilter(), 60, None)
    await ring.close()


async def test_a_file_that_the_log_has_not_noted_is_not_taken(
    tmp_path: Path, log: SqliteLog, salt: LateSalt
) -> None:
    """A value sealed before the log knows the salt could be lost with the salt; so the note comes first."""
    looks = 0
    read = log.read

    async def counting(*args: object, **options: object) -> object:
        nonlocal looks
        looks += 1
        return await read(*args, **options)  # type: ignore[arg-type]

    salt._noted = partial(counting, noted_digest)  # type: ignore[assignment]
    keep_salt(tmp_path / "salt", SALT)
    await eventually(lambda: looks > 2)
    assert salt.trouble is not None
    await log.write(lambda writing: note_digest(writing, salt_digest(SALT)), size=0)
    await eventually(lambda: salt.trouble is None)


async def test_a_broken_file_is_complained_of_once(
    tmp_path: Path, salt: LateSalt, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no salt is not taken, however often it is looked at, and the log says so in one line."""
    (tmp_path / "salt").write_bytes(b"short")
    await eventually(lambda: len(caplog.messages) > 0)
    assert salt.trouble is not None
    (tmp_path / "salt").unlink()
    (line,) = caplog.messages
    assert "a salt is exactly 64 bytes" in line


async def test_the_note_of_a_log_with_events_is_never_replaced(log: SqliteLog) -> None:
    """Its values were sealed under the salt that was noted before."""
    assert await log.write(lambda writing: note_digest(writing, salt_digest(SALT)), size=0)
    await log.write(lambda writing: writing.append([draft()]), size=0)
    assert await log.write(lambda writing: note_digest(writing, salt_digest(SALT)), size=0)
    assert not await log.write(lambda writing: note_digest(writing, salt_digest(bytes(64))), size=0)
    assert await log.read(noted_digest) == salt_digest(SALT)


class _NoSlot:
    """A slot that is always free."""

    def hold(self, seconds: float, given_up: object) -> _NoSlot:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...
