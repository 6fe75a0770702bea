"""Owns that an examination comes to an end: each check in its time, whatever it meets. Must not know a check."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Thread
from typing import Final

from oscd.doctor.finding import Finding, fail
from oscd.errors import OscdError

SLOW_SECONDS: Final = 2.0
"""After which somebody who waits is told what for."""

CHECK_SECONDS: Final = 15.0
"""Enough for what a healthy disk or network takes, and for a deadline of its own to be over first."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: Of what it finds, where it finds nothing because it fails itself.
        run: Finds, on a thread of its own.
        seconds: How long it may take; None for one that shows how far it is.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    seconds: float | None = CHECK_SECONDS


Waiting = Callable[[str], AbstractContextManager[None]]
"""Tells somebody, for as long as it lasts, which check is waited for."""


def examine(checks: Sequence[Check], waiting: Waiting) -> Iterator[Finding]:
    """Run the checks one after the other; gives what each finds as soon as it has ended."""
    for check in checks:
        yield from _found(check, waiting)


def _found(check: Check, waiting: Waiting) -> Iterable[Finding]:
    found: list[Finding] = []
    # A disk that does not answer holds its thread for ever; a daemon does not hold the process.
    thread = Thread(target=lambda: found.extend(_outcome(check)), name=f"check {check.name}", daemon=True)
    thread.start()
    thread.join(SLOW_SECONDS)
    if thread.is_alive():
        with waiting(check.name):
            thread.join(None if check.seconds is None else check.seconds - SLOW_SECONDS)
    if thread.is_alive():
        return [
            fail(
                check.name, f"no verdict within {check.seconds:g} s", "see what its disk or network waits for"
            )
        ]
    return found


def _outcome(check: Check) -> list[Finding]:
    try:
        return list(check.run())
    except OscdError as error:
        return [fail(check.name, str(error))]
    except sqlite3.Error as error:
        return [fail(check.name, f"SQLite says: {error}")]
    except OSError as error:
        return [fail(check.name, error.strerror or "the system gives no reason")]
    except Exception as error:
        # A fault of the check itself; its message may hold anything.
        return [fail(check.name, f"the check itself failed with {type(error).__name__}", "report it")]
