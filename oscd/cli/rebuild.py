"""Owns the command `rebuild`: its options, what it says."""

from __future__ import annotations

import click

from oscd.cli.log_file import database, require_log, translated
from oscd.cli.progress import progress
from oscd.errors import StartRefused
from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.file import LogFile, inode_of
from oscd.events.sqlite.outside import one_transaction
from oscd.events.sqlite.prepare import reproject
from oscd.events.sqlite.reading import SqliteReading
from oscd.projections.sqlite import SqliteProjections
from oscd.server.process import harden_process


@click.command()
def rebuild() -> None:
    """Drop the entry table and the statistics and replay the log into new ones, in one transaction.

    The node must not be running.

    Example: oscd rebuild && oscd verify
    """
    harden_process()
    path = database()
    inode = inode_of(path)
    if inode is None:
        raise StartRefused(f"{path}: there is no such file.")
    claim = NodeClaim(path)
    try:
        with translated(path), one_transaction(LogFile(path, inode)) as connection:
            require_log(connection, path)
            schema.refuse_snapshot(connection)
            events = SqliteReading(connection).head()
            with progress("Rebuilding", events) as tell:
                reproject(connection, SqliteProjections(), tell)
    finally:
        claim.release()
    click.echo(f"{events} events replayed.")
