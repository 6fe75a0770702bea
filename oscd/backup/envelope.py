"""Owns `backup_data`, the text base64(salt ‖ Fernet token) around the document of a backup; works in pieces.

A token is URL-safe base64 itself, so the text is base64 of base64, as the original has it. No two texts are read as
the same backup: whatever an encoder would not have written is refused, so that a changed character is always found.
Must not know what the document says, nor stretch a password.
"""

from __future__ import annotations

import binascii
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from oscd.errors import BadRequest
from oscd.events.cipher import BACKUP_SALT_BYTES, BackupKey, NotOpened, pieces

_STANDARD: Final = bytes(range(256))
# The two characters that the other alphabet has instead become ones that no alphabet has.
_URL_SAFE: Final = bytes.maketrans(b"-_+/", b"+/\0\0")


def not_opened() -> BadRequest:
    """The one refusal of whatever cannot be opened, so that it tells nothing of why."""
    return BadRequest("backup_data: it does not open with this X-Backup-Password, or is no whole backup.")


def new_salt() -> bytes:
    """The salt of a new backup."""
    return secrets.token_bytes(BACKUP_SALT_BYTES)


class EnvelopeWriter:
    """One `backup_data` while it is written: `begin`, any number of `add`, `finish`; all give characters of it."""

    def __init__(self, key: BackupKey, salt: bytes) -> None:
        self._salt = salt
        self._token = key.token()
        self._inner = _Encoder(urlsafe_b64encode)
        self._outer = _Encoder(b64encode)

    def begin(self) -> bytes:
        """What stands before the document."""
        return self._outer.add(self._salt + self._inner.add(self._token.begin()))

    def add(self, document: bytes) -> bytes:
        """Seal more of the document."""
        return self._outer.add(self._inner.add(self._token.update(document)))

    def finish(self) -> bytes:
        """The end, with the signature of the whole."""
        token = self._inner.add(self._token.finish()) + self._inner.finish()
        return self._outer.add(token) + self._outer.finish()


@dataclass(frozen=True, slots=True, repr=False)
class Envelope:
    """What a `backup_data` holds: the salt for its password, and a token that is still to be verified."""

    salt: bytes
    token: bytearray

    def opened(self, key: BackupKey) -> bytearray:
        """The document. For a thread.

        Raises:
            BadRequest: It does not open with this key.
        """
        document = bytearray()
        # Raised after the handler, so that nothing of the token is in the refusal's context.
        try:
            for piece in key.open(self.token):
                document += piece
        except NotOpened:
            pass
        else:
            return document
        raise not_opened()


def read_envelope(backup_data: str) -> Envelope:
    """Take a `backup_data` apart. For a thread.

    Raises:
        BadRequest: It is not base64 of a salt and base64.
    """
    try:
        outer = _decoded((piece.encode("ascii") for piece in pieces(backup_data)), _STANDARD)
        salt, rest = _split(outer, BACKUP_SALT_BYTES)
        token = bytearray()
        for piece in _decoded(rest, _URL_SAFE):
            token += piece
    except (binascii.Error, UnicodeEncodeError):
        pass
    else:
        return Envelope(salt, token)
    raise not_opened()


class _Encoder:
    """Encodes pieces as one text: what is no whole group of three bytes waits for the next piece."""

    def __init__(self, encode: Callable[[bytes], bytes]) -> None:
        self._encode = encode
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        data = self._rest + data
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        return self._encode(data[:whole])

    def finish(self) -> bytes:
        return self._encode(self._rest)


def _split(pieces: Iterator[bytes], length: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `length` bytes, and what follows them."""
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= length:
            return first[:length], _chained(first[length:], pieces)
    raise binascii.Error


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _decoded(pieces: Iterable[bytes], alphabet: bytes) -> Iterator[bytes]:
    """Decode base64 that comes in pieces of any size.

    Args:
        alphabet: Translates its characters to those of the standard one.

    Raises:
        binascii.Error: It is not what an encoder writes.
    """
    rest = b""
    for piece in pieces:
        text = rest + piece
        # The last group stays back: it alone may be padded.
        whole = max(0, len(text) - 1) // 4 * 4
        rest = text[whole:]
        groups = text[:whole].translate(alphabet)
        if b"=" in groups:
            raise binascii.Error
        yield binascii.a2b_base64(groups, strict_mode=True)
    last = rest.translate(alphabet)
    decoded = binascii.a2b_base64(last, strict_mode=True)
    # A decoder ignores the bits that the last character has beyond whole bytes.
    if binascii.b2a_base64(decoded, newline=False) != last:
        raise binascii.Error
    yield decoded
