"""Fixtures of the tests of what is counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import values

from oscd.metrics.counters import Counters, install

StartWorker = Callable[[int], Counters]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Count as the worker of that index does, in files of `tmp_path`; afterwards in memory again."""
    # Not by monkeypatch, whose own set-up and ours would be undone in an order that neither of us says.
    before = values.ValueClass, os.environ.get("PROMETHEUS_MULTIPROC_DIR")

    def start(index: int) -> Counters:
        install(tmp_path, index)
        return Counters()

    try:
        yield start
    finally:
        values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]
        values.ValueClass = before[0]
        if before[1] is None:
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        else:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = before[1]
