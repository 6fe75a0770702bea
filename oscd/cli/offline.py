"""Owns the commands that work on the log's file itself: `verify` (beside a node, too) and `rebuild`."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from oscd.cli.progress import progress
from oscd.errors import StartRefused
from oscd.events.sqlite import schema
from oscd.events.sqlite.file import LogFile, configure, inode_of
from oscd.events.sqlite.prepare import NodeClaim, one_transaction, reproject
from oscd.events.sqlite.transaction import SqliteReading
from oscd.events.sqlite.verify import Finding, verify_chain
from oscd.projections.sqlite import VERSION, SqliteProjections
from oscd.projections.verify import verify_projections
from oscd.server.process import harden_process
from oscd.server.settings import load_settings

MAX_FINDINGS = 100


@click.command()
def verify() -> None:
    """Prove that the log is what was appended and the tables are what the log says.

    Reads only, and may run beside a serving node; the node's write-ahead log then grows while the file is checked
    and the tables are compared, so for a large log verify a copy. Every fault is one line that says where it is;
    the exit status is then 1.

    Example: OSC_DATABASE_PATH=copy.db oscd verify
    """
    with _reading(_database()) as connection:
        events = SqliteReading(connection).head()
        with progress("Verifying", 2 * events) as tell:
            found = _findings(connection, tell, events)
            shown = list(itertools.islice(found, MAX_FINDINGS))
    for finding in shown:
        click.echo(finding)
    if shown:
        more = " (only the first are shown)" if len(shown) == MAX_FINDINGS else ""
        click.echo(f"{len(shown)} fault(s) found{more}.", err=True)
        sys.exit(1)
    click.echo(f"{events} events verified: chain, digests and tables agree.")


def _findings(connection: sqlite3.Connection, tell: Callable[[int], None], events: int) -> Iterator[Finding]:
    is_broken = False
    for finding in verify_chain(connection, tell):
        is_broken = True
        yield finding
    if is_broken:
        # A replay of a broken log would only repeat its faults in other words.
        return
    if schema.read_meta(connection, "projections") != VERSION:
        yield Finding("tables", "they were projected by another version of oscd; run `oscd rebuild`")
        return
    yield from verify_projections(connection, lambda offset: tell(events + offset))


@click.command()
def rebuild() -> None:
    """Drop the entry table and the statistics and replay the log into new ones, in one transaction.

    The node must not be running.

    Example: oscd rebuild && oscd verify
    """
    harden_process()
    path = _database()
    file = LogFile(path, _inode(path))
    claim = NodeClaim(path)
    try:
        with _translated(path), one_transaction(file) as connection:
            _require_log(connection, path)
            events = SqliteReading(connection).head()
            with progress("Rebuilding", events) as tell:
                reproject(connection, SqliteProjections(), tell)
    finally:
        claim.release()
    click.echo(f"{events} events replayed.")


def _database() -> Path:
    settings, _ = load_settings(os.environ, Path.cwd())
    return settings.database_path.resolve()


def _inode(path: Path) -> tuple[int, int]:
    inode = inode_of(path)
    if inode is None:
        raise StartRefused(f"OSC_DATABASE_PATH={path}: there is no such file.")
    return inode


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing, not even by closing."""
    _inode(path)
    with _translated(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            _require_log(connection, path)
            configure(connection, read_only=True)
            yield connection
        finally:
            connection.close()


def _require_log(connection: sqlite3.Connection, path: Path) -> None:
    schema.refuse_foreign(connection)
    if schema.layout(connection) != len(schema.MIGRATIONS):
        raise StartRefused(
            f"OSC_DATABASE_PATH={path}: not a log of this version; start the node on it first."
        )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StartRefused(f"OSC_DATABASE_PATH={path}: {error}.") from error
