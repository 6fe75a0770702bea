"""Fixtures of the tests with real clusters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import MakeCluster, RunningCluster, clusters


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters as `make_cluster(3, settings=…)`; a test starts their nodes itself."""
    with clusters(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Three nodes, ready, for all tests of a module; a test uses an environment of its own and harms nothing."""
    with clusters(tmp_path_factory.mktemp("clusters")) as make:
        cluster = make(3)
        cluster.start()
        cluster.await_ready()
        yield cluster


@pytest.fixture
def seed() -> str:
    """Decides what a test does; printed, so that it can be done again."""
    drawn = str(random.getrandbits(64))
    print(f"seed {drawn}")
    return drawn
