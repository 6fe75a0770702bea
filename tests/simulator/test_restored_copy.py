"""Files that are put back from older copies, again and again, with all, some and no peers in reach (invariant 9)."""

from __future__ import annotations

from functools import partial

from tests.simulator.batch import run_all
from tests.simulator.scenario import Plan, run

TEST = "tests/simulator/test_restored_copy.py"

OFTEN = (
    *(("request", 50), ("read", 20), ("move", 10), ("copy", 12), ("crash", 2), ("restore", 8)),
    *(("partition", 5), ("heal", 3), ("pause", 3), ("wipe", 1)),
)


def test_no_number_names_two_events_however_often_a_file_is_put_back() -> None:
    """Invariant 9: what a peer knows is taken back, or the incarnation ends; of what none knew readers are told."""
    plan = Plan(shapes=("mesh",), weights=OFTEN)
    happened = run_all(partial(run, plan=plan), 400, test=f"{TEST} -k however_often")
    if happened["restore"] > 1000:
        for name in ("standing: continues", "standing: begins", "reader not reached"):
            assert happened[name], f"no run had: {name}"


def test_readers_of_a_lone_node_that_was_put_back_are_reset_and_hold_what_it_holds() -> None:
    """Invariant 9: nobody can keep a lone node from issuing a number again, but the digests in positions show it."""
    plan = Plan(nodes=(1, 1), shapes=("mesh",), weights=OFTEN, readers=3)
    happened = run_all(partial(run, plan=plan), 100, test=f"{TEST} -k lone")
    if happened["restore"] > 100:
        assert happened["reader contradicted"], "no reader met a number that was issued twice"
