"""The in-memory log keeps the contract."""

from __future__ import annotations

from typing import Any

import pytest

from oscd.events.event import Recorded
from oscd.events.log import Reading
from oscd.events.memory import MemoryLog, MemoryStore
from tests.events.log_contract import ORIGIN, LogContract, LogUnderTest, SteppedClock


class Noted:
    """Projections that note the offsets they were told."""

    version = 1

    def create(self, store: MemoryStore) -> None:
        store["applied"] = []

    def apply(self, store: MemoryStore, recorded: Recorded) -> None:
        store["applied"].append(recorded.offset)


def applied(reading: Reading[Any]) -> list[int]:
    return list(reading.store["applied"])


@pytest.fixture
def log_under_test() -> LogUnderTest:
    clock = SteppedClock()
    return LogUnderTest(MemoryLog(origin=ORIGIN, projections=Noted(), clock=clock), applied, clock)


class TestMemoryLog(LogContract):
    """Every test of the contract."""
