"""The machines of the runbook: a cluster of three with a spare one, shared by all tests, and single ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.operations.machines import Machines
from tests.operations.runbook import sections
from tests.support.links import Links
from tests.support.sessions import Session

CLUSTER = ("node1", "node2", "node3")


def section(title: str) -> Sequence[Session]:
    """The sessions of a section."""
    return sections()[title]


@pytest.fixture(scope="session")
def started_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three nodes that were started as the section on readiness says, and a machine without a node."""
    with ExitStack() as held:
        links = held.enter_context(Links())
        machines = Machines(tmp_path_factory.mktemp("machines"), links, [*CLUSTER, "node4"], CLUSTER)
        held.callback(machines.close)
        (session,) = section("Not ready")
        machines.type(session)
        yield machines


@pytest.fixture
def cluster(started_cluster: Machines) -> Machines:
    """The same, well; each test leaves it so."""
    started_cluster.await_well()
    return started_cluster


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Machines]:
    """One machine, `node1`, whose node is in no cluster and does not run yet."""
    with ExitStack() as held:
        machines = Machines(tmp_path, held.enter_context(Links()), ["node1"], ())
        held.callback(machines.close)
        machines["node1"].configure("OSC_LOG_LEVEL=INFO")
        yield machines
