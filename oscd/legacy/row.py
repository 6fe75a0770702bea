"""Owns what one row of the original's table means here, or why it cannot be taken over. Pure.

Values stay sealed: of a token only its shape is judged, so no user key is needed. Reasons never repeat what a
column held.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# The rules of `api/models.py` for new entries; a test holds the two together.
KEY_CHARACTERS: Final = 255
ENVIRONMENT_CHARACTERS: Final = 100
CATEGORY_CHARACTERS: Final = 100
_NO_CONTROL: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")

# As SQLAlchemy writes a DateTime into SQLite, and SQLite its CURRENT_TIMESTAMP: naive, in UTC. As no other form
# is accepted, the order of the texts is the order of the times.
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?")
_EPOCH: Final = datetime(1970, 1, 1)

# https://github.com/fernet/spec: version, time, IV, at least one block of ciphertext, HMAC.
_TOKEN_VERSION: Final = 0x80
_TOKEN_FRAME_BYTES: Final = 1 + 8 + 16 + 32
_BLOCK_BYTES: Final = 16

Columns = tuple[int, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the original held it.

    Attributes:
        token: The sealed value, byte for byte.
        created_at: µs since 1970.
        updated_at: µs since 1970; 0 where the row does not tell.
    """

    id: int
    environment: str
    key: str
    category: str | None
    token: bytes
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """A row that cannot become an entry, and why."""

    id: int
    reason: str


class _NotAcceptable(ValueError):
    pass


def read_row(columns: Columns) -> Row | Unfit:
    """Judge one row.

    Args:
        columns: id, key, environment, category, encrypted_value, created_at, updated_at; texts as UTF-8 bytes.
    """
    row_id, key, environment, category, token, created_at, updated_at = columns
    try:
        created, updated = _time("created_at", created_at), _time("updated_at", updated_at)
        written = updated if updated is not None else created
        return Row(
            id=row_id,
            key=_name("key", key, KEY_CHARACTERS),
            environment=_name("environment", environment, ENVIRONMENT_CHARACTERS),
            category=_name("category", category, CATEGORY_CHARACTERS) if category else None,
            token=_token(token),
            # A row that tells neither time is older than all that do: it must beat nothing.
            created_at=(created if created is not None else written) or 0,
            updated_at=written or 0,
        )
    except _NotAcceptable as reason:
        return Unfit(row_id, str(reason))


def _name(column: str, data: bytes | None, most: int) -> str:
    if not data:
        raise _NotAcceptable(f"{column} is empty")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _NotAcceptable(f"{column} is not UTF-8") from None
    if len(text) > most:
        raise _NotAcceptable(f"{column} has more than {most} characters")
    if _NO_CONTROL.fullmatch(text) is None:
        raise _NotAcceptable(f"{column} has control characters")
    return text


def _token(data: bytes | None) -> bytes:
    if data is None:
        raise _NotAcceptable("encrypted_value is empty")
    try:
        token = b64decode(data, altchars=b"-_", validate=True)
    except binascii.Error:
        raise _NotAcceptable("encrypted_value is not a Fernet token") from None
    blocks, rest = divmod(len(token) - _TOKEN_FRAME_BYTES, _BLOCK_BYTES)
    if blocks < 1 or rest or token[0] != _TOKEN_VERSION:
        raise _NotAcceptable("encrypted_value is not a Fernet token")
    return data


def _time(column: str, data: bytes | None) -> int | None:
    if data is None:
        return None
    try:
        if _TIME.fullmatch(data) is None:
            raise ValueError
        moment = datetime.fromisoformat(data.decode())
    except ValueError:
        raise _NotAcceptable(f"{column} is not a time as the original writes it") from None
    if moment < _EPOCH:
        raise _NotAcceptable(f"{column} is before 1970")
    return (moment - _EPOCH) // timedelta(microseconds=1)
