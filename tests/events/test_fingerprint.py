"""Fingerprints: what an auditor writes down reads back, and stands for everything up to its offset."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from oscd.events.event import Origin
from oscd.events.sqlite.fingerprint import (
    FingerprintUnreadable,
    OriginEnd,
    fingerprint_at,
    fingerprint_of,
    parse_fingerprint,
)
from tests.projections.history import Step, log_with, run_more

HISTORY: list[Step] = [
    ("create", "prod", "a", "db"),
    ("create", "prod", "b", ""),
    ("update", "prod", "a", ""),
]
A = OriginEnd(Origin("node-a", "00112233445566aa"), 7, b"a" * 32)
B = OriginEnd(Origin("node-b", "00112233445566bb"), 3, b"b" * 32)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with log_with(tmp_path / "log.db", HISTORY) as connection:
        yield connection


def test_a_fingerprint_is_the_same_for_ever() -> None:
    """The format is a promise: what was written down years ago must still be found equal."""
    assert str(fingerprint_of(10, [A, B])) == "10:9Z430-0E42K-SG2AD-EDNMZ"


@pytest.mark.parametrize("seed", range(20))
def test_what_was_written_down_reads_back(seed: int) -> None:
    """In lower case, with O for 0 and I or L for 1, without hyphens or with others, and with blanks around."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    noted = fingerprint_of(seed, [OriginEnd(A.origin, seed + 1, chance.randbytes(32))])
    alike = {"0": "0Oo", "1": "1IiLl"}
    code = "".join(chance.choice(alike.get(c, c + c.lower())) for c in noted.code)
    cut = chance.randrange(1, 19)
    assert parse_fingerprint(f" {noted.offset}:{code[:cut]}-{code[cut:]}\n") == noted
    assert parse_fingerprint(str(noted)) == noted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "ABCDE-FGHJK-MNPQR-STVWX",
        ":ABCDE-FGHJK-MNPQR-STVWX",
        "7:ABCDE-FGHJK-MNPQR-STVW",
        "7:ABCDE-FGHJK-MNPQR-STVWXY",
        "7:ABCDE-FGHJK-MNPQR-STVWU",
        "-7:ABCDE-FGHJK-MNPQR-STVWX",
        "99999999999999999999:ABCDE-FGHJK-MNPQR-STVWX",
        "9223372036854775808:ABCDE-FGHJK-MNPQR-STVWX",
        "\u0667:ABCDE-FGHJK-MNPQR-STVWX",
    ],
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    """A slip of the pen is told from a log that was rewritten."""
    with pytest.raises(FingerprintUnreadable):
        parse_fingerprint(text)


def test_every_part_counts() -> None:
    """Offset, names, seqs and digests: another one of any gives another fingerprint."""
    other = [
        fingerprint_of(11, [A, B]),
        fingerprint_of(10, [A]),
        fingerprint_of(10, [B]),
        fingerprint_of(10, [A, OriginEnd(B.origin, 4, B.digest)]),
        fingerprint_of(10, [A, OriginEnd(B.origin, 3, A.digest)]),
        fingerprint_of(10, [A, OriginEnd(Origin("node-c", B.origin.incarnation), 3, B.digest)]),
        fingerprint_of(10, [A, OriginEnd(Origin("node-b", A.origin.incarnation), 3, B.digest)]),
        fingerprint_of(10, [A, B]),
    ]
    assert len({fingerprint.code for fingerprint in other}) == len(other)


def test_a_log_that_grew_still_gives_it(log: sqlite3.Connection) -> None:
    """The fingerprint at an offset stays what it was when the log ended there; there is none past its end."""
    noted = fingerprint_at(log, 3)
    assert noted is not None
    assert fingerprint_at(log, 4) is None
    run_more(log, [("delete", "prod", "b", ""), ("create", "dev", "a", "")])
    assert fingerprint_at(log, 3) == noted
    assert fingerprint_at(log, 5) not in (None, noted)
