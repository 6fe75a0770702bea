"""Owns reading one entry of a backup: by the rules of a create, and with its times. Pure.

Backups of OpenSecureConf 3.x are read as well as those made here: their times may lack an offset, and are UTC then.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any, Final

from oscd.api import strict_json
from oscd.api.backup_models import BackupEntry
from oscd.api.validation import validate, value_json
from oscd.backup.document import BackedUp, Failure
from oscd.errors import FieldError, Invalid, RequestRefused
from oscd.times import LAST_MICROSECOND, parse_rfc3339

# What stands around the value of an entry in full form, its names written as long as they can be.
_AROUND_BYTES: Final = 8 * 1024
# One character of a body may be an escape in a backup, of so many bytes.
_ESCAPED: Final = len(rb"\u0041")
_MOST_SHOWN: Final = 255


def judge(entry_json: bytes, most_bytes: int) -> BackedUp | Failure:
    """Read the JSON of one entry; one that could not be created has failed, and says why.

    Args:
        most_bytes: What the body of a create may have.
    """
    is_small = _fits(entry_json, most_bytes + _AROUND_BYTES)
    try:
        if not is_small:
            raise Invalid("The entry is larger than one may be (OSC_MAX_BODY_BYTES).")
        entry = validate(BackupEntry, strict_json.parse(entry_json), "body")
        return BackedUp(
            (entry.environment, entry.key),
            entry.category,
            value_json(entry.value, most_bytes),
            created_at=_time("created_at", entry.created_at),
            updated_at=_time("updated_at", entry.updated_at),
        )
    except RequestRefused as refusal:
        reason = refusal.detail
    environment, key = _place(entry_json) if is_small else (None, None)
    # There may be many, and few reasons.
    return Failure(environment, key, sys.intern(reason.replace("The body", "The entry", 1)))


def _fits(entry_json: bytes, most_bytes: int) -> bool:
    """Whether an entry has no more bytes than one may have, written as short as it can be.

    Only what the original's writer adds is left out, escapes and spaces: everything else may be structure, of which a
    byte takes twenty in memory.
    """
    if not most_bytes < len(entry_json) <= _ESCAPED * most_bytes:
        return len(entry_json) <= most_bytes
    # Where a backslash is escaped itself, a u that follows is a letter.
    escapes = entry_json.replace(rb"\\", b"").count(rb"\u")
    spaces = entry_json.count(b", ") + entry_json.count(b": ")
    return len(entry_json) - (_ESCAPED - 1) * escapes - spaces <= most_bytes


def _time(name: str, text: str | None) -> int | None:
    """µs since 1970.

    Raises:
        Invalid: It is no time, or is before 1970 or after 9999 in UTC.
    """
    if text is None:
        return None
    for candidate in (text, f"{text}Z"):
        with suppress(ValueError, OverflowError):
            microseconds = parse_rfc3339(candidate)
            # One that is later by its offset could not be told again, and peers would not take it.
            if microseconds <= LAST_MICROSECOND:
                return microseconds
    wrong = "must be a time from 1970 to 9999 such as 2026-01-31T12:00:00Z"
    raise Invalid(f"{name}: {wrong}", [FieldError(("body", name), wrong)])


def _place(entry_json: bytes) -> tuple[str | None, str | None]:
    """Environment and key of an entry that was refused, as far as they can be told."""
    try:
        entry = json.loads(entry_json, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(entry, dict):
        return None, None
    return _shown(entry.get("environment")), _shown(entry.get("key"))


def _shown(name: Any) -> str | None:  # noqa: ANN401 - whatever JSON can say
    # A half of a surrogate pair is one reason to be here, and cannot be written.
    return name[:_MOST_SHOWN].encode("utf-8", "replace").decode() if isinstance(name, str) else None
