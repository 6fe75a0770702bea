"""A log file that several processes share is rotated once, loses no line, and lets go of what was rotated away."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from oscd.server.log_writer import FileOutput, LineWriter, Rotation
from oscd.server.logs import LogSink, configure_logging, get_logger
from tests.conftest import StartNode
from tests.support.waiting import PATIENCE, wait_until

LINES = 400
BATCH_BYTES = FileOutput.batch_bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a directory that holds nothing else."""
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory / "oscd.log"


def log_in_a_process(path: Path, name: str, count: int, rotation: Rotation, go: Event) -> None:
    """What each writing process does."""
    assert go.wait(PATIENCE)
    sink: LogSink = configure_logging("INFO", "json", path, name, rotation)
    for number in range(count):
        get_logger().info("line", number=number, filler="x" * 100)
    assert sink.close(PATIENCE)


@contextmanager
def writers(path: Path, rotation: Rotation, count: int = LINES) -> Iterator[list[SpawnProcess]]:
    """Four processes that write to one file at one time; each has ended well when the block ends."""
    spawn = multiprocessing.get_context("spawn")
    go = spawn.Event()
    processes = [
        spawn.Process(target=log_in_a_process, args=(path, name, count, rotation, go)) for name in "abcd"
    ]
    for process in processes:
        process.start()
    go.set()
    yield processes
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


def logs(path: Path) -> list[Path]:
    """The file and its older ones, the oldest first; lock files begin with a dot."""
    found = [file for file in path.parent.iterdir() if not file.name.startswith(".")]
    return sorted(found, key=lambda file: -int(file.name.removeprefix(path.name).strip(".") or 0))


def numbers(files: list[Path], name: str) -> list[int]:
    """The numbers of one process's lines, in the order in which the files hold them."""
    lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    return [line["number"] for line in lines if line["node_id"] == name]


def open_files(pid: int) -> list[str]:
    """What a process holds open; the kernel marks what was removed as deleted."""
    return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]


def test_the_file_is_rotated_and_private(path: Path) -> None:
    """Past its size the file becomes `.1`, as many older ones are kept as asked for, and only the owner reads any."""
    output = FileOutput(path, Rotation(1000, 3))
    for number in range(100):
        output.write(b"%03d" % number + b"x" * 300 + b"\n")
    output.close()
    files = logs(path)
    assert [file.name for file in files] == ["oscd.log.3", "oscd.log.2", "oscd.log.1", "oscd.log"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    kept = [int(line[:3]) for file in files for line in file.read_text().splitlines()]
    assert kept == list(range(kept[0], 100))


def test_processes_that_share_a_file_rotate_it_once_each_time(path: Path) -> None:
    """No line of four processes is lost, torn or moved before an earlier one; no file is cut short or grows on."""
    size = 64 * 1024
    with writers(path, Rotation(size, 100)):
        pass
    files = logs(path)
    assert len(files) > 3
    for name in "abcd":
        assert numbers(files, name) == list(range(LINES))
    for file in files[:-1]:
        # Two that rotate one after the other would leave a file of a few lines.
        assert size <= file.stat().st_size < size + BATCH_BYTES


def test_what_logrotate_renames_loses_no_line(path: Path) -> None:
    """Renamed again and again while four processes write, without a signal: every line is in one of the files."""
    with writers(path, Rotation(file_bytes=0)) as processes:
        taken = 0
        while any(process.is_alive() for process in processes):
            if path.exists() and path.stat().st_size > 4096:
                taken += 1
                path.rename(path.with_name(f"taken.{taken:04}"))
    assert taken > 1
    files = [*sorted(path.parent.glob("taken.*")), *path.parent.glob("oscd.log")]
    for name in "abcd":
        assert numbers(files, name) == list(range(LINES))


def test_what_logrotate_copies_and_cuts_goes_on_from_its_start(path: Path) -> None:
    """After `copytruncate` lines are appended at the new end, not where the old one was."""
    output = FileOutput(path, Rotation(file_bytes=0))
    output.write(b"before\n" * 100)
    os.truncate(path, 0)
    output.write(b"after\n")
    output.close()
    assert path.read_bytes() == b"after\n"


def test_a_silent_process_lets_go_of_the_file(path: Path) -> None:
    """Who has nothing to say for a while does not keep a removed file on the disk, and writes on afterwards."""
    writer = LineWriter(FileOutput(path, Rotation()), lambda count: b"lost %d\n" % count)
    writer.put(b"first\n")
    wait_until(lambda: path.read_bytes() == b"first\n")
    path.unlink()
    wait_until(lambda: not any("oscd" in name and "logs" in name for name in open_files(os.getpid())))
    writer.put(b"second\n")
    assert writer.close(PATIENCE)
    assert path.read_bytes() == b"second\n"


def test_a_node_rotates_by_its_settings(start_node: StartNode) -> None:
    """Workers and their parent rotate one file at OSC_LOG_FILE_BYTES and keep OSC_LOG_FILE_COUNT older ones."""
    node = start_node(
        OSC_WORKERS="2", OSC_LOG_FILE="node.log", OSC_LOG_FILE_BYTES="8KiB", OSC_LOG_FILE_COUNT="2"
    )
    with node.client() as client:
        wait_until(
            lambda: (
                (client.get("/health").status_code, (node.directory / "node.log.2").exists()) == (200, True)
            )
        )
    assert node.terminate() == 0
    assert {file.name for file in node.directory.glob("node.log*")} == {
        "node.log",
        "node.log.1",
        "node.log.2",
    }
