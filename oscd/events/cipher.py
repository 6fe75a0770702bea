"""What makes a value unreadable on disk, and readable again for the one user key that wrote it.

Owns: the derivation of a cipher from a user key, the layout of the encrypted plaintext, the sealing of backups
under a password, and the only import of `cryptography` in oscd. Must not: do I/O, cache a key (`keyring.py` does),
know more of an event than its sixteen random bytes, or let a plaintext or a key into an exception (invariant 7:
no plaintext value and no user key on disk, between nodes, in logs, metrics, streams, errors or tracebacks).

A derived key and its tokens are those of OpenSecureConf 3.x, so its ciphertexts open here:

    PBKDF2-HMAC-SHA256(user key, salt, 480 000 rounds) ─► 32 bytes ─► Fernet (AES-128-CBC, HMAC-SHA256)

The plaintext inside a token is not the bare JSON of the original but

    0x01 ‖ SHA-256(domain, event id, environment, key, each length-prefixed) ‖ value JSON

No JSON text begins with 0x01, so a bound plaintext and a bare one cannot be mistaken for each other. Fernet
proves that somebody with this key sealed the value; the digest proves that it was sealed for this event of
this entry. So a token copied to another entry, or replayed in another event of its own, is refused.

What a token still tells without the key: the second it was sealed (Fernet's time stamp, in clear) and the
value's length to the next sixteen bytes. Values are not compressed: their lengths would tell more.

A backup is one Fernet token as well (https://github.com/fernet/spec), but of any size, and `Fernet` takes and gives
tokens whole, some 50 ms of the interpreter lock in one call for 40 MB. So that format is written and opened here
piece by piece:

    0x80 ‖ seconds since 1970 (8 bytes) ‖ IV (16) ‖ AES-128-CBC of the padded plaintext ‖ HMAC-SHA256 of all that
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar, final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from oscd.errors import LogCorrupt, NotAuthorized

SALT_BYTES: Final = 64
BACKUP_SALT_BYTES: Final = 32
PBKDF2_ROUNDS: Final = 480_000
KEY_ID_BYTES: Final = 16

_DERIVED_BYTES: Final = 32
_KEY_ID_LABEL: Final = b"oscd key id, version 1"
_BINDING_DOMAIN: Final = b"oscd binding, version 1"
_BOUND: Final = b"\x01"
_BINDING_BYTES: Final = len(_BOUND) + hashlib.sha256().digest_size

_TOKEN_VERSION: Final = b"\x80"
_BLOCK_BYTES: Final = 16
_TOKEN_HEAD_BYTES: Final = len(_TOKEN_VERSION) + 8 + _BLOCK_BYTES
_TOKEN_MAC_BYTES: Final = 32
# What one call of a primitive works on, or of a codec: well under a millisecond of the interpreter lock.
PIECE: Final = 64 * 1024

Large = TypeVar("Large", memoryview, str)


class WrongKey(NotAuthorized):
    """The token does not open with this user key: another key sealed it, or its bytes were changed.

    Which of the two it is only the log knows: the body digest in the hash chain tells a changed token.
    """

    def __init__(self) -> None:
        super().__init__("the user key does not open this entry")


class Misplaced(LogCorrupt):
    """The token opens, but was not sealed for the event it was found in."""


class NotOpened(Exception):
    """The token does not open with this password: another one sealed it, or its bytes were changed."""


def derive(user_key: str, salt: bytes) -> Cipher:
    """Stretch a user key into its cipher: some 60 ms of one core, so never on the event loop.

    It lets go of the interpreter lock while it computes, so a thread of its own is far enough.

    Args:
        user_key: The header decoded as Latin-1; its UTF-8 encoding is what is stretched, as in the original.
        salt: The cluster's salt, `SALT_BYTES` long.
    """
    return Cipher.of_derived(_stretched(user_key, salt))


def derive_backup_key(password: str, salt: bytes) -> BackupKey:
    """Stretch the password of a backup into its key; costs what `derive` costs.

    Args:
        password: The header decoded as Latin-1, treated as a user key is.
        salt: That of the backup, `BACKUP_SALT_BYTES` long.
    """
    return BackupKey(_stretched(password, salt))


def _stretched(secret: str, salt: bytes) -> bytes:
    kdf = PBKDF2HMAC(algorithm=SHA256(), length=_DERIVED_BYTES, salt=salt, iterations=PBKDF2_ROUNDS)
    return kdf.derive(secret.encode("utf-8"))


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Cipher:
    """Seals and opens the values of one user key. Its repr shows nothing, and it cannot be pickled or copied.

    Attributes:
        key_id: Tells without trying whose an entry is; it authorizes nothing, only opening does.
            `KEY_ID_BYTES` of an HMAC under the derived key: a guess at it costs what one at a token costs.
    """

    key_id: bytes
    _fernet: Fernet

    @classmethod
    def of_derived(cls, derived: bytes) -> Cipher:
        """Make the cipher of a derived key of 32 bytes.

        Raises:
            ValueError: The derived key has another length.
        """
        fernet = Fernet(base64.urlsafe_b64encode(derived))
        return cls(hmac.digest(derived, _KEY_ID_LABEL, "sha256")[:KEY_ID_BYTES], fernet)

    def seal(self, environment: str, key: str, event_id: bytes, value_json: bytes) -> bytes:
        """Encrypt a value for one event of one entry.

        Args:
            environment: The entry's environment.
            key: The entry's key.
            event_id: The `EVENT_ID_BYTES` random bytes of the event that will carry the token.
            value_json: The value as JSON text in UTF-8. It is not parsed.

        Returns:
            The Fernet token: URL-safe base64, ASCII.
        """
        return self._fernet.encrypt(_binding(environment, key, event_id) + value_json)

    def open(self, environment: str, key: str, event_id: bytes, token: bytes) -> bytes:
        """Decrypt the value that was sealed for exactly this event of this entry.

        Returns:
            The JSON text that was sealed, byte for byte.

        Raises:
            WrongKey: The token does not open with this user key.
            Misplaced: It opens, but is bound to another event or entry, or to none.
        """
        plaintext = self._decrypt(token)
        if not plaintext.startswith(_binding(environment, key, event_id)):
            raise Misplaced("a value was sealed for another event than the one that carries it")
        return plaintext[_BINDING_BYTES:]

    def open_legacy(self, token: bytes) -> bytes:
        """Decrypt a value that OpenSecureConf wrote; only for events marked as imported from it.

        Nothing binds these tokens to their entry, which is why no other event may hold one, and why a bound
        token is refused here: marking an event as imported must not be a way around the binding.

        Returns:
            The JSON text as the original wrote it, byte for byte (integers beyond 64 bits, too). Only NaN and
            the infinities, which the original stored but failed to answer with, read as null: JSON has no
            word for them, and one of them must not make a whole listing unreadable.

        Raises:
            WrongKey: The token does not open with this user key.
            Misplaced: It opens, but is bound to an event of oscd.
            LogCorrupt: It opens, but is no JSON text.
        """
        plaintext = self._decrypt(token)
        if plaintext.startswith(_BOUND):
            raise Misplaced("a bound value was found in an event marked as imported")
        value_json = _strict_json(plaintext)
        if value_json is None:
            raise LogCorrupt("an imported value is not JSON")
        return value_json

    def _decrypt(self, token: bytes) -> bytes:
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise WrongKey from None

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a derived key must not cross a process or reach a file.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a cipher cannot be pickled")


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class BackupKey:
    """Seals and opens the backups of one password and salt. Its repr shows nothing, and it cannot be pickled."""

    _derived: bytes

    def token(self) -> TokenWriter:
        """Begin a token."""
        return TokenWriter(
            self._signing, self._encrypting, int(time.time()), secrets.token_bytes(_BLOCK_BYTES)
        )

    def open(self, token: bytes | bytearray) -> Iterator[bytes]:
        """Verify a token, all of it, and only then decrypt it piece by piece. For a thread, if it is large.

        Args:
            token: Its bytes, not their base64.

        Raises:
            NotOpened: It is no token, or does not open with this password.
        """
        if len(token) < _TOKEN_HEAD_BYTES + _BLOCK_BYTES + _TOKEN_MAC_BYTES:
            raise NotOpened
        view = memoryview(token)
        signed, head = view[:-_TOKEN_MAC_BYTES], view[:_TOKEN_HEAD_BYTES]
        mac = hmac.new(self._signing, digestmod="sha256")
        for piece in pieces(signed):
            mac.update(piece)
        is_genuine = hmac.compare_digest(mac.digest(), view[-_TOKEN_MAC_BYTES:])
        blocks = signed[_TOKEN_HEAD_BYTES:]
        if not is_genuine or bytes(head[:1]) != _TOKEN_VERSION or len(blocks) % _BLOCK_BYTES:
            raise NotOpened
        return self._decrypted(bytes(head[-_BLOCK_BYTES:]), blocks)

    def _decrypted(self, iv: bytes, blocks: memoryview) -> Iterator[bytes]:
        decryptor = BlockCipher(AES128(self._encrypting), CBC(iv)).decryptor()
        for piece in pieces(blocks[:-_BLOCK_BYTES]):
            yield decryptor.update(piece)
        last = decryptor.update(blocks[-_BLOCK_BYTES:])
        padding = last[-1]
        if not 1 <= padding <= _BLOCK_BYTES or last[-padding:] != bytes([padding]) * padding:
            raise NotOpened
        yield last[:-padding]

    @property
    def _signing(self) -> bytes:
        return self._derived[:16]

    @property
    def _encrypting(self) -> bytes:
        return self._derived[16:]

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, as a cipher does.

        Raises:
            TypeError: Always.
        """
        raise TypeError("the key of a backup cannot be pickled")


@final
class TokenWriter:
    """One Fernet token while it is written: `begin`, any number of `update`, `finish`; all give bytes of it.

    Args:
        seconds: Since 1970; it stands in the token, readable without the key.
        iv: Random, never used twice.
    """

    def __init__(self, signing: bytes, encrypting: bytes, seconds: int, iv: bytes) -> None:
        self._head = _TOKEN_VERSION + seconds.to_bytes(8, "big") + iv
        self._mac = hmac.new(signing, digestmod="sha256")
        self._encryptor = BlockCipher(AES128(encrypting), CBC(iv)).encryptor()
        self._length = 0

    def begin(self) -> bytes:
        """What stands before the ciphertext."""
        self._mac.update(self._head)
        return self._head

    def update(self, plaintext: bytes) -> bytes:
        """Seal more of the plaintext; what is given back may lag behind it by less than a block."""
        self._length += len(plaintext)
        sealed = [self._signed(self._encryptor.update(piece)) for piece in pieces(memoryview(plaintext))]
        return b"".join(sealed)

    def finish(self) -> bytes:
        """Seal the padding and sign the whole."""
        padding = _BLOCK_BYTES - self._length % _BLOCK_BYTES
        last = self._encryptor.update(bytes([padding]) * padding) + self._encryptor.finalize()
        return self._signed(last) + self._mac.digest()

    def _signed(self, ciphertext: bytes) -> bytes:
        self._mac.update(ciphertext)
        return ciphertext


def pieces(large: Large) -> Iterator[Large]:
    """What is large in pieces of at most `PIECE`, so that no call on one takes long."""
    for begin in range(0, len(large), PIECE):
        yield large[begin : begin + PIECE]


def _binding(environment: str, key: str, event_id: bytes) -> bytes:
    digest = hashlib.sha256(_BINDING_DOMAIN)
    for part in (event_id, environment.encode("utf-8"), key.encode("utf-8")):
        digest.update(len(part).to_bytes(4, "big") + part)
    return _BOUND + digest.digest()


def _strict_json(plaintext: bytes) -> bytes | None:
    """Return the text, with null for what JSON cannot say, or None where it is no JSON.

    None and not an exception: a JSONDecodeError holds the text, even as the `__context__` of another error.
    """
    non_finite: list[str] = []
    try:
        # list.append returns None, which is just what a NaN is to become
        value = json.loads(plaintext.decode("utf-8"), parse_constant=non_finite.append)
        return json.dumps(value, allow_nan=False).encode() if non_finite else plaintext
    except (ValueError, RecursionError):
        return None
