"""What `watch` makes of each frame, whatever a node sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from oscd.client.frames import Frame
from tests.cli.conftest import Done, Run

ENTRY = {
    "key": "a",
    "environment": "prod",
    "category": None,
    "version": 3,
    "timestamp": "2026-01-31T12:00:00.000000Z",
    "node_id": "n",
    "data": None,
}
CONNECTED = Frame("connected", None, {})


@pytest.fixture
def watch(oscd: Run, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a function of anything
    """Run `watch` over frames that a test made up."""

    def run(*frames: Frame, options: tuple[str, ...] = ()) -> Done:
        def changes(*_arguments: object, **_options: object) -> Iterator[Frame]:
            yield from frames

        monkeypatch.setattr("oscd.cli.watch.changes", changes)
        return oscd("watch", *options)

    return run


def test_a_change_is_a_line(watch: Any) -> None:  # noqa: ANN401
    """With its value only where the key opened it; a value of another key is a dash, no value at all no column."""
    opened = Frame("updated", "A2", ENTRY | {"data": {"value": None}})
    closed = Frame("deleted", "A3", ENTRY)
    lines = watch(CONNECTED, opened, closed, options=("--values",)).output.splitlines()
    head = "2026-01-31T12:00:00.000000Z"
    assert lines == [f"{head}\tupdated\ta\tprod\t-\tv3\tnull", f"{head}\tdeleted\ta\tprod\t-\tv3\t-"]
    assert watch(CONNECTED, closed).output == f"{head}\tdeleted\ta\tprod\t-\tv3\n"
    documents = watch(CONNECTED, opened, closed, options=("--values", "--json")).documents
    assert [("value" in each, each["position"]) for each in documents] == [(True, "A2"), (False, "A3")]


def test_a_snapshot_that_begins_anew_says_so(watch: Any) -> None:  # noqa: ANN401
    """Only where some of it was told, and not once it is complete."""
    snapshot, bookmark = Frame("snapshot", None, ENTRY), Frame("bookmark", "A1", {})
    frames = (CONNECTED, CONNECTED, snapshot, CONNECTED, snapshot, bookmark, CONNECTED)
    documents = watch(*frames, options=("--snapshot", "--json")).documents
    assert [each["event"] for each in documents] == ["snapshot", "restart", "snapshot", "bookmark"]
    done = watch(*frames, options=("--snapshot",))
    assert done.errors.count("begins anew") == 1
    assert len(done.output.splitlines()) == 2


def test_changes_that_may_be_missing_are_said(watch: Any) -> None:  # noqa: ANN401
    """A reset is an event for machines and a sentence for people; what only moves the position is neither."""
    reset = Frame("reset", "A9", {"reason": "unreachable"})
    documents = watch(CONNECTED, reset, options=("--json",)).documents
    assert documents == [{"event": "reset", "position": "A9"}]
    done = watch(CONNECTED, reset, options=("--from", "A1"))
    assert "Changes may be missing" in done.errors
    assert done.output == ""


def test_a_position_that_is_none_is_refused(oscd: Run) -> None:
    """`--from` takes what a node gave, and says so."""
    done = oscd("watch", "--from", "yesterday\r\nX: y", fails=True)
    assert done.status == 2
    assert "--from: accepted is a position" in done.errors


def test_a_snapshot_of_the_past_is_refused(oscd: Run) -> None:
    """A node gives one of now; where to go on from would be passed over in silence."""
    done = oscd("watch", "--from", "A1", "--snapshot", fails=True)
    assert done.status == 2
    assert "exclude each other" in done.errors
