"""Fixtures of every folder of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.node import RunningNode

# An example that takes long on a busy machine is no failure; what hangs is ended by pytest's timeout.
settings.register_profile("oscd", settings(), deadline=None)
settings.load_profile("oscd")

StartNode = Callable[..., RunningNode]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Start nodes as `start_node(OSC_WORKERS="4")`, each in a fresh directory unless `directory` is given."""
    with _nodes(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Start nodes that all tests of a module share; a test uses keys of its own and harms nothing."""
    with _nodes(tmp_path_factory.mktemp("nodes")) as start:
        yield start


@pytest.fixture(scope="module")
def shared_node(start_module_node: StartNode) -> RunningNode:
    """One node with two workers for all tests of a module."""
    return start_module_node(OSC_WORKERS="2")


@contextmanager
def _nodes(parent: Path) -> Iterator[StartNode]:
    started: list[RunningNode] = []

    def start(*, directory: Path | None = None, **settings: str) -> RunningNode:
        node = RunningNode(directory or parent / f"node-{len(started)}", {"OSC_WORKERS": "1"} | settings)
        started.append(node)
        return node

    try:
        yield start
    finally:
        for node in started:
            node.kill_all()
