"""Owns the command `release`: its options, the question it asks, what it says."""

from __future__ import annotations

import sys

import click

from oscd.cli.log_file import database, reading
from oscd.projections.entry import Entry
from oscd.release import live_entry, release_entry, require_serving
from oscd.server.process import harden_process
from oscd.shown import shown
from oscd.times import rfc3339


@click.command()
@click.argument("key")
@click.option("--environment", "-e", required=True, help="The entry's environment.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked.")
def release(*, key: str, environment: str, yes: bool) -> None:
    """Delete an entry whose user key is lost or somebody else's.

    Works on the file of OSC_DATABASE_PATH, on a stopped node or beside a running one. The value stays sealed, and
    the entry in the history; anybody may then create it anew. The event says that the operator did it.

    Example: oscd release db/password --environment prod
    """
    harden_process()
    path = database()
    seen = None
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: add --yes to delete the entry.")
        with reading(path) as log:
            require_serving(log)
            seen = live_entry(log, environment, key)
        click.confirm(f"Delete {_entry(seen)}?", abort=True, err=True)
    recorded = release_entry(path, environment, key, seen=seen)
    click.echo(f"Released '{shown(key)}' in environment '{shown(environment)}' at offset {recorded.offset}.")


def _entry(entry: Entry) -> str:
    owner = "imported, no key known" if entry.key_id is None else f"key id {entry.key_id.hex()}"
    return (
        f"'{shown(entry.key)}' in environment '{shown(entry.environment)}' (version {entry.version},"
        f" {rfc3339(entry.updated_at)}, {owner})"
    )
