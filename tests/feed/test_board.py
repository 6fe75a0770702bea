"""One number for each worker, in a file that all of them map."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oscd.feed.board import Board


def test_all_workers_see_all_numbers_at_once(tmp_path: Path) -> None:
    """What one worker sets is in the total of each, without asking anybody."""
    boards = [Board(tmp_path / "board", 3, index) for index in range(3)]
    assert [board.total() for board in boards] == [0, 0, 0]
    for index, board in enumerate(boards):
        board.own += 10**index
    assert [board.total() for board in boards] == [111, 111, 111]
    boards[1].own -= 10
    assert [board.total() for board in boards] == [101, 101, 101]
    assert [board.own for board in boards] == [1, 0, 100]


def test_a_worker_that_replaces_another_finds_what_it_left(tmp_path: Path) -> None:
    """A crashed worker's number is told to its successor, once, and counts no more; the others' stay."""
    first, second = (Board(tmp_path / "board", 2, index) for index in range(2))
    first.own, second.own = 7, 5
    successor = Board(tmp_path / "board", 2, 0)
    assert (successor.abandoned, successor.own, successor.total()) == (7, 0, 5)
    assert Board(tmp_path / "board", 2, 0).abandoned == 0
    assert (second.abandoned, second.own) == (0, 5)


def test_a_number_may_go_on_from_where_it_was_left(tmp_path: Path) -> None:
    """A total that readers compare with what they saw before never falls, whoever crashes in between."""
    first, other = (Board(tmp_path / "board", 2, index, goes_on=True) for index in range(2))
    first.own, other.own = 7, 5
    successor = Board(tmp_path / "board", 2, 0, goes_on=True)
    assert (successor.own, other.total()) == (7, 12)


def test_another_process_is_seen(tmp_path: Path) -> None:
    """Nothing in memory crosses workers but the file: a killed process leaves its number to be found."""
    board = Board(tmp_path / "board", 2, 0)
    board.own = 1
    script = (
        "import os, sys, pathlib; from oscd.feed.board import Board;"
        "board = Board(pathlib.Path(sys.argv[1]), 2, 1); board.own = 41; assert board.total() == 42;"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "board")], check=False)
    assert killed.returncode == -9
    assert board.total() == 42
    assert Board(tmp_path / "board", 2, 1).abandoned == 41


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    """No other user may read or set the numbers, and there is room for all of them before one is used."""
    path = tmp_path / "board"
    Board(path, 4, 3)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 4 * 8
    with pytest.raises(IndexError):
        Board(path, 4, 4)
