"""The text of a backup: the one that the original reads and writes, and no other text is the same backup."""

from __future__ import annotations

import base64
import random

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from oscd.backup.envelope import EnvelopeWriter, read_envelope
from oscd.errors import BadRequest
from oscd.events.cipher import PIECE, BackupKey

DERIVED = bytes(range(32))
SALT = bytes(range(100, 132))
KEY = BackupKey(DERIVED)
FERNET = Fernet(base64.urlsafe_b64encode(DERIVED))


def written(*parts: bytes) -> str:
    writer = EnvelopeWriter(KEY, SALT)
    return b"".join([writer.begin(), *map(writer.add, parts), writer.finish()]).decode("ascii")


def opened(backup_data: str) -> bytes:
    envelope = read_envelope(backup_data)
    assert envelope.salt == SALT
    return bytes(envelope.opened(KEY))


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_what_is_written_in_parts_opens_as_the_whole(parts: list[bytes]) -> None:
    """As base64 of salt and token, both by the libraries and here."""
    backup_data = written(*parts)
    blob = base64.b64decode(backup_data, validate=True)
    assert blob[:32] == SALT
    assert FERNET.decrypt(blob[32:]) == b"".join(parts)
    assert opened(backup_data) == b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, 2, 3, PIECE, 3 * PIECE + 1])
def test_a_backup_of_the_original_opens(size: int) -> None:
    """Whatever its length leaves over in either base64."""
    document = random.randbytes(size)
    assert opened(base64.b64encode(SALT + FERNET.encrypt(document)).decode()) == document


@pytest.mark.parametrize("size", range(40, 56))
def test_no_changed_character_is_read(size: int) -> None:
    """Every character that is another one, from the alphabet or not, is found, and so is each left out or doubled."""
    backup_data = written(b"x" * size)
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for place, character in enumerate(backup_data):
        other = chance.choice([c for c in "ABCwxyz0189+/=-_ \n\0é" if c != character])
        flipped = chr(ord(character) ^ 1 << place % 7)
        for changed in (
            backup_data[:place] + other + backup_data[place + 1 :],
            backup_data[:place] + flipped + backup_data[place + 1 :],
            backup_data[:place] + backup_data[place + 1 :],
            backup_data[:place] + character + backup_data[place:],
        ):
            if changed == backup_data:
                continue
            try:
                envelope = read_envelope(changed)
            except BadRequest:
                continue
            if envelope.salt == SALT:  # With another one the password gives another key.
                with pytest.raises(BadRequest):
                    envelope.opened(KEY)


def test_bits_that_decoders_ignore_are_not_ignored() -> None:
    """The last character before the padding may only be the one an encoder writes, in either base64."""
    token = FERNET.encrypt(b"x" * 20)
    assert token.endswith(b"=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = len(token.rstrip(b"=")) - 1
    changed = token[:last] + alphabet[alphabet.index(chr(token[last])) + 1].encode() + token[last + 1 :]
    assert FERNET.decrypt(changed) == b"x" * 20, "this library ignores them, so the test shows something"
    with pytest.raises(BadRequest):
        read_envelope(base64.b64encode(SALT + changed).decode())


@pytest.mark.parametrize(
    "backup_data",
    [
        "",
        "A",
        "AAAA",
        "=",
        "====",
        "é" * 8,
        "\ud800" * 8,
        base64.b64encode(SALT).decode(),
        "A" * 5000,
        "!" * 64,
    ],
)
def test_what_is_no_backup_gets_the_same_refusal(backup_data: str) -> None:
    """Not base64, too short, not a token: one sentence for all, which repeats nothing and keeps no context."""
    with pytest.raises(BadRequest) as refused:
        read_envelope(backup_data).opened(KEY)
    with pytest.raises(BadRequest) as wrong_password:
        read_envelope(written(b"document")).opened(BackupKey(bytes(32)))
    assert refused.value.detail == wrong_password.value.detail
    assert refused.value.__context__ is None
    assert wrong_password.value.__context__ is None
