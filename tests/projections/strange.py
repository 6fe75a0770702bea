"""Logs that somebody has put a value of another type into, past whatever the tables demand."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

COLUMNS = {
    "events": '"offset" origin seq stamp environment key previous entry_id digest header body',
    "origins": "id node_id incarnation seq digest stamp",
    "entries": "environment key id category version created_at updated_at stamp node_id incarnation seq"
    ' "offset" event_id key_id imported deleted',
    "counts": "kind name entries",
    "totals": "entries state conflicts",
    "conflicts": "number winner loser foreign_key",
    "meta": "value",
}
STRANGE: dict[str, object] = {"text": "zz", "blob": b"\0", "null": None, "real": 2.5}


def put(path: Path, table: str, column: str, held: object, value: object) -> bool:
    """Put a value into the first row that holds another one; false where SQLite itself does not let it be changed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        log.execute("PRAGMA writable_schema = ON")
        sql = dict(log.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))[table]
        log.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql.replace(" NOT NULL", ""), table))
    with closing(sqlite3.connect(path, isolation_level=None)) as log:
        with suppress(sqlite3.IntegrityError):
            log.execute(
                f"UPDATE {table} SET {column} = :value WHERE {column} IS :held",
                {"value": value, "held": held},
            )
        same = log.execute(f"SELECT count(*) FROM {table} WHERE {column} IS ?", (held,)).fetchone()
        log.execute("PRAGMA writable_schema = ON")
        log.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))
    return bool(same == (0,))
