"""`oscd snapshot` beside a node that many write to, `oscd restore`, and what a kill or a full disk leaves of them."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from oscd.cli.main import commands
from oscd.events.log import scan
from oscd.events.sqlite.reading import SqliteReading
from oscd.projections.sqlite import SqliteProjections
from tests.conftest import StartNode
from tests.projections.history import Step
from tests.snapshots.logs import SALT, Rows, events_of, salted_log, tables_of
from tests.support.node import RunningNode, run_oscd
from tests.support.waiting import PATIENCE, wait_until

WRITERS = 32
EVENTS = 6000
KILLS = 4


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as log:
        yield log


def oscd(*arguments: str, node: RunningNode) -> subprocess.CompletedProcess[str]:
    """Run a command in a node's directory; it must succeed."""
    done = run_oscd(*arguments, directory=node.directory, settings=node.settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def replayed(path: Path, upto: int) -> list[Rows]:
    """The tables as they were after an event of a log, made of nothing but its events."""
    with opened(path) as log, closing(sqlite3.connect(":memory:", isolation_level=None)) as tables:
        SqliteProjections().create(tables)
        for recorded in scan(SqliteReading(log)):
            if recorded.offset <= upto:
                SqliteProjections().apply(tables, recorded)
        return tables_of(tables)


def write_on(node: RunningNode, writer: int, begun: threading.Barrier, stop: threading.Event) -> int:
    """Create and then update entries, one request after the other, until told to stop; gives how many writes."""
    with node.client() as client:
        for number in itertools.count():
            if stop.is_set():
                return number
            if number == 1:
                begun.wait(PATIENCE)
            entry = {"key": f"w{writer}/{number % 4}", "environment": "e", "value": [writer, number]}
            answer = client.post("/configs", json=entry)
            if answer.status_code == 400:
                answer = client.put(f"/configs/{entry['key']}", params={"environment": "e"}, json=entry)
            answer.raise_for_status()
    raise AssertionError


def served(client: httpx.Client) -> dict[str, tuple[object, int]]:
    """Value and version of every entry."""
    found = client.get("/configs", params={"mode": "full"}).raise_for_status().json()
    return {entry["key"]: (entry["value"], entry["version"]) for entry in found}


def test_a_snapshot_under_many_writers_is_a_prefix_and_restores_to_its_state(
    start_node: StartNode, tmp_path: Path
) -> None:
    """Taken while 32 clients write, it verifies; its restore serves exactly the state of its last position."""
    node = start_node(OSC_WORKERS="2")
    begun, stop = threading.Barrier(WRITERS + 1), threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        writing = [pool.submit(write_on, node, writer, begun, stop) for writer in range(WRITERS)]
        try:
            begun.wait(PATIENCE)
            oscd("snapshot", "../snap.db", node=node)
        finally:
            stop.set()
        writes = sum(one.result(PATIENCE) for one in writing)
    oscd("verify", "../snap.db", node=node)
    oscd("restore", "../snap.db", "--to", "../restored", node=node)
    with opened(node.database) as log, opened(tmp_path / "snap.db") as copy:
        (events,) = copy.execute("SELECT count(*) FROM events").fetchone()
        assert events_of(copy) == events_of(log)[:events]
        assert WRITERS <= events < writes
    with opened(tmp_path / "restored" / "configurations.db") as new:
        assert tables_of(new) == replayed(node.database, events)
    with opened(tmp_path / "snap.db") as copy:
        expected = {recorded.event.key: recorded.event.version for recorded in scan(SqliteReading(copy))}
    restored = start_node(directory=tmp_path / "restored")
    with restored.client() as client:
        found = served(client)
        assert {key: version for key, (_, version) in found.items()} == expected
        for key, (value, version) in found.items():
            assert value == [int(key[1:].split("/")[0]), number_of(key, version)]
        entry = {"key": "new", "environment": "e", "value": "goes on"}
        assert client.post("/configs", json=entry).status_code == 201
    assert restored.terminate() == 0
    oscd("verify", node=restored)


def number_of(key: str, version: int) -> int:
    """Which of a writer's writes left an entry at a version."""
    return int(key.split("/")[1]) + 4 * (version - 1)


def test_a_moment_of_a_running_node(start_node: StartNode, tmp_path: Path) -> None:
    """`--at` takes the position that a write answered, or the time between two writes, at either command."""
    node = start_node()
    with node.client() as client:
        first = client.post("/configs", json={"key": "k", "environment": "e", "value": 1})
        between = client.get("/configs/k?environment=e&mode=full").json()["updated_at"]
        client.put("/configs/k?environment=e", json={"value": 2}).raise_for_status()
    position = first.headers["X-OSC-Position"]
    for name, moment in (("position", position), ("time", between)):
        said = oscd("snapshot", f"../{name}.db", "--at", moment, node=node).stdout
        assert "1 events" in said
        assert position in said
    oscd("snapshot", "../whole.db", node=node)
    oscd("restore", "../whole.db", "--to", "../restored", "--at", position, node=node)
    node.terminate()
    restored = start_node(directory=tmp_path / "restored")
    with restored.client() as client:
        assert served(client) == {"k": (1, 1)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("snapshot", "../s.db", "--at", "2999-01-01T00:00:00Z"), "a time that has not come yet"),
        (
            ("snapshot", "../s.db", "--at", "AWEAAAAAAAAAAQAAAAA"),
            "does not hold all that the position covers",
        ),
        (("snapshot", "../s.db", "--at", "yesterday"), "or how long ago"),
        (("snapshot", "../missing/s.db"), "No such file or directory"),
        (("restore", "configurations.db", "--to", "../r"), "is not a snapshot"),
        (("restore", "encryption.salt", "--to", "../r"), "file is not a database"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    shared_node: RunningNode, arguments: tuple[str, ...], said: str
) -> None:
    """Nothing is made, and standard error names what is wrong."""
    done = run_oscd(*arguments, directory=shared_node.directory, settings=shared_node.settings)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    beside = {path.name for path in shared_node.directory.parent.iterdir()}
    assert {name for name in beside if name.startswith((".", "s.db"))} == set()


def long_history(events: int) -> list[Step]:
    return [("create" if n < 500 else "update", "prod", f"k{n % 500}", "") for n in range(events)]


def started(directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of oscd, begun."""
    return subprocess.Popen(
        [sys.executable, "-m", "oscd", *arguments],
        cwd=directory,
        env=os.environ | {"OSC_DATABASE_PATH": "log.db", "OSC_SALT_FILE_PATH": "salt"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """Whenever snapshot or restore is killed: no file of that name, or the whole; then the same command succeeds."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    (tmp_path / "salt").write_bytes(SALT)
    with salted_log(tmp_path / "log.db", long_history(EVENTS)) as log:
        expected = events_of(log)
    cut_short = 0
    for number in range(KILLS):
        snap, node = tmp_path / f"snap{number}.db", tmp_path / f"node{number}"
        cut_short += killed(tmp_path, chance, "snapshot", snap.name)
        if not snap.exists():
            assert started(tmp_path, "snapshot", snap.name).wait(PATIENCE) == 0
        with opened(snap) as copy:
            assert events_of(copy) == expected
        cut_short += killed(tmp_path, chance, "restore", snap.name, "--to", node.name)
        database = node / "configurations.db"
        if not database.exists():
            assert started(tmp_path, "restore", snap.name, "--to", node.name).wait(PATIENCE) == 0
        with opened(database) as new:
            assert events_of(new) == expected
            assert new.execute("SELECT entries FROM totals").fetchone() == (500,)
        assert (node / "encryption.salt").read_bytes() == SALT
    assert cut_short, "none of them was killed in time"


def killed(directory: Path, chance: random.Random, *arguments: str) -> bool:
    """Run a command and kill it some time after it has begun to write; gives whether it was not done by then."""
    process = started(directory, *arguments)
    is_restore = arguments[0] == "restore"
    pattern = f"{arguments[-1]}/.configurations.db.*" if is_restore else f".{arguments[-1]}.*"
    wait_until(
        lambda: process.poll() is not None or any(directory.glob(pattern)), what="the draft to be there"
    )
    done = threading.Event()
    done.wait(chance.uniform(0, 0.3))
    process.kill()
    return process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_draft(tmp_path: Path, number: signal.Signals) -> None:
    """Whoever ends a snapshot in an orderly way has nothing to clean up."""
    (tmp_path / "salt").write_bytes(SALT)
    with salted_log(tmp_path / "log.db", long_history(EVENTS)):
        pass
    process = interrupted_snapshot(tmp_path, number, signal.SIG_DFL)
    assert process.wait(PATIENCE) == 128 + number
    assert list(tmp_path.glob("*snap*")) == []


def test_nohup_lets_a_snapshot_go_on(tmp_path: Path) -> None:
    """A lost terminal is nothing to a command that was started to survive it."""
    (tmp_path / "salt").write_bytes(SALT)
    with salted_log(tmp_path / "log.db", long_history(EVENTS)):
        pass
    process = interrupted_snapshot(tmp_path, signal.SIGHUP, signal.SIG_IGN)
    assert process.wait(PATIENCE) == 0
    assert [path.name for path in tmp_path.glob("*snap*")] == ["snap.db"]


def interrupted_snapshot(
    directory: Path, number: signal.Signals, inherited: signal.Handlers
) -> subprocess.Popen[bytes]:
    """A snapshot that is sent a signal while it copies.

    Args:
        inherited: What whoever started it does with that signal.
    """
    before = signal.signal(number, inherited)
    try:
        process = started(directory, "snapshot", "snap.db")
    finally:
        signal.signal(number, before)
    wait_until(lambda: any(directory.glob(".snap.db.*")), what="the draft to be there")
    process.send_signal(number)
    return process


@pytest.mark.parametrize("command", ["snapshot", "restore"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, small_disk: Path, command: str) -> None:
    """One line says that the disk is full, and it is as it was."""
    (tmp_path / "salt").write_bytes(SALT)
    with salted_log(tmp_path / "log.db", long_history(EVENTS)):
        pass
    paths = {"OSC_DATABASE_PATH": "log.db", "OSC_SALT_FILE_PATH": "salt"}
    assert run_oscd("snapshot", "snap.db", directory=tmp_path, settings=paths).returncode == 0
    (small_disk / "filler").write_bytes(bytes(2 * 1024 * 1024))
    target = {
        "snapshot": ("snapshot", str(small_disk / "snap.db")),
        "restore": ("restore", "snap.db", "--to", str(small_disk / "node")),
    }
    done = run_oscd(*target[command], directory=tmp_path, settings=paths)
    assert (done.returncode, done.stdout) == (1, "")
    assert "full; nothing is left of it" in done.stderr
    assert done.stderr.count("\n") == 1
    left = {path.name for path in small_disk.rglob("*") if path.is_file()}
    assert left == {"filler"}


@pytest.mark.parametrize("name", ["snapshot", "restore", "log", "verify", "release", "rebuild"])
def test_help_has_an_example(name: str) -> None:
    """Whoever has only `--help` sees one command that works, and it needs no settings."""
    help_text = commands.commands[name].help
    assert help_text is not None
    assert f"Example: oscd {name}" in help_text
