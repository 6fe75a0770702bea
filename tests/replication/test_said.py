"""What a link tells the operator's log: what is new, and not too often."""

from __future__ import annotations

import logging

import pytest

from oscd.replication.said import MOST_SENTENCES, Said
from oscd.replication.seldom import QUIET_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_trouble_is_told_when_it_is_new(caplog: pytest.LogCaptureFixture) -> None:
    """Once, however long it lasts; then that all is well; and again when it comes back after a while."""
    caplog.set_level(logging.INFO, "oscd.cluster")
    clock = Clock()
    said = Said("node-b:9000", clock)
    for _ in range(3):
        said.trouble("no answer in time")
    said.well()
    said.well()
    assert caplog.messages == ["node-b:9000: no answer in time", "node-b:9000: is in step"]
    said.trouble("no answer in time")
    assert len(caplog.messages) == 2
    clock.now += QUIET_SECONDS
    said.trouble("no answer in time")
    assert len(caplog.messages) == 3


def test_that_all_is_well_again_follows_each_trouble_that_was_told(caplog: pytest.LogCaptureFixture) -> None:
    """However soon after the last time: else the log of a link that is in step would end with a trouble."""
    caplog.set_level(logging.INFO, "oscd.cluster")
    said = Said("node-b:9000", Clock())
    said.well()
    said.trouble("it ended the stream")
    said.well()
    for _ in range(3):
        said.trouble("it ended the stream")
        said.well()
    well = "node-b:9000: is in step"
    assert caplog.messages == [well, "node-b:9000: it ended the stream", well]


def test_a_fault_of_ours_is_told_with_where_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    """Invariant 10: once, although the link meets it at each try."""
    said = Said("node-b:9000", Clock())
    fault = RuntimeError("no luck")
    for _ in range(3):
        said.fault("this node met an error of its own", fault)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is fault


def test_a_link_that_fails_in_ever_new_ways_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A peer chooses its words, not how much of our log they take."""
    said = Said("node-b:9000", Clock())
    for number in range(1000):
        said.trouble(f"it answers 503: {number}")
    assert len(caplog.messages) == MOST_SENTENCES
