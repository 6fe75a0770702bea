"""docs/audit.md is true: its commands, typed one after the other beside a node, print what it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from oscd.cli.main import commands
from tests.conftest import StartNode
from tests.support.waiting import PATIENCE

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "audit.md").read_text()

MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"\b(\d+):(?:[0-9A-Z]{5}-){3}[0-9A-Z]{5}\b"), r"\1:<fingerprint>"),
    (re.compile(r"\bA[\w-]{18}\b"), "<position>"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "<key id>"),
)
"""What differs from node to node."""


OSCD = f'oscd() {{ {shlex.quote(sys.executable)} -m oscd "$@"; }}'


def sessions() -> Iterator[tuple[str, list[str]]]:
    """Each command that is shown, with the lines it prints."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for shown in block.split("$ ")[1:]:
            command, *printed = shown.splitlines()
            yield command, printed


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def test_the_commands_print_what_is_shown(start_node: StartNode, tmp_path: Path) -> None:
    """In order, in the directory of a node that serves; what was noted at the snapshot is expected at the end."""
    node = start_node(directory=tmp_path / "node-a", OSC_CLUSTER_NODE_ID="node-a")
    with node.client() as client:
        for key in ("database/password", "lost", "feature/dark-mode"):
            entry = {"key": key, "environment": "prod", "value": key}
            client.post("/configs", json=entry).raise_for_status()
        client.put("/configs/database/password?environment=prod", json={"value": 2}).raise_for_status()
    noted = ""
    for command, printed in sessions():
        command = re.sub(r"4:[0-9A-Z-]{23}", noted, command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{OSCD}\n{command}"],
            cwd=node.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert masked(done.stdout).splitlines() == [masked(line) for line in printed], command
        noted = noted or re.findall(r"4:[0-9A-Z-]{23}", done.stdout)[0]


def test_every_command_it_names_exists() -> None:
    """And it shows the new ones at least once."""
    named = set(re.findall(r"oscd ([a-z-]+)", TEXT))
    assert named <= set(commands.commands)
    assert {"snapshot", "restore", "log", "release", "verify"} <= named
