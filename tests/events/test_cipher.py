"""The cipher: compatible with the original, bound to its event, silent about what it knows."""

from __future__ import annotations

import ast
import base64
import copy
import dataclasses
import hashlib
import json
import os
import pickle
import threading
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

import oscd
from oscd.errors import LogCorrupt, NotAuthorized
from oscd.events.cipher import (
    BACKUP_SALT_BYTES,
    PBKDF2_ROUNDS,
    SALT_BYTES,
    BackupKey,
    Cipher,
    Misplaced,
    NotOpened,
    WrongKey,
    derive,
    derive_backup_key,
)

SALT = bytes(range(SALT_BYTES))
USER_KEY = b"\xfcser-key-1".decode("latin-1")
# computed with hashlib.pbkdf2_hmac and hmac, not with the code under test
DERIVED = bytes.fromhex("c45aaa91f2910d2ac0d5d9c9e7d2c2231875c07bc4948a8bd388735209504882")
KEY_ID = bytes.fromhex("66b16d6c14fcefb98ff8b83c70458043")
# what the original would have stored for {"host": "db", "port": 5432} under that key
LEGACY_TOKEN = (
    b"gAAAAABlU_EAAAAAAAAAAAAAAAAAAAAAABokktbYdB9LIfIa6XJjQOD-6O7KWWu9vz56YgDjnglF3vORv8Ipus65LhmSlve0lEGLWsLor"
    b"_Vwnfj_fuFFtQM="
)
EVENT = bytes(16)
SECRET = "s3cr3t-marker"

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
finite_floats = st.floats(allow_nan=False, allow_infinity=False)
json_scalars = st.none() | st.booleans() | st.integers() | finite_floats | st.text()
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
cipher = Cipher.of_derived(DERIVED)
backup_key = BackupKey(DERIVED)
fernet = Fernet(base64.urlsafe_b64encode(DERIVED))


def legacy(plaintext: bytes) -> bytes:
    return fernet.encrypt(plaintext)


def test_a_derived_key_is_the_one_of_the_original() -> None:
    """A key derives as in OpenSecureConf 3.x, the header's Latin-1 characters encoded as UTF-8."""
    derived = derive(USER_KEY, SALT)

    assert hashlib.pbkdf2_hmac("sha256", "üser-key-1".encode(), SALT, PBKDF2_ROUNDS, 32) == DERIVED
    assert derived.key_id == KEY_ID
    assert derived.open_legacy(LEGACY_TOKEN) == b'{"host": "db", "port": 5432}'


def test_deriving_leaves_the_interpreter_to_other_threads() -> None:
    """A derivation in a thread does not stop the thread that runs the event loop."""
    begun, over = threading.Event(), threading.Event()

    def stretch() -> None:
        begun.set()
        derive(USER_KEY, SALT)
        over.set()

    thread = threading.Thread(target=stretch)
    thread.start()
    assert begun.wait(10)
    turns = 0
    while not over.is_set():
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns >= 5


def test_a_sealed_token_is_a_fernet_token_over_the_bound_plaintext() -> None:
    """The layout on disk is fixed: 0x01, the binding digest, the JSON text."""
    parts = (EVENT, b"prod", "db/hôst".encode())
    bound = b"oscd binding, version 1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    plaintext = fernet.decrypt(cipher.seal("prod", "db/hôst", EVENT, b'"v"'))

    assert plaintext == b"\x01" + hashlib.sha256(bound).digest() + b'"v"'


@given(names, names, st.binary(min_size=16, max_size=16), st.binary(max_size=300))
def test_what_was_sealed_opens_unchanged(environment: str, key: str, event_id: bytes, value: bytes) -> None:
    """Sealing and opening for the same event gives the same bytes back."""
    token = cipher.seal(environment, key, event_id, value)

    assert cipher.open(environment, key, event_id, token) == value


@given(st.tuples(names, names, st.binary(min_size=16, max_size=16)), st.data())
def test_a_token_moved_anywhere_else_is_refused(place: tuple[str, str, bytes], data: st.DataObject) -> None:
    """A ciphertext copied to another entry or replayed in another event opens for nobody."""
    elsewhere = data.draw(
        st.tuples(
            st.just(place[0]) | names,
            st.just(place[1]) | names,
            st.just(place[2]) | st.binary(min_size=16, max_size=16),
        ).filter(lambda other: other != place)
    )
    token = cipher.seal(*place, b"1")

    with pytest.raises(Misplaced):
        cipher.open(*elsewhere, token)


def test_environment_and_key_cannot_trade_characters() -> None:
    """The parts of the binding are length-prefixed: ("ab", "c") is not ("a", "bc")."""
    token = cipher.seal("ab", "c", EVENT, b"1")

    with pytest.raises(Misplaced):
        cipher.open("a", "bc", EVENT, token)


def test_another_user_key_is_a_wrong_key() -> None:
    """A token of one key opens with no other, and the refusal is a 401."""
    stranger = Cipher.of_derived(bytes(32))
    token = cipher.seal("prod", "k", EVENT, b"1")

    with pytest.raises(WrongKey):
        stranger.open("prod", "k", EVENT, token)
    with pytest.raises(WrongKey):
        stranger.open_legacy(LEGACY_TOKEN)
    assert issubclass(WrongKey, NotAuthorized)
    assert stranger.key_id != cipher.key_id


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_wrong_key(token: bytes) -> None:
    """No stored bytes make opening fail in an unforeseen way."""
    with pytest.raises(WrongKey):
        cipher.open("prod", "k", EVENT, token)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    """Flipping any bits of a token's bytes makes it open with no key."""
    raw = bytearray(base64.urlsafe_b64decode(cipher.seal("prod", "k", EVENT, b'"value"')))
    raw[position % len(raw)] ^= change

    with pytest.raises(WrongKey):
        cipher.open("prod", "k", EVENT, base64.urlsafe_b64encode(bytes(raw)))


def test_an_unbound_token_is_refused_where_a_binding_is_required() -> None:
    """Only events marked as imported may carry what the original wrote."""
    with pytest.raises(Misplaced):
        cipher.open("prod", "k", EVENT, LEGACY_TOKEN)


def test_a_bound_token_is_refused_in_an_imported_event() -> None:
    """Marking an event as imported is no way around the binding."""
    with pytest.raises(Misplaced):
        cipher.open_legacy(cipher.seal("prod", "k", EVENT, b"1"))


@given(json_values)
def test_a_legacy_value_opens_byte_for_byte(value: object) -> None:
    """Whatever json.dumps wrote in the original comes back as it was, large integers and all."""
    plaintext = json.dumps(value).encode()

    assert cipher.open_legacy(legacy(plaintext)) == plaintext


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"NaN", b"null"),
        (b"-Infinity", b"null"),
        (b'{"a": [1, Infinity], "b": "NaN"}', b'{"a": [1, null], "b": "NaN"}'),
    ],
)
def test_what_json_cannot_say_reads_as_null(written: bytes, read: bytes) -> None:
    """NaN and the infinities, which the original stored, read as null instead of breaking the answer."""
    assert cipher.open_legacy(legacy(written)) == read


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf1",
        b"\x02[]",
        '"ü"'.encode("utf-16"),
        b"[" * 200_000,
        b"[NaN, 1e999]",
    ],
    ids=["empty", "cut", "bytes", "byte order mark", "later layout", "UTF-16", "bottomless", "beyond floats"],
)
def test_a_legacy_plaintext_that_is_no_json_is_corrupt(plaintext: bytes) -> None:
    """What the original cannot have written is reported as corruption, not passed on."""
    with pytest.raises(LogCorrupt):
        cipher.open_legacy(legacy(plaintext))


def test_no_error_holds_a_plaintext() -> None:
    """Invariant 7: neither an error nor anything chained to it holds the value that could not be read."""
    broken = legacy(f'{{"password": "{SECRET}"'.encode())
    moved = cipher.seal("prod", "k", EVENT, f'"{SECRET}"'.encode())

    with pytest.raises(LogCorrupt) as not_json:
        cipher.open_legacy(broken)
    with pytest.raises(Misplaced) as misplaced:
        cipher.open("prod", "other", EVENT, moved)

    for error in (not_json.value, misplaced.value):
        assert error.__context__ is None
        assert SECRET not in str(error) + repr(error.args)


def test_a_cipher_shows_nothing_and_stays_where_it_is() -> None:
    """Invariant 7: a cipher's repr tells no key and no key id; it cannot be pickled, copied or changed."""
    shown = repr(cipher) + str(cipher)

    assert not any(form in shown for form in (DERIVED.hex(), repr(DERIVED), KEY_ID.hex(), repr(KEY_ID)))
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            duplicate(cipher)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cipher.key_id = b""  # type: ignore[misc]


def test_sealing_the_same_value_twice_gives_different_tokens() -> None:
    """Equal values are not seen to be equal on disk."""
    assert cipher.seal("prod", "k", EVENT, b"1") != cipher.seal("prod", "k", EVENT, b"1")


def test_only_the_cipher_imports_cryptography() -> None:
    """One module of the package knows the cryptography library."""
    package = Path(oscd.__file__).parent

    importers = {
        source.relative_to(package).as_posix()
        for source in package.rglob("*.py")
        if "cryptography" in _imported_packages(source)
    }

    assert importers == {"events/cipher.py"}


def _imported_packages(source: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            packages.add(node.module.partition(".")[0])
    return packages


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_a_token_written_in_pieces_is_one_of_fernet(pieces: list[bytes]) -> None:
    """However a backup was cut up, what was written is the token of the whole, and opens here and there."""
    writer = backup_key.token()
    token = b"".join([writer.begin(), *map(writer.update, pieces), writer.finish()])
    assert fernet.decrypt(base64.urlsafe_b64encode(token)) == b"".join(pieces)
    assert b"".join(backup_key.open(token)) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 16, 300_001])
def test_a_token_of_fernet_opens_in_pieces(size: int) -> None:
    """A token that Fernet made opens to the same plaintext, in pieces of bounded size."""
    plaintext = os.urandom(size)
    opened = list(backup_key.open(base64.urlsafe_b64decode(fernet.encrypt(plaintext))))
    assert b"".join(opened) == plaintext
    assert max(map(len, opened)) <= 64 * 1024


def test_a_backup_token_with_any_byte_changed_does_not_open() -> None:
    """Each single byte counts, and so does each that is missing or added; nothing is decrypted before."""
    token = base64.urlsafe_b64decode(fernet.encrypt(b"x" * 50))
    for place in range(len(token)):
        changed = bytearray(token)
        changed[place] ^= 1 << place % 8
        with pytest.raises(NotOpened):
            backup_key.open(changed)
    for cut in (*(token[:end] for end in range(len(token))), token + b"\0", token[1:]):
        with pytest.raises(NotOpened):
            backup_key.open(cut)


def test_the_key_of_a_backup_is_the_one_of_the_original() -> None:
    """The password is stretched like a user key, with the salt of the backup."""
    salt = bytes(range(BACKUP_SALT_BYTES))
    derived = hashlib.pbkdf2_hmac("sha256", "üser-key-1".encode(), salt, PBKDF2_ROUNDS, 32)
    token = Fernet(base64.urlsafe_b64encode(derived)).encrypt(b"document")
    opened = derive_backup_key(USER_KEY, salt).open(base64.urlsafe_b64decode(token))
    assert b"".join(opened) == b"document"


def test_the_key_of_a_backup_shows_and_leaves_nothing() -> None:
    """It has no telling repr, and cannot be pickled or copied."""
    assert DERIVED.hex() not in repr(backup_key)
    assert repr(DERIVED) not in repr(backup_key)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(backup_key)


def test_large_backups_leave_the_interpreter_to_other_threads() -> None:
    """While 20 MB are sealed and opened in a thread, the thread of the event loop gets its turns."""
    over = threading.Event()

    def work() -> None:
        writer = backup_key.token()
        token = b"".join([writer.begin(), writer.update(bytes(20_000_000)), writer.finish()])
        for _ in backup_key.open(token):
            pass
        over.set()

    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while not over.is_set():
        time.sleep(0.0005)
        turns += 1
    thread.join()
    assert turns >= 5
