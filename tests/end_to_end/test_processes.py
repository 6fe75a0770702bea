"""A node as an operating system sees it: signals, exit status, processes, files, and what stops its start."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.support.node import OTHER_USER_KEY, RunningNode, key_headers, run_oscd
from tests.support.waiting import PATIENCE, wait_until

STOP_SECONDS = 10.0
"""Five are promised, of a machine that is not busy with other tests; a body may take 30 where nobody stops."""

ENTRY = {"key": "k", "value": "v", "environment": "e"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_stop_lets_requests_in_flight_finish(
    start_node: StartNode, number: signal.Signals
) -> None:
    """A request that is half there when the signal comes is answered; then the node exits 0, its log closed."""
    node = start_node(OSC_WORKERS="2")
    head, body = _slow_request(node)
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as upload:
        upload.sendall(head + body[:10])
        _require_begun(node)
        node.send(number)
        wait_until(lambda: _refuses_connections(node), what="the listeners to close")
        upload.sendall(body[10:])
        assert upload.recv(64).startswith(b"HTTP/1.1 201 ")
    assert node.wait() == 0
    _require_closed(node)
    node.restart()
    with node.client() as client:
        assert client.get("/configs/k?environment=e").json()["value"] == "v"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_stop_is_obeyed_though_a_request_never_ends(
    start_node: StartNode, number: signal.Signals
) -> None:
    """An upload that stalls, and connections that idle, do not hold the node up; it exits 0 all the same."""
    node = start_node(OSC_WORKERS="2")
    head, body = _slow_request(node)
    with (
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE),
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as upload,
    ):
        upload.sendall(head + body[:10])
        _require_begun(node)
        began = time.monotonic()
        node.send(number)
        assert node.wait() == 0
        assert time.monotonic() - began < STOP_SECONDS
    wait_until(lambda: not node.processes(), what="the end of every process of the node")
    _require_closed(node)
    assert "has stopped" in node.output


def test_a_crashed_worker_is_replaced(start_node: StartNode) -> None:
    """After `kill -9` of one worker, then of all, others take their place and every write is still there."""
    node = start_node(OSC_WORKERS="2")
    with node.client() as client:
        assert client.post("/configs", json=ENTRY).status_code == 201
    for count in (1, 2):
        victims = node.worker_pids()[:count]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _replaced(node, victims), what="new workers")  # noqa: B023
        for _ in range(8):
            # A connection of its own each time, so that both workers get some; those to a worker that is not
            # there yet wait for it.
            with node.client() as client:
                assert client.get("/configs/k?environment=e").json()["value"] == "v"
                assert client.put("/configs/k?environment=e", json={"value": "v"}).status_code == 200
    assert "ended with SIGKILL" in node.output
    assert node.terminate() == 0


def test_workers_do_not_outlive_their_supervisor(start_node: StartNode) -> None:
    """A supervisor that is killed takes its workers with it, so that the next node has the log to itself."""
    node = start_node(OSC_WORKERS="2")
    os.kill(node.pid, signal.SIGKILL)
    assert node.wait() == -signal.SIGKILL
    wait_until(lambda: not node.processes(), what="the end of the workers")
    node.restart()


def test_every_file_is_private(start_node: StartNode) -> None:
    """Whatever the umask of who starts it: database, -wal, -shm, salt, locks and log have mode 0600."""
    before = os.umask(0)
    try:
        node = start_node(OSC_LOG_FILE="node.log")
    finally:
        os.umask(before)
    with node.client() as client:
        assert client.post("/configs", json=ENTRY).status_code == 201
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in node.directory.iterdir()}
    assert {
        "configurations.db",
        "configurations.db-wal",
        "configurations.db-shm",
        "encryption.salt",
        "node.log",
    } <= set(modes)
    assert set(modes.values()) == {0o600}, modes


def test_no_process_may_dump_core(start_node: StartNode) -> None:
    """Memory that holds keys never lands on disk: the core limit of every process is 0, soft and hard."""
    node = start_node(OSC_WORKERS="2")
    processes = node.processes()
    assert len(processes) >= 3
    for pid in processes:
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]


def test_a_second_node_on_one_log_is_refused(start_node: StartNode) -> None:
    """Two nodes never write one log: the second refuses to start, and the first does not notice."""
    node = start_node()
    _require_refused(node, "another oscd is using this log")
    with node.client() as client:
        assert client.post("/configs", json=ENTRY).status_code == 201


def test_a_port_in_use_stops_the_start(start_node: StartNode) -> None:
    """The line says what to do, and no file was made."""
    node = start_node()
    elsewhere = node.directory.with_name("elsewhere")
    elsewhere.mkdir()
    refused = run_oscd("serve", directory=elsewhere, settings={"OSC_HOST_PORT": str(node.port)})
    assert refused.returncode == 1
    assert "OSC_HOST_PORT" in _only_line(refused.stderr)
    assert list(elsewhere.iterdir()) == []


def test_a_database_of_the_original_is_refused(tmp_path: Path) -> None:
    """`serve` on an OpenSecureConf database names the command that takes it over, and changes no byte of it."""
    _require_untouched(
        tmp_path,
        "CREATE TABLE configurations (id INTEGER PRIMARY KEY, key TEXT, encrypted_value BLOB)",
        "oscd import-legacy",
    )


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """`serve` on a stranger's SQLite file says so and changes no byte of it."""
    _require_untouched(tmp_path, "CREATE TABLE bookmarks (id INTEGER PRIMARY KEY)", "another program")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """`serve` on something that is no SQLite file at all says so and changes no byte of it."""
    path = tmp_path / "configurations.db"
    path.write_bytes(b"To do: " * 1000)
    refused = run_oscd("serve", directory=tmp_path)
    assert refused.returncode == 1
    assert "OSC_DATABASE_PATH" in _only_line(refused.stderr)
    assert path.read_bytes() == b"To do: " * 1000


def test_a_log_of_a_newer_layout_is_refused(start_node: StartNode) -> None:
    """A log that a newer oscd has migrated is left to it."""
    node = _stopped_with_an_entry(start_node)
    with closing(sqlite3.connect(node.database)) as connection:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {layout + 1}")
    before = node.database.read_bytes()
    _require_refused(node, f"layout {layout + 1}")
    assert node.database.read_bytes() == before


def test_a_log_with_events_wants_its_salt(start_node: StartNode) -> None:
    """A salt that is missing, another or of another size beside a log with events stops the start, and none is
    made; with the right one back the entries open again.
    """
    node = _stopped_with_an_entry(start_node)
    path = node.directory / "encryption.salt"
    right = path.read_bytes()
    assert len(right) == 64
    path.unlink()
    _require_refused(node, "no such file")
    assert not path.exists()
    for wrong, words in (
        (bytes(64), "not the salt of the log"),
        (right[:-1], "exactly 64 bytes"),
        (right + b"x", "exactly 64 bytes"),
        (b"", "exactly 64 bytes"),
    ):
        path.write_bytes(wrong)
        _require_refused(node, words)
        assert path.read_bytes() == wrong
    path.write_bytes(right)
    node.restart()
    with node.client() as client:
        assert client.get("/configs/k?environment=e").json()["value"] == "v"


def test_an_empty_log_takes_the_salt_it_finds(start_node: StartNode) -> None:
    """Beside an empty log a salt from elsewhere is taken, and one that has gone is made anew."""
    node = start_node()
    path = node.directory / "encryption.salt"
    first = path.read_bytes()
    assert node.terminate() == 0
    path.unlink()
    node.restart()
    assert len(path.read_bytes()) == 64
    assert path.read_bytes() != first
    assert node.terminate() == 0
    path.write_bytes(first)
    node.restart()
    with node.client() as client:
        assert client.post("/configs", json=ENTRY).status_code == 201
    assert path.read_bytes() == first


def test_rotated_api_keys_are_read_on_sighup(start_node: StartNode, tmp_path: Path) -> None:
    """After SIGHUP every worker takes the new key and, once it is out of the file, no longer the old one."""
    keys = tmp_path / "keys"
    keys.write_text("the-old-api-key\n")
    node = start_node(OSC_WORKERS="2", OSC_API_KEY_REQUIRED="true", OSC_API_KEY_FILE=str(keys))
    assert _accepted(node, "the-old-api-key") == {200}
    assert _accepted(node, "the-new-api-key") == {403}
    for listed, accepted, refused in (
        ("the-old-api-key\nthe-new-api-key\n", ["the-old-api-key", "the-new-api-key"], []),
        ("the-new-api-key\n", ["the-new-api-key"], ["the-old-api-key"]),
    ):
        keys.write_text(listed)
        node.send(signal.SIGHUP)
        for key in accepted:
            wait_until(lambda: _accepted(node, key) == {200}, what="every worker to take the key")  # noqa: B023
        for key in refused:
            wait_until(lambda: _accepted(node, key) == {403}, what="no worker to take the key")  # noqa: B023


def _slow_request(node: RunningNode) -> tuple[bytes, bytes]:
    body = b'{"key": "k", "value": "v", "environment": "e"}'
    headers = {"Host": f"127.0.0.1:{node.port}", "Content-Length": str(len(body))} | key_headers()
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    return f"POST /configs HTTP/1.1\r\n{head}\r\n".encode(), body


def _require_begun(node: RunningNode) -> None:
    """Return once the workers have seen what was sent before: each answers a request that was sent later."""
    for _ in range(16):
        with node.client() as client:
            client.get("/health").raise_for_status()


def _refuses_connections(node: RunningNode) -> bool:
    try:
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE).close()
    except ConnectionError:
        return True
    return False


def _require_closed(node: RunningNode) -> None:
    left = {path.name for path in node.directory.iterdir()}
    assert not left & {"configurations.db-wal", "configurations.db-shm"}, left


def _replaced(node: RunningNode, victims: list[int]) -> bool:
    workers = node.worker_pids()
    return len(workers) == 2 and not set(workers) & set(victims)


def _stopped_with_an_entry(start_node: StartNode) -> RunningNode:
    node = start_node()
    with node.client() as client:
        assert client.post("/configs", json=ENTRY).status_code == 201
    assert node.terminate() == 0
    return node


def _require_refused(node: RunningNode, words: str) -> None:
    refused = run_oscd("serve", directory=node.directory, settings=node.settings)
    assert refused.returncode == 1
    assert words in _only_line(refused.stderr)


def _require_untouched(directory: Path, statement: str, words: str) -> None:
    path = directory / "configurations.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    refused = run_oscd("serve", directory=directory)
    assert refused.returncode == 1
    assert words in _only_line(refused.stderr)
    assert path.read_bytes() == before
    assert not (directory / "encryption.salt").exists()


def _only_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


def _accepted(node: RunningNode, api_key: str) -> set[int]:
    """The answers to an API key on many connections, so that every worker is asked."""
    answers = set()
    for _ in range(8):
        with node.client(OTHER_USER_KEY, api_key=api_key) as client:
            answers.add(client.get("/stats").status_code)
    return answers
