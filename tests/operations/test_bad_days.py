"""What docs/operations.md says of bad days works as it is written, on nodes to which just that has happened."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.operations.conftest import section
from tests.operations.machines import Machines
from tests.support.small_disk import small_disk
from tests.support.waiting import wait_until


def test_the_first_look(cluster: Machines) -> None:
    """On a node that is well it finds nothing."""
    (session,) = section("First of all")
    cluster.type(session)


def test_a_node_that_was_killed(cluster: Machines) -> None:
    """The others say so; started again it has all."""
    cluster.node("node3").kill_all()
    cluster.put("node1", "app/while-it-was-down", 1)
    (session,) = section("Node down")
    cluster.type(session)
    cluster.await_value("node3", "app/while-it-was-down", 1)


def test_a_node_without_its_salt(cluster: Machines) -> None:
    """It does not start and says why; with the salt of another node it does."""
    cluster.put(
        "node1", "app/sealed", 1
    )  # or its log may be empty yet, and it would ask the others for a salt
    cluster.await_value("node3", "app/sealed", 1)
    node = cluster["node3"]
    node.systemctl("stop")
    (node.data / "encryption.salt").unlink()
    refused, cured = section("Will not start")
    cluster.type(refused)
    assert not node.is_running
    cluster.type(cured)


def test_a_node_that_lags(cluster: Machines) -> None:
    """Where the lag is shown, and how it looks when there is none."""
    (session,) = section("Replication lag")
    cluster.type(session)


def test_a_partition_and_the_conflict_it_leaves(cluster: Machines) -> None:
    """Both sides go on and end equal; the write that lost is found and brought back."""
    during, after = section("Partition")
    cluster.cut("node3")
    try:
        cluster.type(during)
    finally:
        cluster.heal()
    cluster.type(after)
    found, brought_back = section("Conflicts")
    cluster.type(found)
    cluster.type(brought_back)
    cluster.await_value("node3", "app/side", "left")


def test_a_history_that_exists_twice(cluster: Machines) -> None:
    """A node whose copy was used beside it: it is named, and comes back empty; what only it had can be imported."""
    node, running = cluster["node3"], cluster.node("node3")
    cluster.put("node3", "app/forked", "what both know")
    copy = node.root / "copy"
    # A node that starts may begin a new incarnation, of which no number is anybody else's; this one goes on.
    running.freeze()
    try:
        shutil.copytree(node.data, copy)
    finally:
        running.thaw()
    cluster.put("node3", "app/forked", "what the others know")
    cluster.await_value("node1", "app/forked", "what the others know")
    node.systemctl("stop")
    shutil.rmtree(node.data)
    copy.rename(node.data)
    with cluster.alone("node3"):
        cluster.put("node3", "app/forked", "what only the copy knows")
    seen, cured = section("Fork")
    cluster.type(seen)
    cluster.type(cured)
    assert cluster.value_of("node3", "app/forked") == "what the others know"
    assert "what only the copy knows" in (node.root / "root/mine.json").read_text()


def test_a_table_that_somebody_changed(cluster: Machines) -> None:
    """`verify` tells which node it is, and `rebuild` mends it."""
    cluster.put("node1", "app/changed", 1)
    cluster.await_value("node3", "app/changed", 1)
    node = cluster["node3"]
    node.systemctl("stop")
    with closing(sqlite3.connect(node.data / "configurations.db")) as log:
        changed = log.execute("UPDATE entries SET version = version + 7 WHERE key = 'app/changed'")
        assert changed.rowcount == 1
        log.execute("UPDATE totals SET state = zeroblob(32)")
        log.commit()
    node.systemctl("start")
    found, mended = section("Diverged")
    cluster.type(found)
    cluster.type(mended)


def test_two_clusters_that_meet(cluster: Machines) -> None:
    """Both refuse each other; the one that gives way brings its entries along under the other salt."""
    cluster.put("node1", "app/of-the-one", "kept too")
    node = cluster["node3"]
    node.systemctl("stop")
    shutil.rmtree(node.data)
    node.data.mkdir()
    with cluster.alone("node3"):
        cluster.put("node3", "app/of-the-other", "kept")
    seen, cured = section("Two salts")
    cluster.type(seen)
    cluster.type(cured)
    cluster.await_value("node1", "app/of-the-other", "kept")


def test_a_clock_that_is_far_ahead(cluster: Machines) -> None:
    """The node takes no writes, and takes them once its clock is right, without a restart."""
    node = cluster["node3"]
    node.clock.write_text(str(25 * 3600))
    node.systemctl("restart")  # or it would trust the ten statuses before for ten seconds
    (session,) = section("Clock skew")
    try:
        cluster.type(session)
    finally:
        node.clock.unlink(missing_ok=True)
    cluster.put("node3", "app/on-time", 1)


@pytest.fixture
def small(lone: Machines, tmp_path: Path) -> Iterator[Machines]:
    """A machine whose node works on a disk of 4 MiB."""
    data = lone["node1"].data
    with small_disk(data):
        yield lone
        lone.close()


def test_a_disk_that_is_full(small: Machines) -> None:
    """Writes are refused until there is room; on a larger disk the log is whole."""
    node = small["node1"]
    node.configure("OSC_MIN_FREE_BYTES=1MiB")
    node.systemctl("start")
    small.put("node1", "app/kept", 1)
    (node.data / "old-export.json").write_bytes(bytes(3 * 1024 * 1024))
    room, larger = section("Disk")
    small.type(room)
    small.put("node1", "app/kept", 2)
    small.type(larger)
    assert small.value_of("node1", "app/kept") == 2


def test_a_log_that_somebody_moved(cluster: Machines) -> None:
    """Writes are refused by that name, and taken again when the file is back."""
    (session,) = section("Log not writable")
    cluster.type(session)
    cluster.put("node1", "app/put-back", 1)


def test_a_worker_that_was_killed(cluster: Machines) -> None:
    """The node replaces it, and its log says how it ended."""
    (worker,) = cluster.node("node1").worker_pids()
    os.kill(worker, signal.SIGKILL)
    (session,) = section("Workers that crash")
    wait_until(lambda: cluster.node("node1").worker_pids() not in ([], [worker]), what="another worker")
    cluster.type(session)


def test_server_errors(cluster: Machines) -> None:
    """What is looked at is there."""
    (session,) = section("Server errors")
    cluster.type(session)
