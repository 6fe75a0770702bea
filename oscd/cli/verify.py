"""Owns the command `verify`: its options, what it says. Works on a copy or a snapshot, and beside a node."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from oscd.cli.log_file import FILE_ARGUMENT, database, reading
from oscd.cli.progress import progress
from oscd.events.sqlite import schema
from oscd.events.sqlite.fingerprint import (
    Fingerprint,
    FingerprintUnreadable,
    fingerprint_at,
    parse_fingerprint,
)
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import Finding
from oscd.projections.verify import verify_log

MAX_FINDINGS = 100


def _read_fingerprint(_: click.Context, __: click.Parameter, text: str | None) -> Fingerprint | None:
    try:
        return None if text is None else parse_fingerprint(text)
    except FingerprintUnreadable as error:
        raise click.BadParameter(f"{error}.") from error


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes:
        fingerprint: Of all of it; None where there are faults, as it would prove nothing.
        expected: What the auditor wrote down, None where nothing was.
        found: What the log gives there today; None where it ends before, or has faults.
    """

    events: int
    is_snapshot: bool
    faults: list[Finding]
    fingerprint: Fingerprint | None = None
    expected: Fingerprint | None = None
    found: Fingerprint | None = None

    @property
    def is_sound(self) -> bool:
        """Whether there are no faults, and the log is the one that was written down."""
        return not self.faults and self.expected == self.found


@click.command()
@FILE_ARGUMENT
@click.option(
    "--expect",
    callback=_read_fingerprint,
    metavar="FINGERPRINT",
    help="A fingerprint printed before: is the log up to its offset still the same?",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def verify(*, file: Path | None, expect: Fingerprint | None, as_json: bool) -> None:
    """Prove that the log is what was appended and the tables are what the log says.

    FILE is a copy or a snapshot; without it, the log of OSC_DATABASE_PATH. Reads only, and may run beside a serving
    node; the node's write-ahead log then grows while the file is checked and the tables are compared, so for a large
    log verify a copy. Every fault is one line that says where it is; the exit status is then 1.

    The fingerprint at the end stands for all of the log up to now. Write it down elsewhere: --expect then finds
    what a log cannot show by itself, a tail that was cut off and a file that was rewritten as a whole.

    Example: oscd verify --expect 1234:6Q9TB-0MA3V-XW2Z4-8NKRD
    """
    with reading(database(file), is_copy=file is not None) as connection:
        verified = _verified(connection, expect)
    if as_json:
        click.echo(_document(verified))
    else:
        _tell(verified)
    if not verified.is_sound:
        sys.exit(1)


def _verified(connection: sqlite3.Connection, expect: Fingerprint | None) -> Verified:
    events, is_snapshot = SqliteReading(connection).head(), schema.is_snapshot(connection)
    with progress("Verifying", 2 * events) as tell:
        faults = list(itertools.islice(verify_log(connection, tell), MAX_FINDINGS))
    if faults:
        return Verified(events, is_snapshot, faults, expected=expect)
    return Verified(
        events,
        is_snapshot,
        faults,
        fingerprint=fingerprint_at(connection, events),
        expected=expect,
        found=None if expect is None else fingerprint_at(connection, expect.offset),
    )


def _tell(verified: Verified) -> None:
    for finding in verified.faults:
        click.echo(finding)
    if verified.faults:
        more = " (only the first are shown)" if len(verified.faults) == MAX_FINDINGS else ""
        uncompared = " The fingerprint was not compared." if verified.expected is not None else ""
        click.echo(f"{len(verified.faults)} fault(s) found{more}.{uncompared}", err=True)
        return
    if verified.is_snapshot:
        click.echo(
            f"{verified.events} events of a snapshot verified: chain and digests agree; it has no tables."
        )
    else:
        click.echo(f"{verified.events} events verified: chain, digests and tables agree.")
    click.echo(f"Fingerprint: {verified.fingerprint}")
    if verified.expected is not None:
        click.echo(f"Expected:    {verified.expected}: {_verdict(verified)}", err=not verified.is_sound)


def _verdict(verified: Verified) -> str:
    expected = verified.expected
    assert expected is not None
    if expected == verified.found:
        return "matches; this is the log it was taken of."
    if verified.found is None:
        return f"does NOT match: the tail was cut, the log ends at offset {verified.events}."
    return (
        f"does NOT match: history up to offset {expected.offset} was rewritten, or this is another log; it gives"
        f" {verified.found} now."
    )


def _document(verified: Verified) -> bytes:
    def text(fingerprint: Fingerprint | None) -> str | None:
        return None if fingerprint is None else str(fingerprint)

    return orjson.dumps(
        {
            "events": verified.events,
            "snapshot": verified.is_snapshot,
            "faults": [{"where": fault.where, "what": fault.what} for fault in verified.faults],
            "fingerprint": text(verified.fingerprint),
            "expected": text(verified.expected),
            "found": text(verified.found),
            "sound": verified.is_sound,
        }
    )
