"""Fixtures of the doctor's tests: the command in this process, in a node's directory, with its settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from tests.conftest import StartNode
from tests.support.certificates import Authority
from tests.support.cluster import MakeCluster, clusters

API_KEY = "an-api-key-that-shows-nowhere"
CLUSTER_KEY = "a-cluster-key-that-shows-nowhere"
SECRETS = (API_KEY, CLUSTER_KEY)

Verdict = tuple[str, str]
"""Level and words."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the doctor said.

    Attributes:
        status: The exit status.
        checks: Name, level, and verdict with advice, in order.
    """

    status: int
    checks: list[tuple[str, str, str]]

    def levels(self, name: str) -> list[str]:
        """Of each verdict on something, in order."""
        return [level for what, level, _ in self.checks if what == name]

    def words(self, name: str) -> str:
        """All verdicts on something."""
        return "\n".join(said for what, _, said in self.checks if what == name)

    def bad(self) -> dict[str, str]:
        """What is not well, by its worst level."""
        found: dict[str, str] = {}
        for what, level, _ in self.checks:
            if level != "ok" and found.get(what) != "fail":
                found[what] = level
        return found


Doctor = Callable[..., Examined]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Run it as `doctor(directory, settings, "--full")`; whatever it says, it shows no secret, in either form."""

    def run(directory: Path, settings: Mapping[str, str], *options: str) -> Examined:
        monkeypatch.chdir(directory)
        unset: dict[str, str | None] = dict.fromkeys(("OSC_API_KEY", "OSC_API_KEY_FILE", "NO_COLOR"))
        result = CliRunner().invoke(commands, ["doctor", "--json", *options], env=unset | dict(settings))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert not any(secret in result.output for secret in SECRETS)
        document = json.loads(result.stdout)
        checks = [
            (one["name"], one["level"], f"{one['verdict']} — {one['advice']}") for one in document["checks"]
        ]
        levels = ["ok", "warn", "fail"]
        assert document["level"] == max((level for _, level, _ in checks), key=levels.index)
        assert result.exit_code == (document["level"] == "fail")
        return Examined(result.exit_code, checks)

    return run


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs what the nodes of these tests show; its own certificate lasts for a year."""
    return Authority(tmp_path_factory.mktemp("authority"), lasts_days=365)


@pytest.fixture(scope="module")
def stopped(start_module_node: StartNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node that was stopped, with ten events; tests work on copies."""
    directory = tmp_path_factory.mktemp("stopped") / "node"
    node = start_module_node(directory=directory)
    with node.client() as client:
        for number in range(10):
            entry = {"key": f"k{number}", "environment": "e", "value": number}
            assert client.post("/configs", json=entry).status_code == 201
    assert node.terminate() == 0
    return directory


@pytest.fixture(scope="module")
def make_module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Make clusters that all tests of a module share."""
    with clusters(tmp_path_factory.mktemp("clusters")) as make:
        yield make
