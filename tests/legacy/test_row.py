"""What a row of the original becomes, or why it cannot."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oscd.api.models import EntryCreate
from oscd.legacy.row import Columns, Row, Unfit, read_row

TOKEN = Fernet(Fernet.generate_key()).encrypt(b'"value"')
TIME = b"2025-01-02 03:04:05.123456"
MICROSECONDS = int(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()) * 1_000_000 + 123_456


def columns(
    *,
    key: bytes | None = b"key",
    environment: bytes | None = b"production",
    category: bytes | None = b"database",
    token: bytes | None = TOKEN,
    created_at: bytes | None = TIME,
    updated_at: bytes | None = TIME,
) -> Columns:
    return (7, key, environment, category, token, created_at, updated_at)


ORDINARY = Row(7, "production", "key", "database", TOKEN, MICROSECONDS, MICROSECONDS)


def test_an_ordinary_row_keeps_everything() -> None:
    """Id, names, times to the microsecond and the token, byte for byte."""
    assert read_row(columns()) == ORDINARY


@pytest.mark.parametrize("category", [None, b""])
def test_an_empty_category_is_none(category: bytes | None) -> None:
    """The original stores both forms for "no category"."""
    assert read_row(columns(category=category)) == replace(ORDINARY, category=None)


def test_a_time_without_microseconds_is_a_whole_second() -> None:
    """SQLite's own CURRENT_TIMESTAMP has no fraction."""
    row = read_row(columns(updated_at=b"2025-01-02 03:04:06"))
    assert row == replace(ORDINARY, updated_at=MICROSECONDS - 123_456 + 1_000_000)


@pytest.mark.parametrize(
    ("created_at", "updated_at", "expected"),
    [
        (None, TIME, (MICROSECONDS, MICROSECONDS)),
        (TIME, None, (MICROSECONDS, MICROSECONDS)),
        (None, None, (0, 0)),
    ],
)
def test_a_missing_time_is_the_other_one_or_the_oldest(
    created_at: bytes | None, updated_at: bytes | None, expected: tuple[int, int]
) -> None:
    """A row that tells no time at all is older than any other, so it beats nothing."""
    row = read_row(columns(created_at=created_at, updated_at=updated_at))
    assert isinstance(row, Row)
    assert (row.created_at, row.updated_at) == expected


def _altered(token: bytes) -> bytes:
    return urlsafe_b64encode(b"\x81" + urlsafe_b64decode(token)[1:])


def _without_block(token: bytes) -> bytes:
    raw = urlsafe_b64decode(token)
    return urlsafe_b64encode(raw[:25] + raw[-32:])


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (columns(key=None), "key is empty"),
        (columns(key=b""), "key is empty"),
        (columns(key=b"k" * 256), "key has more than 255 characters"),
        (columns(key=b"secret\nname"), "key has control characters"),
        (columns(key="secret\x85name".encode()), "key has control characters"),
        (columns(key=b"secret\xff"), "key is not UTF-8"),
        (columns(key=b"secret\xed\xa0\x80"), "key is not UTF-8"),
        (columns(environment=None), "environment is empty"),
        (columns(environment=b"e" * 101), "environment has more than 100 characters"),
        (columns(category=b"c" * 101), "category has more than 100 characters"),
        (columns(category=b"\x00"), "category has control characters"),
        (columns(token=None), "encrypted_value is empty"),
        (columns(token=b""), "encrypted_value is not a Fernet token"),
        (columns(token=b'{"password": "secret"}'), "encrypted_value is not a Fernet token"),
        (columns(token=TOKEN[:-4]), "encrypted_value is not a Fernet token"),
        (columns(token=TOKEN + b"\n"), "encrypted_value is not a Fernet token"),
        (columns(token=_altered(TOKEN)), "encrypted_value is not a Fernet token"),
        (columns(token=_without_block(TOKEN)), "encrypted_value is not a Fernet token"),
        (columns(created_at=b"yesterday"), "created_at is not a time as the original writes it"),
        (columns(updated_at=b""), "updated_at is not a time as the original writes it"),
        (columns(updated_at=b"2025-13-01 00:00:00"), "updated_at is not a time as the original writes it"),
        (columns(updated_at=b"2025-01-02T03:04:05Z"), "updated_at is not a time as the original writes it"),
        (columns(updated_at=b"2025-01-02 03:04:05.12"), "updated_at is not a time as the original writes it"),
        (columns(updated_at=b"1969-12-31 23:59:59.999999"), "updated_at is before 1970"),
    ],
)
def test_an_unfit_row_is_named_with_a_reason_that_repeats_nothing(unfit: Columns, reason: str) -> None:
    """Each rule that is broken has its own words; none of them holds what the column held."""
    assert read_row(unfit) == Unfit(7, reason)


@given(st.text(max_size=260), st.text(max_size=104), st.text(max_size=104))
def test_names_are_judged_as_those_of_new_entries(key: str, environment: str, category: str) -> None:
    """What the API would accept in a create is taken over, and nothing else."""
    row = read_row(
        columns(key=key.encode(), environment=environment.encode(), category=category.encode() or None)
    )
    try:
        model = EntryCreate(key=key, value=None, environment=environment, category=category)
    except ValidationError:
        assert isinstance(row, Unfit)
    else:
        assert isinstance(row, Row)
        assert (row.key, row.environment, row.category) == (model.key, model.environment, model.category)
