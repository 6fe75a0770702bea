"""The page on the command line is true: its session runs as it is written, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oscd.cli.outcome import EXIT_STATUS
from oscd.server.settings_sources import CLIENT_NAMES
from tests.support.node import RunningNode
from tests.support.waiting import PATIENCE, wait_until

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "cli.md").read_text()
MARK = "=== next ==="


def sessions() -> list[str]:
    """What the page shows of terminals, block by block."""
    return re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def steps(session: str) -> list[tuple[str, str]]:
    """Each command of a session, and what it prints."""
    return [
        (command, printed)
        for command, printed in re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", session, re.MULTILINE)
    ]


def is_shown(printed: str, shown: str) -> bool:
    """Whether a command printed what the page shows, where `…` is anything and blanks may be tabs."""
    pattern = re.sub(r"(\\ )+", r"\\s+", re.escape(shown)).replace("…", r"\S*")
    return re.fullmatch(pattern, printed) is not None


@contextmanager
def second_terminal(command: str, environ: dict[str, str], directory: Path) -> Iterator[Path]:
    """Run a command beside, and give the file of what it prints."""
    path = directory / "second-terminal"
    with path.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], env=environ, cwd=directory, stdout=output, stderr=output
        )
    try:
        yield path
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_the_session_runs_as_written(start_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    """Every command prints what the page shows, and so does the second terminal in the end."""
    node = start_node(OSC_CLUSTER_NODE_ID="node-9000")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    # No port of this machine decides what is printed of a node that does not run.
    environ = kept | {"PATH": path, "OSC_URL": node.base_url, "OSC_HOST_PORT": "0"}
    ((watch, watched),) = [step for session in sessions() for step in steps(session) if "watch" in step[0]]
    first = [step for session in sessions() for step in steps(session) if step[0] != watch]
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in first)
    with second_terminal(watch, environ, tmp_path) as told, node.client() as client:
        wait_until(lambda: client.get("/sse/health").json()["active_subscriptions"], what="the stream")
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        printed = done.stdout.split(f"{MARK}\n")
        for (command, shown), found in zip(first, printed, strict=False):
            assert is_shown(found, shown), f"$ {command}\n{found}"
        assert len(printed) == len(first) + 1
        wait_until(lambda: told.read_text().count("\n") >= watched.count("\n"), what="the last change")
        assert is_shown(told.read_text(), watched), told.read_text()


def test_the_page_says_what_the_code_says() -> None:
    """Each variable of the client side is explained, and each exit status."""
    for name in CLIENT_NAMES | {"OSC_API_KEY", "OSC_API_KEY_FILE"}:
        assert f"`{name}`" in PAGE, name
    for status in re.findall(r"\d [a-z ]+", EXIT_STATUS):
        assert status.strip() in PAGE.replace("\n  ", " "), status
