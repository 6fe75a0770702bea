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
from oscd.events.sqlite.faults import CommitFailed
from oscd.events.sqlite.file import configure, inode_of
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
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a log that can change nothing, not even by closing.

    Raises:
        StartRefused: It cannot be read, or is not a log of this version.
    """
    with translated(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        with closing(connection):
            require_log(connection, path)
            configure(connection, read_only=True)
            yield connection


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
