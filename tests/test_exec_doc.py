"""docs/exec.md is true: its commands run as pasted, one after the other, on a fresh node."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.calling import caller, started
from tests.support.node import RunningNode
from tests.support.waiting import PATIENCE

DOC = (Path(__file__).resolve().parents[1] / "docs" / "exec.md").read_text()

APP = "app:\n  db-host: localhost\n  db:\n    port: 5432\n"
SERVER = '#!/bin/sh\necho "server $DB_HOST $DB_PORT"\n'


def test_the_commands_work_when_pasted(start_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    """Each succeeds; the copies hold the entries, and the commands see them as variables."""
    (commands,) = re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "app.yaml").write_text(APP)
    (tmp_path / "server").write_text(SERVER)
    (tmp_path / "server").chmod(0o700)
    node = start_node()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", "-euo", "pipefail", "-c", f"cd {tmp_path}; {commands}"]
    with started(script, caller(node, {"PATH": path}), tmp_path / "shown") as process:
        assert process.wait(PATIENCE) == 0, (tmp_path / "shown").read_text()
    shown = (tmp_path / "shown").read_text()
    assert shown.count("+ staging app/db-host") == 2
    assert "+ production app/db/port" in shown
    assert shown.endswith("localhost\nserver localhost 5432\n")
    assert (tmp_path / "app.env").read_text() == "DB_HOST=localhost\nDB_PORT=5432\n"
    assert (tmp_path / "staging.json").stat().st_mode & 0o777 == 0o600
