"""An examination ends, whatever its checks meet, and what they meet shows in no line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from oscd.doctor.examination import SLOW_SECONDS, Check, examine
from oscd.doctor.finding import Finding, Level, ok
from oscd.errors import StartRefused

SECRET = "correct-horse-battery"


class Waiting:
    """Notes what is waited for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.names.append(name)
        yield


def raising(error: Exception) -> Check:
    def run() -> list[Finding]:
        raise error

    return Check("raising", run)


def test_a_check_that_hangs_is_given_up() -> None:
    """What does not answer fails in its time, somebody is told what is waited for, and the next check is run."""
    never, waiting = Event(), Waiting()

    def hang() -> list[Finding]:
        never.wait()
        return []

    checks = [Check("hung", hang, SLOW_SECONDS + 0.1), Check("next", lambda: [ok("next", "well")])]
    hung, following = examine(checks, waiting)
    never.set()
    assert (hung.level, hung.name, hung.verdict) == (
        Level.FAIL,
        "hung",
        f"no verdict within {SLOW_SECONDS + 0.1:g} s",
    )
    assert following.level is Level.OK
    assert waiting.names == ["hung"]


def test_what_a_check_raises_is_a_verdict() -> None:
    """Our own words and the system's are told; the message of anything else may hold anything, so it is not."""
    said = {
        "it is refused": StartRefused("it is refused"),
        "SQLite says: malformed": sqlite3.DatabaseError("malformed"),
        "No space left on device": OSError(28, "No space left on device", SECRET),
        "the check itself failed with KeyError": KeyError(SECRET),
    }
    for verdict, error in said.items():
        (finding,) = examine([raising(error)], Waiting())
        assert (finding.level, finding.verdict) == (Level.FAIL, verdict)
