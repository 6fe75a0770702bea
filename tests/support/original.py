"""Owns databases as OpenSecureConf 3.x leaves them, made with nothing of oscd: what comes from there is known.

The table is the one SQLAlchemy makes of the original's model; the key derivation is that of its documentation.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

SALT = bytes(range(64))

TABLE = (
    'CREATE TABLE configurations (id INTEGER NOT NULL, "key" VARCHAR(255) NOT NULL, encrypted_value TEXT NOT NULL,'
    " category VARCHAR(100), environment VARCHAR(100) NOT NULL, created_at DATETIME NOT NULL,"
    ' updated_at DATETIME NOT NULL, PRIMARY KEY (id), CONSTRAINT uix_key_environment UNIQUE ("key", environment))'
)
LOOSE_TABLE = (
    "CREATE TABLE configurations (id INTEGER PRIMARY KEY, key, encrypted_value, category, environment,"
    " created_at, updated_at)"
)
"""Without the constraints: what other hands may have left."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row, by default an ordinary one."""

    id: int
    key: Any
    value: Any = None
    user_key: str = "correct-horse-battery"
    environment: Any = "production"
    category: Any = None
    created_at: Any = "2025-01-02 03:04:05.123456"
    updated_at: Any = "2025-01-02 03:04:05.123456"
    token: Any = ...

    def columns(self) -> tuple[Any, ...]:
        """In the order of the table."""
        token = seal(self.user_key, self.value) if self.token is ... else self.token
        return (
            self.id,
            self.key,
            token,
            self.category,
            self.environment,
            self.created_at,
            self.updated_at,
        )


@cache
def fernet(user_key: str, salt: bytes = SALT) -> Fernet:
    """The original's cipher of a user key."""
    derived = hashlib.pbkdf2_hmac("sha256", user_key.encode(), salt, 480_000, 32)
    return Fernet(urlsafe_b64encode(derived))


def seal(user_key: str, value: object) -> str:
    """A value as the original stores it."""
    return fernet(user_key).encrypt(json.dumps(value).encode()).decode()


def backup(
    password: str,
    configurations: Iterable[Any],
    *,
    salt: bytes = bytes(32),
    cipher: Fernet | None = None,
    **more: object,
) -> str:
    """`backup_data` as the original makes it.

    Args:
        configurations: The entries, as they shall stand in it.
        cipher: Of this password and salt, for tests that stretch them in another way.
        more: Members of the document that it shall have instead.
    """
    entries = list(configurations)
    document = {
        "version": "2.2.0",
        "backup_id": "backup-1767225600",
        "backup_timestamp": "2026-01-01T00:00:00.000000Z",
        "total_keys": len(entries),
        "configurations": entries,
    }
    return sealed_backup(json.dumps(document | more).encode(), password, salt, cipher)


def sealed_backup(
    document: bytes, password: str, salt: bytes = bytes(32), cipher: Fernet | None = None
) -> str:
    """Any document, sealed as the original seals a backup."""
    token = (cipher or fernet(password, salt)).encrypt(document)
    return b64encode(salt + token).decode()


def make_original(directory: Path, rows: Iterable[Stored], *, table: str = TABLE) -> Path:
    """Make a directory with `configurations.db` and `encryption.salt`, and give the path of the first."""
    directory.mkdir(exist_ok=True)
    (directory / "encryption.salt").write_bytes(SALT)
    path = directory / "configurations.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(table)
        connection.executemany(
            "INSERT INTO configurations (id, key, encrypted_value, category, environment, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.columns() for row in rows),
        )
    return path


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a directory: when it was last changed, and its bytes."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.iterdir())
        if path.is_file()
    }
