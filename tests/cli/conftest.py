"""Fixtures of the command line: commands run in this process, against a real node that a module shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from tests.support.node import USER_KEY, RunningNode

UNSET = ("OSC_API_KEY", "OSC_API_KEY_FILE", "OSC_USER_KEY_FILE", "OSC_CLIENT_CA_CERTS", "NO_COLOR")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    output: str
    errors: str
    printed: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - any JSON
        """The one document it printed."""
        (line,) = self.output.splitlines()
        return json.loads(line)

    @property
    def documents(self) -> list[Any]:
        """A document of each line it printed."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def error(self) -> Any:  # noqa: ANN401 - any JSON
        """What it said was wrong, as JSON."""
        return json.loads(self.errors)["error"]


Run = Callable[..., Done]


@pytest.fixture
def oscd(shared_node: RunningNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as `oscd("get", "a", given="standard input", OSC_ACTOR="ann")`; and it does not fail."""
    monkeypatch.chdir(tmp_path)
    caller = {"OSC_URL": shared_node.base_url, "OSC_USER_KEY": USER_KEY}

    def run(*arguments: str, given: str | bytes | None = None, fails: bool = False, **environ: str) -> Done:
        unset: dict[str, str | None] = dict.fromkeys(UNSET)
        result = CliRunner().invoke(commands, arguments, input=given, env=unset | caller | environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert fails == (result.exit_code != 0), result.output
        return Done(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)

    return run
