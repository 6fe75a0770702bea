"""Owns whether the log's file is sound and its salt the right one. Reads only; beside a node, too."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.events.salt import ensure_salt, load_salt, salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import Finding as Fault
from oscd.events.sqlite.verify import verify_tail
from oscd.server.settings import Settings
from oscd.times import microseconds_now

QUICK_SECONDS: Final = 10.0
"""For SQLite's look at the file; that of a large log takes longer, and keeps it from being truncated meanwhile."""

TAIL_EVENTS: Final = 1000
SHOWN_FAULTS: Final = 3

AHEAD_SECONDS: Final = 2.0
"""What the newest stamp may be ahead of this clock: stamps rise by 1 µs where more than one falls into it."""

_STEPS: Final = 10_000
"""Of SQLite's virtual machine between two looks at the time, some 1 ms."""

OpenLog = Callable[[], AbstractContextManager[sqlite3.Connection]]
Proof = Callable[[sqlite3.Connection], Iterable[Fault]]


def quickly(open_log: OpenLog) -> Iterator[Finding]:
    """Whether SQLite's pages are whole, and the chains of the last events hold."""
    with open_log() as connection:
        with _deadline(connection, QUICK_SECONDS):
            try:
                pages = [text for (text,) in connection.execute(f"PRAGMA quick_check({SHOWN_FAULTS})")]
            except sqlite3.OperationalError:
                pages = []
        damaged = [str(text) for text in pages if text != "ok"]
        if damaged:
            yield from _damaged(Fault("file", text) for text in damaged)
            return
        connection.execute("BEGIN")  # one view, while a node goes on appending
        faults = list(itertools.islice(verify_tail(connection, TAIL_EVENTS), SHOWN_FAULTS))
        events = SqliteReading(connection).head()
        yield from _damaged(faults)
        if faults:
            return
        if pages:
            yield ok(
                "log", f"{events} events; the file and its last {min(events, TAIL_EVENTS)} events are sound"
            )
        else:
            yield warn(
                "log", f"SQLite's look at it was given up after {QUICK_SECONDS:g} s", "oscd doctor --full"
            )


def fully(open_log: OpenLog, proof: Proof) -> Iterator[Finding]:
    """What `oscd verify` proves."""
    with open_log() as connection:
        faults = list(itertools.islice(proof(connection), SHOWN_FAULTS))
        yield from _damaged(faults)
        if not faults:
            yield ok("log", f"{SqliteReading(connection).head()} events: chain, digests and tables agree")


def salt(open_log: OpenLog, settings: Settings) -> Iterator[Finding]:
    """Whether the salt is the one the events were sealed under, and the stamps are not ahead of the clock.

    Raises:
        StartRefused: It is not; the line says what to do.
    """
    path = settings.salt_file_path
    with open_log() as connection:
        events = SqliteReading(connection).head()
        noted = schema.read_meta(connection, "salt_digest")
        (newest,) = connection.execute("SELECT max(stamp) FROM origins").fetchone()
    if events:
        ensure_salt(path, noted if isinstance(noted, bytes) else None, log_is_empty=False)
        yield ok("salt", "it is the one the events were sealed under")
    elif os.path.lexists(path):
        loaded = salt_digest(load_salt(path))
        yield ok(
            "salt", "it is the one the log notes" if loaded == noted else "the log is empty and takes any"
        )
    else:
        yield ok("salt", "there is none yet, and no event")
    ahead = ((newest or 0) - microseconds_now()) / 1e6
    if ahead > AHEAD_SECONDS:
        yield warn(
            "clock",
            f"the newest event is stamped {ahead:.0f} s after it",
            "see that it is right on every node",
        )


def _damaged(faults: Iterable[Fault]) -> Iterator[Finding]:
    advice = "`oscd verify` lists everything; restore from a snapshot, or start empty beside a cluster"
    for fault in faults:
        yield fail("log", str(fault), advice)


@contextmanager
def _deadline(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Have SQLite give up what takes longer (OperationalError)."""
    over_at = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > over_at, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
