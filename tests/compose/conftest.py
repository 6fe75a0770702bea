"""Fixtures of the tests of what is shipped for Docker: the services of compose.yaml, as plain processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.certificates import write_trial
from compose.stack import SERVICES, Stack
from tests.support.ports import lasting_ports
from tests.support.requirements import skip_unless_ci


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes for a trial."""
    directory = tmp_path_factory.mktemp("trial") / "secrets"
    write_trial(directory)
    return directory


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, trial: Path) -> Iterator[Stack]:
    """All of it but Grafana, ready, for all tests of a module; a test leaves it running."""
    for program in ("nginx", "prometheus"):
        if shutil.which(program) is None and shutil.which(program, path="/usr/sbin") is None:
            skip_unless_ci(f"{program} is not installed (`make test` installs it where it may)")
    running = Stack(tmp_path_factory.mktemp("stack"), trial, lasting_ports(len(SERVICES)))
    try:
        running.start_nodes()
        running.start_nginx()
        running.start_prometheus(scrape_seconds=1)
        yield running
    finally:
        running.close()
