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
from oscd.events.event import EventRef, Origin

APPLICATION_ID = 0x6F736364  # "oscd"

Migration = Callable[[sqlite3.Connection], None]


def _create_log(connection: sqlite3.Connection) -> None:
    for statement in (
        # What this node knows of itself: the SHA-256 of its salt, its own origin, the projections' version; in a
        # snapshot, which says that it is one, the salt itself and which origin ended with it.
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


def is_snapshot(connection: sqlite3.Connection) -> bool:
    """Whether the file is a snapshot: a log and its salt, kept to be restored, with no tables to serve from."""
    return read_meta(connection, "snapshot") is not None


def refuse_snapshot(connection: sqlite3.Connection) -> None:
    """Pass a log that a node may serve from or append to.

    Raises:
        StartRefused: It is a snapshot.
    """
    if layout(connection) and is_snapshot(connection):
        raise StartRefused(
            "OSC_DATABASE_PATH is a snapshot, which stays as it is; make a node of it with: oscd restore"
            " <that file> --to <a directory>."
        )


def own_origin(connection: sqlite3.Connection) -> Origin | None:
    """The origin this log appends to; None before its first start, and where it was restored."""
    row = _row_of_origin(connection, "own_origin")
    return None if row is None else Origin(row[0], row[1])


def ended_origin(connection: sqlite3.Connection) -> EventRef | None:
    """The last event of the origin that another one now follows in this log; None where there is none."""
    # A restored log says which origin its original appended to; one whose node was renamed still calls it its own.
    row = _row_of_origin(connection, "ended_origin") or _row_of_origin(connection, "own_origin")
    return None if row is None or row[2] == 0 else EventRef(Origin(row[0], row[1]), row[2])


def _row_of_origin(connection: sqlite3.Connection, meta: str) -> tuple[str, str, int] | None:
    row: tuple[str, str, int] | None = connection.execute(
        "SELECT node_id, incarnation, seq FROM origins WHERE id = (SELECT value FROM meta WHERE name = ?)",
        (meta,),
    ).fetchone()
    return row


def begin_own_origin(connection: sqlite3.Connection, node_id: str) -> Origin:
    """Begin the incarnation this log appends to from now on."""
    origin = _unseen(node_id)
    write_meta(connection, "own_origin", note_origin(connection, origin))
    connection.execute("DELETE FROM meta WHERE name = 'ended_origin'")
    return origin


def forget_empty_own_origin(connection: sqlite3.Connection) -> None:
    """Let the log have no own origin where it holds no event of it."""
    connection.execute(
        "DELETE FROM origins WHERE seq = 0 AND id = (SELECT value FROM meta WHERE name = 'own_origin')"
    )


def new_origin(connection: sqlite3.Connection, node_id: str) -> Origin:
    """Begin an incarnation of `node_id` that no log has seen."""
    origin = _unseen(node_id)
    note_origin(connection, origin)
    return origin


def _unseen(node_id: str) -> Origin:
    return Origin(node_id, secrets.token_hex(8))


def note_origin(connection: sqlite3.Connection, origin: Origin) -> int:
    """Know an origin of which no event is here yet; gives the id of its row."""
    row_id = connection.execute(
        "INSERT INTO origins (node_id, incarnation, seq, digest, stamp) VALUES (?, ?, 0, ?, 0)",
        (origin.node_id, origin.incarnation, genesis_digest(origin)),
    ).lastrowid
    assert row_id is not None
    return row_id
