"""Owns the command `doctor`: its options, its lines, its exit status. What is looked at, `oscd/doctor/` knows."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from oscd.cli.log_file import reading
from oscd.cli.outcome import EXIT_FAILED
from oscd.cli.output import is_terminal, say, tell_json
from oscd.cli.progress import progress
from oscd.doctor.examination import examine
from oscd.doctor.finding import Finding, Level, fail
from oscd.errors import StartRefused
from oscd.events.sqlite.claim import is_claimed
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.verify import Finding as Fault
from oscd.projections.verify import verify_log
from oscd.server.settings import Settings, load_settings

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command()
@click.option("--full", is_flag=True, help="Prove the whole log, as `oscd verify` does; takes its time.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def doctor(*, full: bool, as_json: bool) -> None:
    """Look at everything a node needs, and say what is wrong and what to do about it.

    Settings, permissions, disk, open files, clock, certificates, log, salt, the node itself and its peers: a line
    each, which begins with ok, warn or FAIL. Run it as the user of the node, with its settings, beside the node or
    before its start. It writes nothing, shows no secret, and gives up on what does not answer.

    Exit status: 0 where nothing fails, warnings or not, 1 where something does, 2 wrong usage. With --json an object:
    level (ok, warn, fail; the worst there is) and checks, each with level, name, verdict, advice.

    Example: oscd doctor
    """
    found: list[Finding] = []
    for finding in _findings(full=full):
        found.append(finding)
        if not as_json:
            say(str(finding), colour=_COLOURS[finding.level])
    worst = max(finding.level for finding in found)
    if as_json:
        checks = [
            {"level": one.level.name.lower(), "name": one.name, "verdict": one.verdict, "advice": one.advice}
            for one in found
        ]
        tell_json({"level": worst.name.lower(), "checks": checks})
    if worst is Level.FAIL:
        sys.exit(EXIT_FAILED)


def _findings(*, full: bool) -> Iterator[Finding]:
    try:
        settings, warnings = load_settings(os.environ, Path.cwd())
    except StartRefused as refused:
        yield fail("settings", str(refused), "nothing else was looked at")
        return
    # Here, as it takes a tenth of a second that no other command need wait for.
    from oscd.doctor.checks import Patient, checks_of

    patient = Patient(
        settings,
        warnings,
        os.environ,
        Path.cwd(),
        datetime.now(UTC),
        partial(_open_log, settings),
        _proof if full else None,
    )
    yield from examine(list(checks_of(patient)), _waiting)


@contextmanager
def _open_log(settings: Settings) -> Iterator[sqlite3.Connection]:
    path = settings.database_path.resolve()
    # Where no node runs, not even SQLite's own files are made beside it.
    with reading(path, is_copy=not is_claimed(path)) as connection:
        yield connection


def _proof(connection: sqlite3.Connection) -> Iterable[Fault]:
    with progress("Verifying", 2 * SqliteReading(connection).head()) as tell:
        yield from verify_log(connection, tell)


@contextmanager
def _waiting(name: str) -> Iterator[None]:
    """Show on a terminal what is waited for."""
    if not (is_terminal() and sys.stderr.isatty()):
        yield
        return
    click.echo(f"…     {name}", nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
