"""Which user keys are known by now, and how a new one is derived without hurting anybody else.

Owns: the cache of derived ciphers, the queue of derivations, and the one thread of this worker that derives.
The passwords of backups are stretched in the same queue, one of a worker at a time, and never remembered.
Must not: decide who may do what (`remember` is the use case's to call), encrypt, or keep a user key once it
is derived.

A derivation is a lever for denial of service: it costs some 60 ms of a core, and whoever may send a request
may ask for one with random bytes. So everything it takes has a bound:

    memory    `MAX_WAITING` derivations may wait in a worker; one more is refused at once
    time      one that has not begun within `WAIT_SECONDS` is refused; one that nobody awaits never begins
    cores     one runs at a time on the whole node (`derivation_slot.py`)
    priority  it runs in a thread of nice +10: Linux shares a contended core by weight, 110 against the 1024
              of a thread at nice 0, so it gets a tenth of a core that readers want, and all of an idle one
    cache     a key is remembered only once it opened or wrote something: random keys evict nobody's

The tenth is the price, too: while readers saturate every core, a derivation takes about a second.

Callers with the same user key share one derivation. The user key itself is in memory from request to
derivation, as it must be; the cache knows it only by a hash under a random key that never leaves this
process (invariant 7).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from oscd.errors import TooManyRequests, Unavailable
from oscd.events import cipher
from oscd.events.cipher import BackupKey, Cipher
from oscd.events.derivation_slot import DerivationSlot
from oscd.events.salt import SaltSource

Derived = TypeVar("Derived")

REMEMBERED_KEYS: Final = 1024
"""Ciphers kept per worker: about 1 MB. Past it the least recently used is forgotten."""

REMEMBERED_SECONDS: Final = 15 * 60.0
"""How long after its last use a cipher is forgotten: no more recalled, and dropped at the next access."""

MAX_WAITING: Final = 8
"""Derivations that may wait in one worker: four full workers are done in 2 to 3 s on idle cores."""

WAIT_SECONDS: Final = 5.0
"""How long a derivation may wait for its turn, from the moment it was asked for."""

_CLOSE_SECONDS: Final = 2.0
_NICE: Final = 10


@dataclass(slots=True, eq=False, repr=False)
class _Derivation:
    """One derivation from request to result, and how many callers share it.

    Attributes:
        stretch: Holds the secret, as something must until it is stretched.
    """

    fingerprint: bytes
    stretch: Callable[[], Any]
    begin_before: float
    result: asyncio.Future[Any]
    callers: int = 0
    given_up: threading.Event = field(default_factory=threading.Event)


class KeyRing:
    """The derived keys of one worker. All its methods belong to one event loop.

    Args:
        salt: Gives the cluster's salt.
        slot: This worker's access to the one slot of its node.
        clock: Seconds that never go back.
        derive: What stretches a user key; it runs on the ring's own thread.
        derive_backup_key: What stretches the password of a backup; likewise.

    Attributes:
        derivations: How many derivations succeeded since the start.
    """

    def __init__(
        self,
        salt: SaltSource,
        *,
        slot: DerivationSlot,
        clock: Callable[[], float] = time.monotonic,
        derive: Callable[[str, bytes], Cipher] = cipher.derive,
        derive_backup_key: Callable[[str, bytes], BackupKey] = cipher.derive_backup_key,
    ) -> None:
        self.derivations = 0
        self._salt = salt
        self._slot = slot
        self._clock = clock
        self._derive = derive
        self._derive_backup_key = derive_backup_key
        self._fingerprint_key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, tuple[Cipher, float]] = OrderedDict()
        self._waiting: OrderedDict[bytes, _Derivation] = OrderedDict()
        self._running: _Derivation | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "oscd-derive", initializer=_give_way_to_readers)

    def recall(self, user_key: str) -> Cipher | None:
        """Return the remembered cipher of a user key, or None; costs microseconds and never derives."""
        fingerprint = self._fingerprint(user_key)
        self._forget_expired()
        remembered = self._remembered.get(fingerprint)
        if remembered is None:
            return None
        self._keep(fingerprint, remembered[0])
        return remembered[0]

    def remember(self, user_key: str, cipher: Cipher) -> None:
        """Keep a cipher for `recall`. Only for a user key that has just opened or written something."""
        self._remember(self._fingerprint(user_key), cipher)

    def _remember(self, fingerprint: bytes, cipher: Cipher) -> None:
        if self._closed:
            return
        self._forget_expired()
        self._keep(fingerprint, cipher)
        if len(self._remembered) > REMEMBERED_KEYS:
            self._remembered.popitem(last=False)

    def remember_later(self, user_key: str, cipher: Cipher) -> Callable[[], None]:
        """What remembers a cipher when it is called; it does not hold the user key."""
        return partial(self._remember, self._fingerprint(user_key), cipher)

    async def derive(self, user_key: str) -> Cipher:
        """Derive the cipher of a user key on the ring's thread; does not remember it.

        Callers with the same key share one derivation; one that is cancelled leaves it to the others. The
        wait is bounded: by `WAIT_SECONDS` until the derivation begins, then by its own length.

        Raises:
            TooManyRequests: `MAX_WAITING` others wait already, or it could not begin within `WAIT_SECONDS`.
            Unavailable: There is no salt yet, the ring is closed, or the slot's lock file cannot be opened.
        """
        return await self._share(self._fingerprint(user_key), partial(self._derive, user_key, self._salt()))

    async def derive_backup_key(self, password: str, salt: bytes) -> BackupKey:
        """Stretch the password of a backup as `derive` does a user key, in the same queue; nothing remembers it.

        Args:
            salt: That of the backup.

        Raises:
            TooManyRequests, Unavailable: As `derive`; the cluster's salt is not needed.
        """
        return await self._share(
            self._fingerprint(password, salt), partial(self._derive_backup_key, password, salt)
        )

    async def _share(self, fingerprint: bytes, stretch: Callable[[], Derived]) -> Derived:
        derivation = self._under_way(fingerprint) or self._enqueue(fingerprint, stretch)
        derivation.callers += 1
        try:
            # wait(), unlike await, leaves the shared future alone when this one caller is cancelled
            await asyncio.wait([derivation.result])
        finally:
            derivation.callers -= 1
            if derivation.callers == 0:
                self._give_up(derivation)
        # Of this type: equal fingerprints mean the same secret, salt and use.
        derived: Derived = derivation.result.result()
        return derived

    async def close(self) -> None:
        """Refuse what waits, let a derivation that has begun finish, end the thread and forget every key."""
        self._closed = True
        for derivation in self._waiting.values():
            _fail(derivation, _closing())
        self._waiting.clear()
        if self._running is not None:
            self._running.given_up.set()
            await asyncio.wait([self._running.result], timeout=_CLOSE_SECONDS)
        self._thread.shutdown(wait=False)
        self._remembered.clear()

    def _fingerprint(self, secret: str, backup_salt: bytes = b"") -> bytes:
        """What tells secrets apart: a user key, or the password of a backup together with its salt."""
        person = b"backup" if backup_salt else b"user key"
        data = backup_salt + secret.encode("utf-8")
        return hashlib.blake2b(data, digest_size=32, key=self._fingerprint_key, person=person).digest()

    def _keep(self, fingerprint: bytes, cipher: Cipher) -> None:
        self._remembered[fingerprint] = (cipher, self._clock() + REMEMBERED_SECONDS)
        self._remembered.move_to_end(fingerprint)

    def _forget_expired(self) -> None:
        # Last use orders the cache and all live equally long, so the expired ones are at its front.
        now = self._clock()
        while self._remembered and next(iter(self._remembered.values()))[1] <= now:
            self._remembered.popitem(last=False)

    def _under_way(self, fingerprint: bytes) -> _Derivation | None:
        running = self._running
        if running is not None and running.fingerprint == fingerprint and not running.given_up.is_set():
            return running
        return self._waiting.get(fingerprint)

    def _enqueue(self, fingerprint: bytes, stretch: Callable[[], Any]) -> _Derivation:
        if self._closed:
            raise _closing()
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyRequests("too many new user keys are waiting; keys already in use are still served")
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        derivation = _Derivation(fingerprint, stretch, self._clock() + WAIT_SECONDS, result)
        self._waiting[fingerprint] = derivation
        self._start_next()
        return derivation

    def _give_up(self, derivation: _Derivation) -> None:
        """Nobody waits any more: it leaves the queue, or its thread stops waiting for the slot."""
        if not derivation.result.done():
            derivation.given_up.set()
            self._waiting.pop(derivation.fingerprint, None)

    def _start_next(self) -> None:
        # The executor gets one at a time: its own queue has no bound and keeps what nobody awaits any more.
        if self._running is not None or not self._waiting:
            return
        _, derivation = self._waiting.popitem(last=False)
        self._running = derivation
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._derive_in_turn, derivation)
        done.add_done_callback(partial(self._finish, derivation))

    def _derive_in_turn(self, derivation: _Derivation) -> object:
        with self._slot.hold(derivation.begin_before - self._clock(), derivation.given_up):
            return derivation.stretch()

    def _finish(self, derivation: _Derivation, done: asyncio.Future[Any]) -> None:
        self._running = None
        error = done.exception()
        if error is not None:
            _fail(derivation, _closing() if self._closed else error)
        else:
            self.derivations += 1
            derivation.result.set_result(done.result())
        self._start_next()


def _give_way_to_readers() -> None:
    """Lower the calling thread's priority where threads have one of their own; elsewhere do without."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)


def _fail(derivation: _Derivation, error: BaseException) -> None:
    derivation.result.set_exception(error)
    # All callers may have gone, and asyncio would complain of an error that nobody looked at.
    derivation.result.exception()


def _closing() -> Unavailable:
    return Unavailable("the node is shutting down")
