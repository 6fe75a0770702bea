"""What a worker holds from its start costs its callers nothing later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import RunningNode
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).with_name("telling_garbage.py")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    (tmp_path / "told").mkdir()
    settings = {"OSC_WORKERS": "1", "GARBAGE_DIRECTORY": str(tmp_path / "told")}
    running = RunningNode(tmp_path / "node", settings, (str(PROGRAM),))
    yield running
    running.kill_all()


def test_a_collection_passes_over_what_the_start_has_made(node: RunningNode, tmp_path: Path) -> None:
    """Of all that a worker holds after some calls, far the most is never looked at."""
    (worker,) = node.worker_pids()
    with node.client() as client:
        for number in range(20):
            made = client.post("/configs", json={"key": f"k{number}", "environment": "e", "value": number})
            assert made.status_code == 201
        before = (told := tmp_path / "told" / str(worker)).stat().st_mtime_ns
        wait_until(lambda: told.stat().st_mtime_ns != before, what="figures of after the calls")
        looked_at, spared = map(int, told.read_text().split())
    assert spared > 5 * looked_at
