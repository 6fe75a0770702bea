"""`make cluster`: three nodes on one machine that talk to each other, and nothing of them afterwards."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from compose.loopback import PORTS, free_ports, settings, write_keys
from oscd.server.settings import load_settings
from tests.cli.calling import started
from tests.support.node import command_line
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[1]


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    """No port is given twice, and what is free stays as it is written down."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (free,) = free_ports([taken.getsockname()[1]])
        assert free != taken.getsockname()[1]
        many = free_ports([0, 0, taken.getsockname()[1]])
        assert len(set(many)) == 3
    assert free_ports([free]) == [free]


def test_the_settings_are_such_that_a_node_starts(tmp_path: Path) -> None:
    """Keys are read from files that nobody else may read; nothing is warned about."""
    write_keys(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    keys = [(tmp_path / name).read_text().strip() for name in ("api-key", "cluster-key", "user-key")]
    assert len(set(keys)) == 3
    given = settings(tmp_path, PORTS[0], PORTS)
    assert not any(key in text for key in keys for text in given.values())
    loaded, warnings = load_settings(given, tmp_path)
    assert (loaded.api_keys, loaded.cluster_keys) == ((keys[0].encode(),), (keys[1].encode(),))
    assert warnings == []


def test_three_nodes_serve_until_ctrl_c(tmp_path: Path) -> None:
    """What it prints can be pasted: a write on one node is read on another; then no process and no file is left."""
    output = tmp_path / "output"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    environ = inherited | {"TMPDIR": str(tmp_path), "OSC_USER_KEY": "of the caller"}
    with started([sys.executable, "-m", "compose.loopback"], environ, output) as cluster:
        wait_until(
            lambda: "Ctrl-C ends them" in output.read_text() or cluster.poll() is not None, what="three nodes"
        )
        assert cluster.poll() is None, output.read_text()
        (directory,) = tmp_path.glob("oscd-cluster-*")
        assert directory.stat().st_mode & 0o777 == 0o700
        export, watch, store, read, curl = re.findall(r"^  (\S.*)$", output.read_text(), re.MULTILINE)
        keys = [(directory / name).read_text().strip() for name in ("api-key", "cluster-key", "user-key")]
        assert not any(key in output.read_text() for key in keys)
        nodes = [pid for pid in all_pids() if str(directory).encode() in environment_of(pid)]
        assert len(nodes) >= 3 * 3
        assert not any(key.encode() in command_line(pid) for key in keys for pid in nodes)
        status = watch.removesuffix(" --watch")
        for command, shown in ((store, "now version 1"), (read, "hello"), (status, "3 of 3 nodes healthy")):
            wait_until(lambda c=command, s=shown: s in pasted(export, c), what=command)  # type: ignore[misc]
        assert '"total_nodes":3' in pasted(export, f"{curl} -sS")
        prefixes = set(re.findall(r"^(\S+) \| ", output.read_text(), re.MULTILINE))
        assert prefixes == {path.name for path in directory.glob("node-*")}
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(PATIENCE) == 0
        assert not directory.exists()
        wait_until(lambda: not any(map(command_line, nodes)), what="the end of every process")


def test_no_node_outlives_what_started_it(tmp_path: Path) -> None:
    """Even where that is killed while the nodes start."""
    output, environ = tmp_path / "output", dict(os.environ) | {"TMPDIR": str(tmp_path)}
    with started([sys.executable, "-m", "compose.loopback"], environ, output) as cluster:
        wait_until(lambda: output.read_text().count(" | ") >= 3, what="nodes that start")
        nodes = [pid for pid in all_pids() if str(tmp_path).encode() in environment_of(pid)]
        cluster.kill()
        wait_until(lambda: not any(map(command_line, nodes)), what="the end of every process")


def pasted(export: str, command: str) -> str:
    """What a shell shows where the lines are pasted."""
    done = subprocess.run(
        ["bash", "-c", f"{export}\n{command}"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout + done.stderr


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
