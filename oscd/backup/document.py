"""Owns the document of a backup, the JSON inside its token: written entry by entry, read entry by entry. No I/O.

    {"version", "backup_id", "backup_timestamp", "configurations": [entries in full form], "total_keys"}

It is never parsed as a whole, since what JSON becomes in memory may be twenty times its size: a scan finds where each
entry begins and ends, and only that one is read. Must not judge an entry: `judge` comes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from oscd.errors import BadRequest

# What the original writes; the form has been the same since, and neither of the two looks at it.
VERSION: Final = "2.2.0"
UNKNOWN: Final = "unknown"
_MOST_HEADER_CHARACTERS: Final = 255
# Each of them may be a pair of escapes.
_MOST_HEADER_BYTES: Final = 12 * _MOST_HEADER_CHARACTERS + len('""')

Place = tuple[str, str]
"""Environment and key."""

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
# What follows within a string: no more than one call shall take under the interpreter lock, and never the last quote.
_WITHIN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.){0,4096}+', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^ \t\r\n,:\"\[\]{}]++")
# Within a value only brackets count, and those within strings do not.
_STRUCTURE: Final = re.compile(rb'["\[\]{}]')
_OPENING, _QUOTE = b"[{", ord('"')


@dataclass(frozen=True, slots=True)
class BackedUp:
    """An entry of a backup that could be created here.

    Attributes:
        category: None for none.
        created_at, updated_at: µs since 1970; None where the backup does not tell.
    """

    place: Place
    category: str | None
    value_json: bytes = field(repr=False)
    created_at: int | None
    updated_at: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """An entry that is not imported, and why; never its value. What it does not tell of its place is None."""

    environment: str | None
    key: str | None
    reason: str


Judge = Callable[[bytes], BackedUp | Failure]
"""Reads the JSON of one entry by the rules of a create."""


def not_a_backup() -> BadRequest:
    """The refusal of what opens, but is not the document of a backup."""
    return BadRequest("backup_data: what it holds is not a backup of configurations.")


def beginning(backup_id: str, backup_timestamp: str) -> bytes:
    """What stands before the entries, which follow separated by commas."""
    head = {"version": VERSION, "backup_id": backup_id, "backup_timestamp": backup_timestamp}
    return orjson.dumps(head)[:-1] + b',"configurations":['


def end(total_keys: int) -> bytes:
    """What stands after the entries."""
    return b'],"total_keys":%d}' % total_keys


class DocumentReader:
    """One document while it is read.

    Attributes:
        backup_id, backup_timestamp: What it calls itself, `UNKNOWN` where it does not; known after the last entry.
    """

    def __init__(self, document: bytes | bytearray) -> None:
        self._document = document
        self.backup_id = UNKNOWN
        self.backup_timestamp = UNKNOWN

    def entries(self, judge: Judge) -> Iterator[BackedUp | Failure]:
        """Every entry, judged; for a thread, some at a time.

        Raises:
            BadRequest: This is not the document of a backup; entries that were given before are of none.
        """
        has_entries = False
        at = self._after(0, b"{")
        while self._is_at(at, b'"'):
            end_of_name = self._value_end(at)
            name = self._document[at:end_of_name]
            at = self._after(end_of_name, b":")
            if name == b'"configurations"' and not has_entries:
                has_entries = True
                at = yield from self._elements(at, judge)
            else:
                end_of_value = self._value_end(at)
                self._note(bytes(name), at, end_of_value)
                at = end_of_value
            at = self._skip(at)
            if not self._is_at(at, b","):
                break
            at = self._skip(at + 1)
            if not self._is_at(at, b'"'):
                raise not_a_backup()
        at = self._after(at, b"}")
        if at != len(self._document) or not has_entries:
            raise not_a_backup()
        self._document = b""  # It is large, and an import goes on.

    def _elements(self, at: int, judge: Judge) -> Generator[BackedUp | Failure, None, int]:
        """Judge the elements of an array, and return where it ends."""
        at = self._after(at, b"[")
        if self._is_at(at, b"]"):
            return at + 1
        while True:
            ends_at = self._value_end(at)
            yield judge(bytes(self._document[at:ends_at]))
            at = self._skip(ends_at)
            if self._is_at(at, b"]"):
                return at + 1
            at = self._after(at, b",")

    def _note(self, name: bytes, begin: int, ends_at: int) -> None:
        field: Literal["backup_id", "backup_timestamp"]
        if name == b'"backup_id"':
            field = "backup_id"
        elif name == b'"backup_timestamp"':
            field = "backup_timestamp"
        else:
            return
        if ends_at - begin > _MOST_HEADER_BYTES:
            return
        try:
            said = orjson.loads(self._document[begin:ends_at])
        except orjson.JSONDecodeError:
            said = None
        if isinstance(said, str) and len(said) <= _MOST_HEADER_CHARACTERS:
            setattr(self, field, said)

    def _value_end(self, at: int) -> int:
        """Where the value ends that begins here; whether it is JSON inside is not looked at."""
        if self._is_at(at, b'"'):
            return self._string_end(at + 1)
        if self._document[at : at + 1] not in (b"[", b"{"):
            scalar = _SCALAR.match(self._document, at)
            if scalar is None:
                raise not_a_backup()
            return scalar.end()
        depth = 0
        while found := _STRUCTURE.search(self._document, at):
            at = found.end()
            byte = self._document[at - 1]
            if byte == _QUOTE:
                at = self._string_end(at)
                continue
            depth += 1 if byte in _OPENING else -1
            if depth == 0:
                return at
        raise not_a_backup()

    def _string_end(self, at: int) -> int:
        """Where the string ends that `at` is within; each byte is looked at once, whether it has an end or not."""
        while found := _WITHIN_STRING.match(self._document, at):
            if self._is_at(found.end(), b'"'):
                return found.end() + 1
            if found.end() == at:
                break
            at = found.end()
        raise not_a_backup()

    def _is_at(self, at: int, byte: bytes) -> bool:
        return self._document[at : at + 1] == byte

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._document, at)
        assert found is not None
        return found.end()

    def _after(self, at: int, byte: bytes) -> int:
        """Pass a character that must come next, and the white space around it."""
        at = self._skip(at)
        if not self._is_at(at, byte):
            raise not_a_backup()
        return self._skip(at + 1)
