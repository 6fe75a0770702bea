"""How many events of backlogs were merged, over all workers and those they replace."""

from __future__ import annotations

from pathlib import Path

from oscd.feed.bell import Bell
from oscd.feed.board import Board
from oscd.feed.synced import Synced


def synced(path: Path, index: int, bell: Bell | None = None) -> Synced:
    return Synced(Board(path, 2, index, goes_on=True), bell or Bell())


def test_what_any_worker_notes_is_in_the_total_of_all(tmp_path: Path) -> None:
    """The steward may be one worker, and later another."""
    first, second = (synced(tmp_path / "synced", index) for index in range(2))
    first.note(3)
    second.note(40)
    assert (first.total(), second.total()) == (43, 43)


def test_the_total_never_falls_when_a_worker_is_replaced(tmp_path: Path) -> None:
    """A successor goes on from the number of the one before it, so that no reader is told of it again."""
    first, second = (synced(tmp_path / "synced", index) for index in range(2))
    first.note(3)
    second.note(40)
    successor = synced(tmp_path / "synced", 1)
    assert (first.total(), successor.total()) == (43, 43)
    successor.note(1)
    assert first.total() == 44


def test_the_bell_rings_for_what_there_is(tmp_path: Path) -> None:
    """After the number was set, and not for nothing."""
    bell = Bell()
    noted = synced(tmp_path / "synced", 0, bell)
    heard: list[int] = []
    bell.listen(lambda: heard.append(noted.total()))
    noted.note(0)
    assert heard == []
    noted.note(2)
    assert heard == [2]
