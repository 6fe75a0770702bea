"""Owns the command `import-legacy`: its options, its progress bar, what it says. The rules are in `oscd/legacy/`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from oscd.cli.progress import progress
from oscd.events.salt import salt_warning
from oscd.events.sqlite.file import Room
from oscd.legacy.fit import Choices, Destination, read_salt, require_acceptable
from oscd.legacy.placing import Tally
from oscd.legacy.rehearsal import rehearse
from oscd.legacy.source import LegacyDatabase, Survey
from oscd.legacy.takeover import take_over
from oscd.server.process import harden_process
from oscd.server.settings import Settings, load_settings
from oscd.times import microseconds_now

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("import-legacy")
@click.option("--database", required=True, type=_FILE, help="The original's database; only read.")
@click.option("--salt", "salt_file", required=True, type=_FILE, help="Its encryption.salt; only read.")
@click.option("--dry-run", is_flag=True, help="Say what would be imported; change and make no file.")
@click.option(
    "--merge", is_flag=True, help="Allow a log that holds events; the later write of an entry stands."
)
@click.option(
    "--skip-invalid", is_flag=True, help="Leave out rows that oscd cannot hold instead of refusing."
)
def import_legacy(*, database: Path, salt_file: Path, dry_run: bool, merge: bool, skip_invalid: bool) -> None:
    """Take over a database of OpenSecureConf 3.x: ids, times and sealed values; no user key is needed.

    Goes to OSC_DATABASE_PATH, another file; the salt is copied to OSC_SALT_FILE_PATH. All rows or none. Neither
    OpenSecureConf nor a node on that log may be running.

    Example: OSC_DATABASE_PATH=oscd.db oscd import-legacy --database configurations.db --salt encryption.salt
    """
    harden_process()
    settings, warnings = load_settings(os.environ, Path.cwd())
    choices = Choices(merge, skip_invalid)
    salt = read_salt(salt_file)
    now = microseconds_now()
    with LegacyDatabase(database) as source:
        survey = source.survey(now)
        require_acceptable(survey, choices)
        with progress("Looking" if dry_run else "Importing", survey.rows) as tell:
            work = rehearse if dry_run else take_over
            tally = work(source, salt, _destination(settings), choices, now, tell)
    for warning in [*warnings, *_warnings(survey, settings, dry_run=dry_run)]:
        click.echo(f"oscd: warning: {warning}", err=True)
    click.echo(_summary(survey, tally, dry_run=dry_run))


def _destination(settings: Settings) -> Destination:
    room = Room(settings.min_free_bytes, settings.max_log_bytes)
    return Destination(settings.database_path, settings.salt_file_path, settings.node_id, room)


def _warnings(survey: Survey, settings: Settings, *, dry_run: bool) -> list[str]:
    warnings = [f"row {row.id} is left out: {row.reason}" for row in survey.examples]
    if survey.unfit > len(survey.examples):
        warnings.append(f"… and {survey.unfit - len(survey.examples)} more rows are left out")
    if survey.from_future:
        warnings.append(f"{survey.from_future} row(s) were written at a time to come; that is taken as now")
    if not dry_run and (loose := salt_warning(settings.salt_file_path)) is not None:
        warnings.append(loose)
    return warnings


def _summary(survey: Survey, tally: Tally, *, dry_run: bool) -> str:
    details = (
        (tally.replaced, "replacing an older write"),
        (tally.renumbered, "under a new id"),
        (tally.outdated, "left out because the log has a later write"),
        (survey.unfit, "left out as invalid"),
    )
    told = "".join(f"; {number} {what}" for number, what in details if number)
    verb = "Would import" if dry_run else "Imported"
    return f"{verb} {tally.imported} of {survey.rows} rows{told}."
