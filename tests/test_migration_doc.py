"""docs/migration.md is true: its session takes over a database of the original, which is served then."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.cli.calling import started
from tests.conftest import StartNode
from tests.support.node import USER_KEY
from tests.support.original import Stored, make_original
from tests.support.sessions import is_shown, sessions_of
from tests.support.waiting import PATIENCE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
MARK = "=== next ==="


def test_the_sessions_run_as_written(start_node: StartNode, tmp_path: Path) -> None:
    """In the directory of the original; the same user key opens the same entry afterwards."""
    original = tmp_path / "original"
    make_original(original, [Stored(3, "db/host", {"port": 5432}, USER_KEY)])
    steps = [step for session in sessions_of(PAGE.read_text()) for step in session]
    script = "".join(f"{step.command}\necho '{MARK}'\n" for step in steps)
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    environment = kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with started(["bash", "-euc", f"cd {original}\n{script}"], environment, tmp_path / "shown") as process:
        assert process.wait(PATIENCE) == 0, (tmp_path / "shown").read_text()
    printed = (tmp_path / "shown").read_text().split(f"{MARK}\n")
    assert len(printed) == len(steps) + 1
    for step, found in zip(steps, printed, strict=False):
        assert is_shown(found, step.shown), f"$ {step.command}\n{found}"
    node = start_node(directory=original, OSC_DATABASE_PATH="oscd.db", OSC_SALT_FILE_PATH="oscd.salt")
    with node.client() as client:
        assert client.get("/configs/db/host?environment=production").json()["value"] == {"port": 5432}
