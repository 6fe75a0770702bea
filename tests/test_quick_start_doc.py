"""docs/quick-start.md is true: what it says to type works in a fresh home, and prints what it shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.cli.calling import started
from tests.conftest import StartNode
from tests.support.ports import lasting_ports
from tests.support.sessions import is_shown, sessions_of
from tests.support.waiting import PATIENCE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quick-start.md"
MARK = "=== next ==="


def test_the_sessions_run_as_written(start_node: StartNode, tmp_path: Path) -> None:
    """One after the other in one terminal, beside a node as `make run` starts it."""
    node = start_node()
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    (checkout / ".venv").mkdir(parents=True)
    (checkout / ".venv/bin").symlink_to(Path(sys.executable).parent)
    home.mkdir()
    steps = [step for session in sessions_of(PAGE.read_text()) for step in session]
    script = "".join(f"{step.command}\necho '{MARK}'\n" for step in steps)
    script = script.replace("9100", str(lasting_ports(1)[0]))
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    environment = kept | {"HOME": str(home), "OSC_URL": node.base_url}
    command = ["bash", "-c", f"cd {checkout}\n{script}wait"]
    with started(command, environment, tmp_path / "shown") as process:
        process.wait(2 * PATIENCE)
    printed = (tmp_path / "shown").read_text().split(f"{MARK}\n")
    assert len(printed) == len(steps) + 1
    for step, found in zip(steps, printed, strict=False):
        assert is_shown(found, step.shown), f"$ {step.command}\n{found}"
    assert "oscd has stopped" in (home / "oscd-node/node.log").read_text()
    assert (home / "user-key").stat().st_mode & 0o777 == 0o600
