"""Owns what must hold before an import: the original, its salt, this node's log and the operator's choices agree.

Nothing here writes. Whoever calls has looked at the log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oscd.events.cipher import SALT_BYTES
from oscd.events.salt import load_salt, salt_digest
from oscd.events.sqlite.file import Room
from oscd.legacy.errors import ImportRefused
from oscd.legacy.source import LegacyDatabase, Survey

_NAME_ANOTHER: Final = "set OSC_DATABASE_PATH to a new file"


@dataclass(frozen=True, slots=True)
class Destination:
    """The node that takes the entries over, as its settings have it."""

    database: Path
    salt_file: Path
    node_id: str
    room: Room


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator allows.

    Attributes:
        merge: The log may hold events; of two writes of one entry the later one stands.
        skip_invalid: Rows that cannot be taken over are left out instead of stopping the import.
    """

    merge: bool = False
    skip_invalid: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What a log holds before the import; one that is not there yet is empty."""

    is_empty: bool = True
    salt_digest: bytes | None = None


def read_salt(path: Path) -> bytes:
    """Read the original's salt.

    Raises:
        ImportRefused: It cannot be read or is none.
    """
    try:
        with path.open("rb") as file:
            salt = file.read(SALT_BYTES + 1)
    except OSError as error:
        raise ImportRefused(f"--salt: it cannot be read ({error.strerror}).") from error
    if len(salt) != SALT_BYTES:
        raise ImportRefused(
            f"--salt: the salt of OpenSecureConf 3.x is exactly {SALT_BYTES} bytes, this is not."
        )
    return salt


def require_acceptable(survey: Survey, choices: Choices) -> None:
    """Make sure that every row can be taken over, or may be left out.

    Raises:
        ImportRefused: Neither; names the first rows.
    """
    if not survey.unfit or choices.skip_invalid:
        return
    head = f"--database: {survey.unfit} of {survey.rows} rows cannot be taken over; --skip-invalid leaves them out."
    named = [f"  row {row.id}: {row.reason}" for row in survey.examples]
    more = [f"  … and {survey.unfit - len(named)} more"] if survey.unfit > len(named) else []
    raise ImportRefused("\n".join([head, *named, *more]))


def require_another_file(source: LegacyDatabase, database: Path) -> None:
    """Make sure that the log is not the file to import, under whatever name.

    Raises:
        ImportRefused: It is.
    """
    if database.exists() and database.samefile(source.path):
        raise ImportRefused(
            f"OSC_DATABASE_PATH={database} is the very database to import, which stays as it is; {_NAME_ANOTHER}."
        )


def require_fit(salt: bytes, destination: Destination, choices: Choices, held: Held) -> None:
    """Make sure that the log may take the entries, and that the original's salt is, or can be, the node's.

    Raises:
        ImportRefused: The log holds events and the operator has not allowed that, or values under another salt;
            or another salt stands where this one belongs.
        StartRefused: What stands there is no salt, or cannot be read.
    """
    if not held.is_empty and not choices.merge:
        raise ImportRefused(
            f"OSC_DATABASE_PATH={destination.database} holds events already; {_NAME_ANOTHER}, or add --merge "
            "(of two writes of one entry the later one stands)."
        )
    if not held.is_empty and held.salt_digest != salt_digest(salt):
        raise ImportRefused(
            "--salt: the values of this log are sealed under another salt, and a log has one; "
            f"{_NAME_ANOTHER}, and OSC_SALT_FILE_PATH too."
        )
    if os.path.lexists(destination.salt_file) and load_salt(destination.salt_file) != salt:
        advice = "move it away, nothing needs it" if held.is_empty else "restore the one of the log"
        raise ImportRefused(f"OSC_SALT_FILE_PATH={destination.salt_file}: it holds another salt; {advice}.")
