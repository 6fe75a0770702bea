"""The README is true: its tour runs as pasted, its commands exist. Its links are tested with all others."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oscd.cli.main import commands
from oscd.cli.sections import CALL, FILE, SERVE, Sections
from tests.support.node import RunningNode
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, holding: str) -> str:
    """The code block of that language with that text in it."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in b]
    return str(found)


@contextmanager
def shown(command: str, directory: Path) -> Iterator[Path]:
    """Run a command in a second terminal, and give the file of what it shows."""
    path = directory / "shown"
    with path.open("wb") as output:
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=output, stderr=output)
    try:
        yield path
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_the_tour_works_when_pasted(start_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    """Every command of the tour succeeds against a fresh node, and shows what the text says; a stream tells."""
    node = start_node()
    tour = block("sh", "export OSC=").replace("http://127.0.0.1:9000", node.base_url)
    with shown(
        block("sh", "/sse/subscribe").replace("http://127.0.0.1:9000", node.base_url), tmp_path
    ) as path:
        wait_until(lambda: "event: connected" in path.read_text(), what="the stream to begin")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", tour], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        wait_until(lambda: '"version":2' in path.read_text(), what="the second change to be told")
        told = path.read_text()
    assert told.index("event: created") < told.index('"version":1') < told.index("event: updated")
    assert '"value":"s3cret"' in done.stdout
    assert "does not open" in done.stdout
    assert '"password":"n3w"' in done.stdout
    assert '"version":2' in done.stdout
    assert '"superseded":false' in done.stdout
    assert '"version":3' in done.stdout
    assert '"total_keys":1' in done.stdout


def test_the_client_example_works_when_pasted(start_node: Callable[..., RunningNode]) -> None:
    """The Python example stores a flag and reads it back."""
    node = start_node()
    code = block("python", "OpenSecureConfClient").replace("http://127.0.0.1:9000", node.base_url)
    printed: list[object] = []
    exec(compile(code, "README.md", "exec"), {"print": printed.append})  # noqa: S102 - it is our own README
    assert printed == [True]


def test_the_commands_exist() -> None:
    """What the README lists is what `oscd --help` lists: for whoever runs a node, and for whoever asks one."""
    assert isinstance(commands, Sections)
    for holding, sections in (("oscd serve", (SERVE, FILE)), ("oscd watch", (CALL,))):
        listed = set(re.findall(r"^oscd ([a-z-]+) ", block("sh", holding), re.MULTILINE))
        assert listed == {name for section in sections for name in commands.under(section)}
