"""The key ring: what is remembered, and how little a flood of unknown keys can take."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from oscd.errors import TooManyRequests, Unavailable
from oscd.events import derivation_slot, keyring
from oscd.events.cipher import BackupKey, Cipher
from oscd.events.derivation_slot import DerivationSlot
from oscd.events.keyring import MAX_WAITING, REMEMBERED_KEYS, REMEMBERED_SECONDS, WAIT_SECONDS, KeyRing

SALT = bytes(64)
NEVER = threading.Event()
LONG = 30.0
"""Seconds after which a condition that should have come is taken for one that never will."""


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeDerive:
    """Stands for the stretching: notes what it was asked for and waits at a gate, open at first."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def __call__(self, user_key: str, salt: bytes) -> Cipher:
        self.keys.append(user_key)
        self.threads.add(threading.get_native_id())
        assert self.gate.wait(LONG)
        if self.failure is not None:
            raise self.failure
        return Cipher.of_derived(hashlib.sha256(salt + user_key.encode()).digest())

    def backup_key(self, password: str, salt: bytes) -> BackupKey:
        self(password, salt)
        return BackupKey(hashlib.sha256(salt + password.encode()).digest())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake() -> Iterator[FakeDerive]:
    derive = FakeDerive()
    yield derive
    derive.gate.set()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "derive.lock"


@pytest.fixture
async def ring(lock: Path, clock: Clock, fake: FakeDerive) -> AsyncIterator[KeyRing]:
    ring = KeyRing(
        lambda: SALT, slot=DerivationSlot(lock), clock=clock, derive=fake, derive_backup_key=fake.backup_key
    )
    yield ring
    fake.gate.set()
    await ring.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in another thread
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def asking(ring: KeyRing, *user_keys: str) -> AsyncIterator[list[asyncio.Task[Cipher]]]:
    """Tasks that have asked for their derivations; none outlives the block."""
    tasks = [asyncio.create_task(ring.derive(user_key)) for user_key in user_keys]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_key_is_recalled_only_after_it_was_remembered(ring: KeyRing) -> None:
    """Deriving alone puts nothing into the cache: random keys must not evict anybody's."""
    cipher = await ring.derive("user-key-1")
    assert ring.recall("user-key-1") is None

    ring.remember("user-key-1", cipher)
    assert ring.recall("user-key-1") is cipher
    assert ring.recall("user-key-2") is None


async def test_a_key_can_be_remembered_later_without_being_kept_until_then(ring: KeyRing) -> None:
    """Who will only know later whether a key opens anything need not hold the key meanwhile."""
    remember = ring.remember_later("user-key-1", await ring.derive("user-key-1"))
    assert "user-key-1" not in repr(remember)
    assert ring.recall("user-key-1") is None
    remember()
    assert ring.recall("user-key-1") is not None


async def test_a_remembered_key_expires_after_its_last_use(ring: KeyRing, clock: Clock) -> None:
    """A cipher is forgotten 15 minutes after it was last used, not after it was made."""
    cipher = await ring.derive("user-key-1")
    ring.remember("user-key-1", cipher)

    for _ in range(3):
        clock.now += REMEMBERED_SECONDS - 1
        assert ring.recall("user-key-1") is cipher
    clock.now += REMEMBERED_SECONDS
    assert ring.recall("user-key-1") is None


async def test_expired_ciphers_do_not_stay_in_memory(ring: KeyRing, clock: Clock) -> None:
    """Any access drops every cipher that expired, whoever's it was."""
    ring.remember("user-key-1", await ring.derive("user-key-1"))
    before = _ciphers_alive()
    clock.now += REMEMBERED_SECONDS

    assert ring.recall("user-key-2") is None

    assert _ciphers_alive() == before - 1


async def test_the_cache_is_bounded_and_forgets_the_least_recently_used(ring: KeyRing) -> None:
    """Invariant 10: beyond its size the cache lets go of the key that was used longest ago."""
    cipher = await ring.derive("user-key-0")
    for number in range(REMEMBERED_KEYS):
        ring.remember(f"user-key-{number}", cipher)
    assert ring.recall("user-key-0") is cipher

    ring.remember("one-too-many", cipher)

    assert ring.recall("user-key-0") is cipher
    assert ring.recall("user-key-1") is None
    assert ring.recall("one-too-many") is cipher


async def test_no_user_key_stays_behind(ring: KeyRing) -> None:
    """Invariant 7: once a key is remembered, the ring holds neither the key nor a plain hash of it."""
    user_key = "".join(["user", "-", "key", "-", "marker"])
    ring.remember(user_key, await ring.derive(user_key))

    # Its values and not the dictionary, whose referents Python 3.13 tells of the object alone.
    held = [thing for attribute in vars(ring).values() for thing in _reachable(attribute)]

    guesses = {hashlib.blake2b(user_key.encode(), digest_size=32).digest(), user_key.encode(), user_key}
    assert any(isinstance(thing, Cipher) for thing in held)
    assert not any(thing in guesses for thing in held if isinstance(thing, str | bytes))


async def test_callers_with_one_key_share_one_derivation(ring: KeyRing, fake: FakeDerive) -> None:
    """However many ask for the same key at once, running or waiting, it is derived once."""
    fake.gate.clear()
    async with asking(ring, "a", "a", "b", "a", "b", "b") as tasks:
        fake.gate.set()
        ciphers = await asyncio.gather(*tasks)

    assert fake.keys == ["a", "b"]
    assert ring.derivations == 2
    assert len(set(map(id, ciphers))) == 2


async def test_a_cancelled_caller_leaves_the_derivation_to_the_others(
    ring: KeyRing, fake: FakeDerive
) -> None:
    """Cancelling one of several callers cancels neither the shared derivation nor the other callers."""
    fake.gate.clear()
    async with asking(ring, "a", "a", "b", "b") as tasks:
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait([tasks[0], tasks[2]])
        fake.gate.set()
        await asyncio.wait([tasks[1], tasks[3]])

        assert [task.cancelled() for task in tasks] == [True, False, True, False]
    assert fake.keys == ["a", "b"]


async def test_a_derivation_that_nobody_waits_for_never_begins(ring: KeyRing, fake: FakeDerive) -> None:
    """Callers that go away while they wait free their place at once and cost no core."""
    fake.gate.clear()
    async with asking(ring, "running", *(f"gone-{number}" for number in range(MAX_WAITING))) as tasks:
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks[1:])
        async with asking(ring, *(f"kept-{number}" for number in range(MAX_WAITING))) as kept:
            fake.gate.set()
            await asyncio.gather(*kept)

    assert fake.keys == ["running", *(f"kept-{number}" for number in range(MAX_WAITING))]


async def test_a_full_queue_refuses_at_once_and_recovers(ring: KeyRing, fake: FakeDerive) -> None:
    """Invariant 10: one more than the queue holds gets 429 with Retry-After; those in it are served."""
    fake.gate.clear()
    async with asking(ring, *(f"key-{number}" for number in range(1 + MAX_WAITING))) as tasks:
        with pytest.raises(TooManyRequests) as refused:
            await ring.derive("one-too-many")
        assert refused.value.retry_after == 1
        assert not any(task.done() for task in tasks)

        async with asking(ring, "key-3") as joining:
            fake.gate.set()
            await asyncio.gather(*tasks, *joining)

    await ring.derive("one-too-many")
    assert "one-too-many" not in fake.keys[:-1]


async def test_a_flood_leaves_remembered_keys_alone(ring: KeyRing, fake: FakeDerive) -> None:
    """While the queue is full and the thread busy, a remembered key is recalled as ever."""
    cipher = await ring.derive("reader")
    ring.remember("reader", cipher)
    fake.gate.clear()
    async with asking(ring, *(f"key-{number}" for number in range(100))) as tasks:
        await until(lambda: sum(task.done() for task in tasks) == 100 - 1 - MAX_WAITING)

        assert ring.recall("reader") is cipher
        fake.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(isinstance(outcome, Cipher) for outcome in outcomes) == 1 + MAX_WAITING
    assert sum(isinstance(outcome, TooManyRequests) for outcome in outcomes) == 100 - 1 - MAX_WAITING


async def test_a_derivation_that_waited_too_long_is_refused(
    ring: KeyRing, fake: FakeDerive, clock: Clock
) -> None:
    """What could not begin within its limit gets 429 and is not derived for nothing."""
    fake.gate.clear()
    async with asking(ring, "running", "late") as tasks:
        await until(lambda: fake.keys == ["running"])
        clock.now += WAIT_SECONDS
        fake.gate.set()
        await asyncio.wait(tasks)

        assert isinstance(tasks[0].result(), Cipher)
        assert isinstance(tasks[1].exception(), TooManyRequests)
    assert fake.keys == ["running"]


async def test_a_failed_derivation_fails_its_callers_only(ring: KeyRing, fake: FakeDerive) -> None:
    """An error reaches every caller of that derivation; the next one starts afresh."""
    fake.failure = MemoryError("no memory")
    async with asking(ring, "a", "a") as tasks:
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    fake.failure = None

    assert [type(outcome) for outcome in outcomes] == [MemoryError, MemoryError]
    assert isinstance(await ring.derive("a"), Cipher)
    assert ring.derivations == 1


async def test_two_workers_never_derive_at_once(
    lock: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeDerive, ring: KeyRing
) -> None:
    """A worker waits for the slot while another one derives, and gets it afterwards."""
    attempts: list[bool] = []
    real = derivation_slot._try_lock

    def noting(descriptor: int) -> bool:
        attempts.append(real(descriptor))
        return attempts[-1]

    monkeypatch.setattr(derivation_slot, "_try_lock", noting)
    other_fake = FakeDerive()
    other = KeyRing(lambda: SALT, slot=DerivationSlot(lock), derive=other_fake)
    fake.gate.clear()
    async with asking(ring, "a") as first:
        await until(lambda: fake.keys == ["a"])
        async with asking(other, "b") as second:
            await until(lambda: attempts.count(False) >= 2)
            assert other_fake.keys == []

            fake.gate.set()
            await asyncio.gather(*first, *second)
    await other.close()

    assert other_fake.keys == ["b"]
    assert attempts.count(True) == 2


def test_a_worker_that_held_the_slot_lets_one_that_polls_go_first(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fairness: whoever comes back for the slot at once waits longer than the others' polls are apart."""
    pauses: list[float] = []

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    monkeypatch.setattr(derivation_slot, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    slot, newcomer = DerivationSlot(lock), DerivationSlot(lock)
    for taker in (slot, slot, newcomer):
        with taker.hold(LONG, Noting()):
            pass

    first, again, other = pauses
    assert first == other == 0
    assert again > derivation_slot._POLL_SECONDS


async def test_a_caller_that_leaves_ends_the_wait_for_the_slot(
    ring: KeyRing, fake: FakeDerive, lock: Path
) -> None:
    """A derivation whose callers all left while another worker held the slot never begins."""
    with DerivationSlot(lock).hold(LONG, NEVER):
        async with asking(ring, "gone", "kept") as tasks:
            tasks[0].cancel()
            await until(
                lambda: ring._running is not None and ring._running.fingerprint == ring._fingerprint("kept")
            )
    assert fake.keys == []

    await ring.derive("next")
    assert fake.keys == ["next"]


def test_the_slot_of_a_killed_process_is_free(lock: Path) -> None:
    """A worker that dies while it derives takes nothing with it."""
    holding = (
        "import sys, time, threading\n"
        "from pathlib import Path\n"
        "from oscd.events.derivation_slot import DerivationSlot\n"
        "with DerivationSlot(Path(sys.argv[1])).hold(5, threading.Event()):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    slot = DerivationSlot(lock)
    with subprocess.Popen([sys.executable, "-c", holding, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TooManyRequests), slot.hold(0.02, NEVER):
            pass
        process.kill()
    with slot.hold(LONG, NEVER):
        assert lock.stat().st_size == 0


def test_a_slot_whose_time_is_up_is_not_even_tried(lock: Path) -> None:
    """With no time left the answer is a refusal, also where the slot is free."""
    with pytest.raises(TooManyRequests), DerivationSlot(lock).hold(0, NEVER):
        pass


async def test_a_lock_file_that_cannot_be_opened_is_a_503(tmp_path: Path, fake: FakeDerive) -> None:
    """Trouble with the slot's file is answered without naming the file, and nothing is derived."""
    ring = KeyRing(lambda: SALT, slot=DerivationSlot(tmp_path / "missing" / "derive.lock"), derive=fake)

    with pytest.raises(Unavailable) as refused:
        await ring.derive("a")
    await ring.close()

    assert str(tmp_path) not in refused.value.detail
    assert fake.keys == []


async def test_derivations_run_in_one_thread_that_gives_way(ring: KeyRing, fake: FakeDerive) -> None:
    """All derivations of a worker share one thread, not the loop's, and it runs at lower priority."""
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    async with asking(ring, "a", "b", "c") as tasks:
        await asyncio.gather(*tasks)
    (thread,) = fake.threads

    assert thread != threading.get_native_id()
    if sys.platform == "linux":
        assert os.getpriority(os.PRIO_PROCESS, thread) == min(19, ours + keyring._NICE)


async def test_closing_answers_everybody_and_ends_the_thread(
    ring: KeyRing, fake: FakeDerive, lock: Path
) -> None:
    """On close what has begun finishes, what waits gets 503, nothing is remembered, the thread is gone."""
    ring.remember("reader", await ring.derive("reader"))
    fake.gate.clear()
    async with asking(ring, "running", "waiting") as tasks:
        await until(lambda: fake.keys[-1] == "running")
        closing = asyncio.create_task(ring.close())
        await asyncio.wait([tasks[1]])
        fake.gate.set()
        await closing
        await asyncio.wait(tasks)

        assert isinstance(tasks[0].result(), Cipher)
        assert isinstance(tasks[1].exception(), Unavailable)
    (thread,) = fake.threads
    await until(lambda: thread not in {living.native_id for living in threading.enumerate()})
    assert ring.recall("reader") is None
    with pytest.raises(Unavailable):
        await ring.derive("late")


async def test_closing_ends_the_wait_for_the_slot(ring: KeyRing, fake: FakeDerive, lock: Path) -> None:
    """A derivation that waits for another worker's slot does not hold up the shutdown."""
    with DerivationSlot(lock).hold(LONG, NEVER):
        async with asking(ring, "waiting") as tasks:
            await ring.close()
            assert ring._running is None
            await asyncio.wait(tasks)

            assert isinstance(tasks[0].exception(), Unavailable)
    assert fake.keys == []


async def test_a_real_key_derives(lock: Path) -> None:
    """With nothing faked, the ring's cipher is the one its salt and user key make."""
    ring = KeyRing(lambda: SALT, slot=DerivationSlot(lock))
    cipher = await ring.derive("user-key-1")
    await ring.close()

    derived = hashlib.pbkdf2_hmac("sha256", b"user-key-1", SALT, 480_000, 32)
    assert cipher.key_id == Cipher.of_derived(derived).key_id


def _ciphers_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Cipher) for thing in gc.get_objects())


def _reachable(root: object) -> Iterator[object]:
    """Everything that the ring's own containers, facts and strings lead to."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        yield thing
        pending.extend(gc.get_referents(thing))


async def test_passwords_of_backups_wait_in_the_queue_of_user_keys(ring: KeyRing, fake: FakeDerive) -> None:
    """A full queue refuses a password like a user key, and what waits of either is derived one at a time."""
    fake.gate.clear()
    async with asking(ring, *(f"key-{number}" for number in range(MAX_WAITING))):
        waiting = asyncio.create_task(ring.derive_backup_key("password", bytes(32)))
        await asyncio.sleep(0)  # It takes its place in the queue before it waits for anything.
        await until(lambda: len(fake.keys) == 1)
        with pytest.raises(TooManyRequests):
            await ring.derive_backup_key("another", bytes(32))
        with pytest.raises(TooManyRequests):
            await ring.derive("another")
        fake.gate.set()
        await waiting
    assert fake.keys[-1] == "password"
    assert len(fake.threads) == 1


async def test_one_password_with_one_salt_is_derived_once_at_a_time(ring: KeyRing, fake: FakeDerive) -> None:
    """Callers share a derivation where password and salt are the same, and never with a user key of that text."""
    fake.gate.clear()
    asked = asyncio.gather(
        ring.derive_backup_key("password", bytes(32)),
        ring.derive_backup_key("password", bytes(32)),
        ring.derive_backup_key("password", b"\1" * 32),
        ring.derive("password"),
    )
    await until(lambda: len(fake.keys) == 1)
    fake.gate.set()
    one, same, other, cipher = await asked
    assert one is same
    assert one is not other
    assert isinstance(cipher, Cipher)
    assert fake.keys == ["password"] * 3


async def test_a_password_is_never_remembered(ring: KeyRing, fake: FakeDerive) -> None:
    """Each backup derives its key anew, and nothing in the ring knows the password afterwards."""
    await ring.derive_backup_key("password", bytes(32))
    await ring.derive_backup_key("password", bytes(32))
    assert fake.keys == ["password"] * 2
    assert ring.recall("password") is None
    assert not any("password" in repr(held) for held in gc.get_referents(ring.__dict__))
