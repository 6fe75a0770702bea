"""Owns the commands `snapshot` and `restore`: their options, what they say. The rules are in `oscd/snapshots/`."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import orjson

from oscd.cli.log_file import database, reading, settings
from oscd.cli.moment import cut_here, read_moment
from oscd.cli.progress import progress
from oscd.events.salt import load_salt
from oscd.events.sqlite import schema
from oscd.moment import Moment, MomentUnknown
from oscd.server.process import harden_process
from oscd.snapshots.copying import Extent, extent_of
from oscd.snapshots.errors import SnapshotRefused
from oscd.snapshots.restore import STAGES
from oscd.snapshots.restore import restore as restore_into
from oscd.snapshots.take import Made, take_snapshot

_AT = click.option(
    "--at",
    metavar="POSITION|TIME",
    callback=read_moment,
    help="Only what was written up to then; a time is RFC 3339, or how long ago: 2h.",
)
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_AT
@_JSON
def snapshot(*, file: Path, at: Moment | None, as_json: bool) -> None:
    """Copy a node's log and salt into FILE, whole and verified, while the node goes on.

    FILE must not exist. Whoever has it and a user key can read that key's values: keep it like the salt.

    Example: oscd snapshot /backup/oscd-monday.db
    """
    harden_process()
    salt = load_salt(settings().salt_file_path)
    with _ended_tidily(), reading(database()) as log:
        if schema.is_snapshot(log):
            raise SnapshotRefused("OSC_DATABASE_PATH is a snapshot itself; copy the file.")
        extent = _extent(log, at)
        with progress("Copying", 2 * extent.head) as tell:
            made = take_snapshot(log, extent, salt, file, tell)
    _tell("Copied", made, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The new node's directory; made if it is missing.",
)
@_AT
@_JSON
def restore(*, file: Path, directory: Path, at: Moment | None, as_json: bool) -> None:
    """Make a node of the snapshot FILE: its log, its tables and its salt, verified.

    The node goes on from there under an incarnation of its own; the original may still run. Settings are not part
    of a snapshot.

    Example: oscd restore /backup/oscd-monday.db --to node-b && cd node-b && oscd serve
    """
    harden_process()
    with _ended_tidily(), reading(file.resolve(), is_copy=True) as log:
        extent = _extent(log, at)
        with progress("Restoring", STAGES * extent.head) as tell:
            made = restore_into(log, extent, directory, tell)
    _tell("Restored", made, as_json=as_json)


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Let SIGTERM and a lost terminal unwind like Ctrl-C does, so that no draft with a salt in it is left."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    # What is ignored stays so: under nohup it goes on without its terminal.
    numbers = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _extent(log: sqlite3.Connection, at: Moment | None) -> Extent:
    try:
        return extent_of(log, None if at is None else lambda reading: cut_here(reading, at))
    except MomentUnknown as error:
        raise SnapshotRefused(f"--at: {error}.") from error


def _tell(done: str, made: Made, *, as_json: bool) -> None:
    position = made.position.encode()
    if as_json:
        document = {"events": made.events, "position": position, "fingerprint": str(made.fingerprint)}
        click.echo(orjson.dumps(document))
        return
    click.echo(f"{done} and verified {made.events} events.")
    click.echo(f"Position:    {position}")
    click.echo(f"Fingerprint: {made.fingerprint}")
