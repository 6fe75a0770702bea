"""The environment of a command: what it inherits, what it never gets, what is too much."""

from __future__ import annotations

import pytest

from oscd.client.environment import LONGEST_STRING, MOST_BYTES, environment_of, require_room
from oscd.client.errors import UsageRefused
from oscd.client.variables import Variable

INHERITED = {
    b"PATH": b"/bin",
    b"LC_ALL": b"C",
    b"EDITOR": b"vi",
    b"BYTES": b"\xff",
    b"OSC_USER_KEY": b"s3cret",
    b"OSC_API_KEY_FILE": b"/run/s3cret",
    b"OSC_ANYTHING": b"s3cret",
}


def test_no_variable_of_oscd_is_handed_on() -> None:
    """Everything else is, byte for byte, and entries are set over it."""
    made = environment_of(INHERITED, [Variable("EDITOR", "\u00e9", "editor")], clean=False)
    assert made == {b"PATH": b"/bin", b"LC_ALL": b"C", b"EDITOR": b"\xc3\xa9", b"BYTES": b"\xff"}


def test_clean_hands_on_what_every_program_needs() -> None:
    """The search path and the locale stay."""
    assert environment_of(INHERITED, [], clean=True) == {b"PATH": b"/bin", b"LC_ALL": b"C"}


def test_an_entry_larger_than_a_variable_is_refused() -> None:
    """The entry and its size are named, and the last byte that fits does."""
    room = LONGEST_STRING - len("BIG=") - 1
    assert environment_of({}, [Variable("BIG", "x" * room, "big")], clean=False)
    with pytest.raises(UsageRefused, match=f"'big' makes a variable of {LONGEST_STRING + 1} bytes") as caught:
        environment_of({}, [Variable("BIG", "x" * (room + 1), "big")], clean=False)
    assert "xxx" not in str(caught.value)


def test_more_than_the_system_takes_is_refused() -> None:
    """The sum is told before a kernel would say E2BIG."""
    count = MOST_BYTES // 100_000 + 1
    environment = {b"V%d" % number: b"x" * 100_000 for number in range(count)}
    with pytest.raises(UsageRefused, match=str(MOST_BYTES)):
        require_room(environment, ["true"])
    require_room({b"A": b"1"}, ["true"])
