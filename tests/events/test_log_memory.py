"""The in-memory log keeps the contract."""

from __future__ import annotations

from collections.abc import Sequence
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

    def apply_all(self, store: MemoryStore, recorded: Sequence[Recorded]) -> None:
        for one in recorded:
            self.apply(store, one)


def applied(reading: Reading[Any]) -> list[int]:
    return list(reading.store["applied"])


@pytest.fixture
def log_under_test() -> LogUnderTest:
    clock = SteppedClock()
    log = MemoryLog(origin=ORIGIN, projections=Noted(), clock=clock)

    return LogUnderTest(log, applied, clock)


class TestMemoryLog(LogContract):
    """Every test of the contract."""
