"""Owns how the commands that work on the log's file find and open it. Must not know what they do with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click

from oscd.errors import StartRefused
from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import is_claimed
from oscd.events.sqlite.faults import CommitFailed
from oscd.events.sqlite.file import Inode, configure, inode_of
from oscd.server.settings import Settings, load_settings

FILE_ARGUMENT: Final = click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
"""Another log than that of the settings: a copy, or a snapshot."""


def settings() -> Settings:
    """The settings of the node in this directory.

    Raises:
        StartRefused: One cannot be read.
    """
    found, _ = load_settings(os.environ, Path.cwd())
    return found


def database(file: Path | None = None) -> Path:
    """The file of the log: the one that was named, or that of the settings.

    Raises:
        StartRefused: The settings cannot be read, or there is no such file.
    """
    path = (settings().database_path if file is None else file).resolve()
    if inode_of(path) is None:
        raise StartRefused(f"{_named(file)}{path}: there is no such file.")
    return path


@contextmanager
def reading(path: Path, *, is_copy: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a log that can change nothing, not even by closing.

    Args:
        is_copy: Whether nobody is meant to write it meanwhile. If so it seems, no file is made beside it: it may be
            evidence, or in a directory that cannot be written.

    Raises:
        StartRefused: It cannot be read, is not a log of this version, or was written all the same.
    """
    is_still = is_copy and _is_still(path)
    before = _written(path)
    # SQLite makes files beside any other log, even to read it, and removes them only if it may write.
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    with translated(path), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        require_log(connection, path)
        configure(connection, read_only=True)
        yield connection
    if is_still and _written(path) != before:
        raise StartRefused(f"{path}: this file was written while it was read; do that again.")


def _is_still(path: Path) -> bool:
    """Whether all of a log is in this one file, and no oscd is at work on it."""
    beside = (Path(f"{path}{suffix}") for suffix in ("-wal", "-journal"))
    return not is_claimed(path) and not any(file.exists() and file.stat().st_size for file in beside)


def _written(path: Path) -> tuple[Inode | None, int, int]:
    status = path.stat()
    return (inode_of(path), status.st_size, status.st_mtime_ns)


def require_log(connection: sqlite3.Connection, path: Path) -> None:
    """Pass a log whose layout is this version's, and a snapshot of any version so far.

    Raises:
        StartRefused: It is another.
    """
    schema.refuse_foreign(connection)
    layout = schema.layout(connection)
    # No start ever brings a snapshot up to date. What is read of one has been in every layout; a migration that
    # changes that has to bring a copy of it up to date first.
    if layout != len(schema.MIGRATIONS) and not (layout and schema.is_snapshot(connection)):
        raise StartRefused(f"{path}: not a log of this version; start the node on it first.")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Make a line for a person of what SQLite says.

    Raises:
        StartRefused: SQLite could not go on.
    """
    try:
        yield
    except CommitFailed as error:
        raise StartRefused(f"{path}: it is not known whether this was written: {error.__cause__}.") from error
    except sqlite3.Error as error:
        raise StartRefused(f"{path}: {error}.") from error


def _named(file: Path | None) -> str:
    return "OSC_DATABASE_PATH=" if file is None else ""
