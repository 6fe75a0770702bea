"""Two user keys on nodes that cannot see each other, and what each may do once they can (contract §2)."""

from __future__ import annotations

from collections import Counter
from functools import partial

from tests.simulator.batch import run_all
from tests.simulator.ownership import run_and_examine
from tests.simulator.scenario import Plan

APART = Plan(
    nodes=(2, 3),
    requests=(20, 40),
    shapes=("mesh",),
    readers=0,
    weights=(("request", 60), ("partition", 8), ("heal", 4), ("pause", 1), ("crash", 1)),
)


def test_no_key_opens_or_changes_what_another_owns_after_any_merge() -> None:
    """Every request of a run is judged when it is answered; in the end each key tries everything with each entry."""
    happened: Counter[str] = run_all(
        partial(run_and_examine, plan=APART), 150, test="tests/simulator/test_ownership.py"
    )
    if sum(happened.values()) > 10_000:
        for name in (
            *("opened", "not opened", "opened in history", "not opened in history", "foreign conflict"),
            *("loser not brought back by its own key", "brought back", "not brought back"),
        ):
            assert happened[name], f"no run had: {name}"
