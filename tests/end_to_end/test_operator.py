"""`oscd log --follow` and `oscd release` beside a node that serves, and on one that does not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartNode
from tests.support.node import OTHER_USER_KEY, RunningNode, run_oscd
from tests.support.subscriber import Subscriber, Wanted
from tests.support.waiting import PATIENCE, wait_until

WRITERS = 4
WRITES = 50


@contextmanager
def followed(node: RunningNode, shown: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`oscd log --follow` with its output in a file."""
    with shown.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "oscd", "log", str(node.database), "--follow", *arguments],
            cwd=node.directory,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def oscd(*arguments: str, node: RunningNode) -> subprocess.CompletedProcess[str]:
    return run_oscd(*arguments, directory=node.directory, settings=node.settings)


def events(node: RunningNode) -> list[dict[str, Any]]:
    return [json.loads(line) for line in oscd("log", "--json", node=node).stdout.splitlines()]


def create(node: RunningNode, key: str) -> None:
    with node.client() as client:
        client.post("/configs", json={"key": key, "environment": "e", "value": 1}).raise_for_status()


def test_following_tells_every_event_once(start_node: StartNode, tmp_path: Path) -> None:
    """While four clients write, and across a restart; whole lines in order, and Ctrl-C ends it as it ends others."""
    node = start_node(OSC_WORKERS="2")
    shown = tmp_path / "shown"

    def write(writer: int) -> None:
        with node.client() as client:
            for number in range(WRITES):
                entry = {"key": f"{writer}/{number}", "environment": "e", "value": 1}
                client.post("/configs", json=entry).raise_for_status()

    with followed(node, shown, "--json") as process:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(WRITERS)))
        node.restart()
        create(node, "last")
        wait_until(lambda: '"key":"last"' in shown.read_text(), what="the last event")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
    told = [json.loads(line) for line in shown.read_text().splitlines()]
    assert [one["offset"] for one in told] == list(range(1, WRITERS * WRITES + 2))
    assert told == events(node)
    assert told[-1]["address"] == "127.0.0.1"


def test_following_ends_with_its_reader_and_with_its_log(start_node: StartNode, tmp_path: Path) -> None:
    """A pipe that nobody reads ends it by SIGPIPE; so does SIGTERM; a log that was replaced ends it with a line."""
    node = start_node()
    create(node, "first")
    with followed(node, tmp_path / "one") as process:
        wait_until(lambda: "first" in (tmp_path / "one").read_text(), what="the first event")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    piped = subprocess.Popen(
        [sys.executable, "-m", "oscd", "log", "-f"], cwd=node.directory, stdout=subprocess.PIPE
    )
    assert piped.stdout is not None
    assert b"first" in piped.stdout.readline()
    piped.stdout.close()
    create(node, "second")
    assert piped.wait(PATIENCE) == -signal.SIGPIPE
    with followed(node, tmp_path / "two") as process:
        wait_until(lambda: "second" in (tmp_path / "two").read_text(), what="the second event")
        node.terminate()
        node.database.rename(tmp_path / "moved")
        assert process.wait(PATIENCE) == 1
    assert "moved, deleted or replaced" in (tmp_path / "two").read_text()


def test_a_release_beside_a_running_node(start_node: StartNode) -> None:
    """The entry is gone at once, streams hear of it, anybody may create it anew, and the log says who it was."""
    node = start_node(OSC_WORKERS="2")
    create(node, "lost")
    subscriber = Subscriber(node.port, Wanted())
    subscriber.open()
    subscriber.read_until(lambda history: bool(history.attempts[-1].frames))
    done = oscd("release", "lost", "-e", "e", "--yes", node=node)
    assert (done.returncode, done.stderr) == (0, "")
    with node.client(OTHER_USER_KEY) as client:
        assert client.get("/configs/lost?environment=e").status_code == 404
        again = {"key": "lost", "environment": "e", "value": 2}
        assert client.post("/configs", json=again).status_code == 201
    assert subscriber.read_until(
        lambda history: [f.event for f in changes(history)] == ["deleted", "created"]
    )
    subscriber.close()
    released = events(node)[1]
    assert (released["type"], released["actor"], released["address"]) == ("deleted", "operator", "local")
    assert (released["key_id"], released["version"], released["seq"]) == (None, 2, 2)
    assert "verified" in oscd("verify", node=node).stdout
    assert node.terminate() == 0
    node.restart()
    assert "verified" in oscd("verify", node=node).stdout


def changes(history: Any) -> list[Any]:  # noqa: ANN401 - what a subscriber recorded
    return [frame for attempt in history.attempts for frame in attempt.frames if frame.is_change]


def test_releases_at_any_time_of_a_nodes_life(start_node: StartNode) -> None:
    """While the node is stopped, killed and started again and again, each release happens once, and nothing else."""
    node = start_node(OSC_WORKERS="2")
    keys = [f"k{number}" for number in range(8)]
    for key in keys:
        create(node, key)
    stop = threading.Event()

    def live() -> None:
        while not stop.is_set():
            node.kill_all()
            node.restart()
            node.restart()

    with ThreadPoolExecutor(1) as pool:
        living = pool.submit(live)
        try:
            for key in keys:
                wait_until(lambda key=key: released(node, key), what="the release")  # type: ignore[misc]
        finally:
            stop.set()
            living.result(PATIENCE)
    assert [one["key"] for one in events(node) if one["type"] == "deleted"] == keys
    assert "verified" in oscd("verify", node=node).stdout
    create(node, "k0")


def released(node: RunningNode, key: str) -> bool:
    """Try; a refusal must be one that says what to do."""
    done = oscd("release", key, "--environment", "e", "--yes", node=node)
    assert done.returncode == 0 or "try again" in done.stderr or "Nothing was changed" in done.stderr, (
        done.stderr
    )
    return done.returncode == 0


def test_what_is_not_there_or_not_confirmed_is_not_released(start_node: StartNode) -> None:
    """One line and status 1 where there is no such entry; status 2 where nobody can be asked; nothing is written."""
    node = start_node()
    create(node, "kept")
    missing = oscd("release", "none", "--environment", "e", "--yes", node=node)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "oscd: Configuration 'none' not found in environment 'e'\n"
    unasked = oscd("release", "kept", "--environment", "e", node=node)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    assert len(events(node)) == 1


@pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, 1), ("y", 0, 2)])
def test_a_terminal_is_asked(start_node: StartNode, answer: str, status: int, left: int) -> None:
    """It is told what would go, and only a yes deletes it."""
    node = start_node()
    create(node, "mine")
    node.terminate()
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "oscd", "release", "mine", "-e", "e"],
        cwd=node.directory,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(master, 4096)
    os.write(master, f"{answer}\n".encode())
    # The terminal is read to its end, or its writer would wait; Linux ends it with an error.
    with suppress(OSError):
        while os.read(master, 4096):
            pass
    assert process.wait(PATIENCE) == status
    os.close(master)
    assert b"Delete 'mine' in environment 'e' (version 1, " in said
    assert len(events(node)) == left
