"""What a worker leaves to the next one in its place: all of it or nothing, in another process too, and in no file."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from oscd.server.in_force import PLACE, InForce, memory

WORDS = {"key": b"\x00a key\n\xff", "none": b""}


@pytest.fixture
def in_force() -> Iterator[InForce]:
    kept = InForce()
    yield kept
    kept.close()


def note(kept: InForce, words: dict[str, bytes]) -> None:
    """What a worker does."""
    kept.keep(words)


def tell(kept: InForce, end: Connection) -> None:
    """What its successor does."""
    end.send(kept.kept())


def run(main: object, *args: object) -> None:
    """In a process of its own, to its end."""
    process = multiprocessing.get_context("spawn").Process(target=main, args=args)  # type: ignore[arg-type]
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_successor_finds_what_was_noted(in_force: InForce) -> None:
    """From one process to the next, over one that only holds it for them; what is not noted anew stays."""
    assert in_force.kept() == {}
    in_force.keep({"key": b"an older and longer one" * 100, "other": b"stays"})
    run(note, in_force, WORDS)
    ours, theirs = multiprocessing.Pipe()
    run(tell, in_force, theirs)
    assert ours.recv() == WORDS | {"other": b"stays"}


def test_what_was_noted_in_part_is_nothing(in_force: InForce) -> None:
    """A worker that was killed while it noted leaves nothing, and the next one can note again."""
    in_force.keep(WORDS)
    descriptor = in_force._descriptor
    assert descriptor is not None
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - 1)
    assert in_force.kept() == {}
    in_force.keep(WORDS)
    assert in_force.kept() == WORDS


def test_it_is_in_no_directory(in_force: InForce) -> None:
    """What it lies in is a file without a name; one for OpenSSL is found by its number alone."""
    descriptor = memory("oscd-test", b"content")
    assert descriptor is not None
    try:
        for number in (descriptor, in_force._descriptor):
            assert os.fstat(number or 0).st_nlink == 0
        assert Path(f"{PLACE}/{descriptor}").read_bytes() == b"content"
    finally:
        os.close(descriptor)
