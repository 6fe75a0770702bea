"""Owns reading the original's database as it is: not one byte of it, nor of its directory, ever changes.

A plain `mode=ro` is not enough for that: SQLite makes `-shm` and `-wal` files beside a database in WAL mode even
for a reader. Such a file is read as *immutable* where its write-ahead log is gone, and refused where it is not.
A rollback journal that a crash left can only be played back by writing, so that is refused, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from oscd.legacy.errors import ImportRefused
from oscd.legacy.row import Row, Unfit, read_row

MAX_EXAMPLES: Final = 20
"""Unfit rows that are named; all are counted."""

_BUSY_SECONDS: Final = 1.0
_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
# https://www.sqlite.org/fileformat.html, offsets 18 and 19: 2 where the file is in WAL mode.
_FORMATS: Final = slice(18, 20)
_WAL_FORMAT: Final = 2

_COLUMNS: Final = ("id", "key", "environment", "category", "encrypted_value", "created_at", "updated_at")
_MERGE_ADVICE: Final = (
    "stop every program that has it open; if the file stays, copy it and the database elsewhere, run "
    "`python3 -c \"import sqlite3; sqlite3.connect('COPY').execute('PRAGMA journal_mode=DELETE')\"` there, "
    "and import the copy"
)

# NULL sorts first: what tells no time is the oldest. Only the ids are sorted, so values never pile up.
_ORDERED: Final = "SELECT id FROM configurations ORDER BY coalesce(updated_at, created_at), id"
_ONE: Final = f"SELECT {', '.join(_COLUMNS)} FROM configurations WHERE id = ?"
# The original forbids two rows for one entry, but only in tables it made itself.
_OUTDONE: Final = (
    "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY CAST(environment AS TEXT), CAST(key AS TEXT)"
    " ORDER BY coalesce(updated_at, created_at) DESC, id DESC) AS place FROM configurations) WHERE place > 1"
)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first look at every row found.

    Attributes:
        rows: All rows, unfit ones included.
        unfit: How many cannot be taken over.
        examples: The first `MAX_EXAMPLES` of those.
        from_future: How many were written at a time that has not come yet.
    """

    rows: int
    unfit: int
    examples: tuple[Unfit, ...]
    from_future: int


class LegacyDatabase:
    """The original's database, open for one import: every reading sees the same state. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ImportRefused: It is no database of OpenSecureConf 3.x, or cannot be read without changing it.
        """
        # Where the file really is, as SQLite looks for its `-wal` there.
        self.path = path.resolve()
        self._seen = self._look()
        self._connection = _connect(self.path)
        try:
            self._connection.execute("BEGIN")
            _require_table(self._connection)
            self._outdone = frozenset(row_id for (row_id,) in self._connection.execute(_OUTDONE))
        except sqlite3.Error as error:
            self._connection.close()
            raise ImportRefused(f"--database: {_reason(error)}") from error
        except ImportRefused:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        """Use it; it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._connection.close()

    def rows(self) -> Iterator[Row | Unfit]:
        """Every row, in the order in which they were last written.

        Raises:
            ImportRefused: The file is damaged.
        """
        try:
            for (row_id,) in self._connection.execute(_ORDERED):
                columns = self._connection.execute(_ONE, (row_id,)).fetchone()
                if row_id in self._outdone:
                    yield Unfit(row_id, "another row for the same key and environment was written later")
                else:
                    yield read_row(columns)
        except sqlite3.Error as error:
            raise ImportRefused(f"--database: {_reason(error)}") from error

    def survey(self, now: int) -> Survey:
        """Look at every row once.

        Args:
            now: µs since 1970.

        Raises:
            ImportRefused: The file is damaged.
        """
        rows = unfit = from_future = 0
        examples: list[Unfit] = []
        for row in self.rows():
            rows += 1
            if isinstance(row, Row):
                from_future += row.updated_at > now
                continue
            unfit += 1
            if len(examples) < MAX_EXAMPLES:
                examples.append(row)
        return Survey(rows, unfit, tuple(examples), from_future)

    def greatest_id(self, limit: int) -> int:
        """The greatest id up to `limit`, 0 where there is none."""
        row = self._connection.execute(
            "SELECT max(id) FROM configurations WHERE id <= ?", (limit,)
        ).fetchone()
        return max(0, row[0] or 0)

    def require_unchanged(self) -> None:
        """Make sure that nobody has written since it was opened, so that what was read is all there is.

        Raises:
            ImportRefused: Somebody has.
        """
        if self._look() != self._seen:
            raise ImportRefused(
                "--database: it was written while it was read; stop OpenSecureConf, then repeat."
            )

    def _look(self) -> tuple[int, ...]:
        status = self.path.stat()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, _size(self.path, "-wal"))


def _connect(path: Path) -> sqlite3.Connection:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise ImportRefused(f"--database: it cannot be read ({error.strerror}).") from error
    if not header.startswith(_MAGIC):
        raise ImportRefused("--database: this is not a SQLite database.")
    is_wal = _WAL_FORMAT in header[_FORMATS]
    if _size(path, "-wal"):
        raise ImportRefused(f"--database: its latest writes are still in {path.name}-wal: {_MERGE_ADVICE}.")
    if is_wal and _size(path, "-journal"):
        raise ImportRefused(f"--database: {path.name}-journal shows an interrupted write: {_MERGE_ADVICE}.")
    mode = "mode=ro&immutable=1" if is_wal else "mode=ro"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
    )
    # TEXT and BLOB alike, and a text that is not UTF-8 spoils its own row only.
    connection.text_factory = bytes
    return connection


def _require_table(connection: sqlite3.Connection) -> None:
    listed = connection.execute("PRAGMA table_info(configurations)")
    columns = {name.decode(): key for _, name, _, _, _, key in listed}
    if not columns:
        raise ImportRefused("--database: it has no table `configurations`: not a database of OpenSecureConf.")
    missing = [name for name in _COLUMNS if name not in columns]
    if missing or columns["id"] != 1:
        wrong = f"lacks {', '.join(missing)}" if missing else "has no primary key `id`"
        raise ImportRefused(f"--database: its table {wrong}; only OpenSecureConf 3.x can be taken over.")


def _size(path: Path, suffix: str) -> int:
    try:
        return Path(f"{path}{suffix}").stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return f"a write was interrupted and its -journal is still there: {_MERGE_ADVICE}."
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program is writing it; stop OpenSecureConf, then repeat."
    return f"it cannot be read: {error}."
