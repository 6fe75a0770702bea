"""Callers with a wrong cluster key are told of, but neither the log nor the memory is theirs to fill."""

from __future__ import annotations

import pytest

from oscd.api.strangers import MOST_ADDRESSES, QUIET_SECONDS, Strangers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_an_address_is_told_of_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """One line that says who and what to look at; the next one when the operator may have forgotten it."""
    clock = Clock()
    strangers = Strangers(clock)
    for _ in range(100):
        strangers.met("192.0.2.1")
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("192.0.2.1 ")
    assert "OSC_CLUSTER_KEY" in lines(caplog)[0]
    clock.now += QUIET_SECONDS - 1
    strangers.met("192.0.2.1")
    strangers.met("192.0.2.2")
    assert len(lines(caplog)) == 2
    clock.now += 1
    strangers.met("192.0.2.1")
    strangers.met("192.0.2.2")
    assert len(lines(caplog)) == 3


def test_many_addresses_fill_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Of more than so many within the time nothing is said; afterwards there is room again."""
    clock = Clock()
    strangers = Strangers(clock)
    for number in range(10 * MOST_ADDRESSES):
        strangers.met(f"2001:db8::{number:x}")
    assert len(lines(caplog)) == MOST_ADDRESSES
    clock.now += QUIET_SECONDS
    strangers.met("2001:db8::ffff")
    assert len(lines(caplog)) == MOST_ADDRESSES + 1
