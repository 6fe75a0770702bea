"""Nodes that are cut off, killed, put back and wiped, over a network that loses, doubles and swaps what it carries.

What must hold is in `judge.py` and `reader.py`; see the docstring of this package.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.simulator.batch import run_all
from tests.simulator.scenario import Plan, run

FAULTS = (
    *("cut", "delay", "drop", "duplicate", "reorder", "truncate", "split", "refuse", "disconnect"),
    *("partition", "partition one way", "crash", "killed before commit", "killed after commit"),
    *("restore", "wipe", "node added"),
)

PATHS = (
    *("standing: continues", "standing: begins", "create", "update", "delete", "rollback", "several"),
    *("reader resumed", "reader ahead", "reader held", "reader not reached"),
    *("reader cut inside a write", "refused: it has started anew."),
)
"""What only some runs come to, and enough of them must."""


# Two minutes of two processors; a machine that is busy with other tests may need some times as long.
@pytest.mark.timeout(900)
def test_nodes_end_equal_and_readers_hold_the_winner_whatever_happens_on_the_way() -> None:
    """Invariants 1, 2, 3, 5 and 9, run by run: every node has every acknowledged event, no number names two."""
    happened = run_all(partial(run, plan=Plan()), 2000, test="tests/simulator/test_convergence.py")
    if sum(happened.values()) > 100_000:
        missing = [name for name in (*FAULTS, *PATHS) if not happened[name]]
        assert not missing, f"no run had: {', '.join(missing)}"
