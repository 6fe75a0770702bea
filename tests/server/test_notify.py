"""A node under systemd: what it says over NOTIFY_SOCKET of its start, reloads, workers and end (sd_notify(3))."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oscd.server.notify import ServiceManager, taken_from
from tests.conftest import StartNode
from tests.support.manager import Datagram, manager_at
from tests.support.waiting import wait_until


def is_ready(datagram: Datagram) -> bool:
    return datagram.get("READY") == "1"


def is_alive(datagram: Datagram) -> bool:
    return datagram == {"WATCHDOG": "1"}


def variables(pid: int) -> list[bytes]:
    """The names in a process's environment."""
    return [pair.partition(b"=")[0] for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]


def test_a_node_tells_its_life(start_node: StartNode, tmp_path: Path) -> None:
    """Ready once all workers serve, alive twice per interval, reloading round a SIGHUP, its losses, stopping."""
    address = tmp_path / "notify"
    with manager_at(address) as manager:
        node = start_node(OSC_WORKERS="2", NOTIFY_SOCKET=str(address), WATCHDOG_USEC="1000000")
        assert manager.read() == {"READY": "1", "STATUS": "2 of 2 workers serve"}
        manager.read_until(is_alive)
        begun = time.monotonic()
        manager.read_until(is_alive)
        assert time.monotonic() - begun < 1

        before = time.monotonic_ns() // 1000
        node.send(signal.SIGHUP)
        reloading = manager.read_until(lambda datagram: "RELOADING" in datagram)
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        manager.read_until(is_ready)

        os.kill(node.worker_pids()[0], signal.SIGKILL)
        manager.read_until(lambda datagram: datagram.get("STATUS") == "1 of 2 workers serve")
        manager.read_until(lambda datagram: datagram.get("STATUS") == "2 of 2 workers serve")
        assert node.terminate() == 0
        manager.read_until(lambda datagram: datagram == {"STOPPING": "1", "STATUS": "Stopping"})


def test_an_abstract_name_is_written_to_and_no_child_knows_it(start_node: StartNode) -> None:
    """`@name` is a name of the kernel's (unix(7)); workers have none of the variables, so none can speak."""
    name = f"oscd-test-{secrets.token_hex(8)}"
    with manager_at(f"\0{name}") as manager:
        node = start_node(NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC="60000000")
        assert is_ready(manager.read())
        (worker,) = node.worker_pids()
        children = [pid for pid in node.processes() if pid != node.pid]
        assert worker in children
        for pid in children:
            assert not {b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID"} & {*variables(pid)}


def runtime_of(worker: int) -> Path:
    """The directory that workers share, without which none comes up: they map files of it."""
    mapped = re.search(r"/\S*/oscd-run-\w+", Path(f"/proc/{worker}/maps").read_text())
    assert mapped is not None
    return Path(mapped[0])


@contextmanager
def moved_away(directory: Path) -> Iterator[None]:
    """Have a directory under another name while the block runs.

    One that was made anew instead would have no lock, and the next node of another test would remove it.
    """
    away = directory.with_name(f"{directory.name}.away")
    directory.rename(away)
    try:
        yield
    finally:
        away.rename(directory)


def test_a_node_without_a_worker_gives_no_sign_of_life(start_node: StartNode, tmp_path: Path) -> None:
    """While no worker comes up the watchdog is not fed, so that the manager may start the node from scratch."""
    address = tmp_path / "notify"
    with manager_at(address) as manager:
        node = start_node(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="400000")
        manager.read_until(is_alive)
        (worker,) = node.worker_pids()
        with moved_away(runtime_of(worker)):
            os.kill(worker, signal.SIGKILL)
            manager.read_until(lambda datagram: datagram.get("STATUS") == "0 of 1 workers serve")
            lost_at = len(manager.told)
            wait_until(lambda: node.output.count("worker-0 ended with exit status 1") >= 2)
        manager.read_until(lambda datagram: datagram.get("STATUS") == "1 of 1 workers serve")
        assert not any(map(is_alive, manager.told[lost_at:]))
        manager.read_until(is_alive)


def test_a_manager_that_is_gone_stops_nothing(start_node: StartNode, tmp_path: Path) -> None:
    """Where nobody listens the node says so in its log, and serves."""
    node = start_node(NOTIFY_SOCKET=str(tmp_path / "nobody"))
    wait_until(lambda: "NOTIFY_SOCKET: READY=1 was not told: No such file or directory" in node.output)
    with node.client() as client:
        assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("interval", "watched", "is_watched"),
    [
        ("2000000", "", True),
        ("2000000", "17", True),
        ("2000000", "18", False),
        ("", "17", False),
        ("0", "17", False),
        ("two", "17", False),
    ],
)
def test_a_watchdog_is_for_the_process_it_names(interval: str, watched: str, is_watched: bool) -> None:
    """Signs of life are due only where the interval is a number and set for this process (sd_watchdog_enabled(3))."""
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": interval,
        "WATCHDOG_PID": watched,
        "OSC_WORKERS": "1",
    }
    manager = taken_from(environ, 17)
    assert environ == {"OSC_WORKERS": "1"}
    assert (manager.due() < float("inf")) == is_watched


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_an_address_that_is_none_is_not_written_to(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is neither a path nor an abstract name is warned about, and nobody is told anything."""
    manager = taken_from({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, 17)
    manager.ready("1 of 1 workers serve")
    manager.alive(1.0)
    assert manager.due() == float("inf")
    assert len(caplog.messages) == bool(address)


def test_the_same_words_are_sent_once(tmp_path: Path) -> None:
    """A status that has not changed is no news, nor is a sign of life before it is due."""
    with manager_at(tmp_path / "notify") as manager:
        told = ServiceManager(str(tmp_path / "notify"), watchdog_seconds=10.0)
        for now in (100.0, 104.9, 105.0):
            told.status("1 of 2 workers serve")
            told.alive(now)
        told.stopping()
        manager.read_until(lambda datagram: "STOPPING" in datagram)
        assert [*map(sorted, manager.told)] == [
            ["STATUS"],
            ["WATCHDOG"],
            ["WATCHDOG"],
            ["STATUS", "STOPPING"],
        ]
