"""docs/cluster.md is true: its settings are settings, and its states are those of a link."""

from __future__ import annotations

import re
from pathlib import Path

from oscd.replication.states import LinkState
from oscd.server.settings import load_settings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "cluster.md").read_text()


def test_the_settings_are_understood(tmp_path: Path) -> None:
    """A node reads them without a warning, once the files that they name are there."""
    (block,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "api-keys").write_text("an-api-key-of-the-cluster\n")
    (tmp_path / "cluster-key").write_text("a-key-that-only-nodes-have\n")
    here = block.replace("/etc/oscd", str(tmp_path))
    environ = dict(line.split("=", 1) for line in here.splitlines())
    settings, warnings = load_settings(environ, tmp_path)
    assert warnings == []
    assert settings.cluster_enabled
    assert settings.node_id == "node1"
    assert len(settings.cluster_nodes) == 3


def test_the_states_are_those_of_a_link() -> None:
    """Each that an operator may see is explained; a link to the node itself is not shown."""
    table = PAGE.partition("| State in")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(LinkState) - {LinkState.ITSELF}
