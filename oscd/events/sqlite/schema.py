"""Owns the layout of the SQLite file and its versions. Must not touch a file that is not oscd's.

`application_id` says whose file it is, `user_version` which layout. An older layout is migrated, step by step,
in the transaction that found it; a newer one is refused.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence

from oscd.errors import StartRefused
from oscd.events.codec import genesis_digest
from oscd.events.event import Origin

APPLICATION_ID = 0x6F736364  # "oscd"

Migration = Callable[[sqlite3.Connection], None]


def _create_log(connection: sqlite3.Connection) -> None:
    for statement in (
        # What this node knows of itself: the SHA-256 of its salt, its own origin, the projections' version.
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        # One row per origin; seq, digest and stamp are those of its last event here.
        "CREATE TABLE origins (id INTEGER PRIMARY KEY, node_id TEXT NOT NULL, incarnation TEXT NOT NULL UNIQUE,"
        " seq INTEGER NOT NULL, digest BLOB NOT NULL, stamp INTEGER NOT NULL)",
        # header and body are the truth; the columns before them only serve the indexes, and `verify` compares.
        'CREATE TABLE events ("offset" INTEGER PRIMARY KEY, origin INTEGER NOT NULL REFERENCES origins,'
        " seq INTEGER NOT NULL, stamp INTEGER NOT NULL, environment TEXT NOT NULL, key TEXT NOT NULL,"
        " previous INTEGER, entry_id INTEGER, digest BLOB NOT NULL, header BLOB NOT NULL, body BLOB)",
        "CREATE UNIQUE INDEX events_by_origin ON events (origin, seq)",
        "CREATE INDEX events_by_entry ON events (environment, key, stamp)",
    ):
        connection.execute(statement)


def _name_origins_by_entry(connection: sqlite3.Connection) -> None:
    """Let the index itself tell which events of an entry a cut does not cover, without a look at each."""
    connection.execute("DROP INDEX events_by_entry")
    connection.execute("CREATE INDEX events_by_entry ON events (environment, key, stamp, origin)")


# MIGRATIONS[n] takes a file of layout n to layout n + 1; layout 0 is an empty file.
MIGRATIONS: tuple[Migration, ...] = (_create_log, _name_origins_by_entry)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the newest layout. The caller has opened a write transaction.

    Raises:
        StartRefused: The file is the original's, another program's, or a newer oscd's.
    """
    refuse_foreign(connection, newest=len(migrations))
    version = layout(connection)
    if version == len(migrations):
        return
    for migration in migrations[version:]:
        migration(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(migrations)}")


def layout(connection: sqlite3.Connection) -> int:
    """The layout version the file has."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def refuse_foreign(connection: sqlite3.Connection, newest: int = len(MIGRATIONS)) -> None:
    """Pass an oscd file of a known layout, or an empty file.

    Raises:
        StartRefused: The file is the original's, another program's, or a newer oscd's.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id == APPLICATION_ID:
        version = layout(connection)
        if version > newest:
            raise StartRefused(
                f"The log has layout {version}; this version of oscd reads up to {newest}. "
                "Run the newer oscd that wrote it."
            )
        return
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "configurations" in tables:
        raise StartRefused(
            "OSC_DATABASE_PATH is a database of OpenSecureConf. Take it over with: oscd import-legacy "
            "--database <that file> --salt <its salt file>, with OSC_DATABASE_PATH naming a new file."
        )
    if tables or application_id:
        raise StartRefused("OSC_DATABASE_PATH is a SQLite file of another program; name another file.")


def read_meta(connection: sqlite3.Connection, name: str) -> bytes | int | str | None:
    """One fact this node keeps of itself."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def write_meta(connection: sqlite3.Connection, name: str, value: bytes | int | str) -> None:
    """Set one fact."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def own_origin(connection: sqlite3.Connection, node_id: str) -> Origin:
    """The origin this node appends to; a new incarnation where it has none or has been renamed."""
    row = connection.execute(
        "SELECT node_id, incarnation FROM origins WHERE id = (SELECT value FROM meta WHERE name = 'own_origin')"
    ).fetchone()
    if row is not None and row[0] == node_id:
        return Origin(*row)
    origin = new_origin(connection, node_id)
    (row_id,) = connection.execute(
        "SELECT id FROM origins WHERE incarnation = ?", (origin.incarnation,)
    ).fetchone()
    write_meta(connection, "own_origin", row_id)
    return origin


def new_origin(connection: sqlite3.Connection, node_id: str) -> Origin:
    """Begin an incarnation of `node_id` that no log has seen."""
    origin = Origin(node_id, secrets.token_hex(8))
    connection.execute(
        "INSERT INTO origins (node_id, incarnation, seq, digest, stamp) VALUES (?, ?, 0, ?, 0)",
        (origin.node_id, origin.incarnation, genesis_digest(origin)),
    )
    return origin
