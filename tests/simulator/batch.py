"""Owns many runs: which seeds, on all cores, and how a failing one is run again. Must not know what a run is."""

from __future__ import annotations

import os
import secrets
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

Run = Callable[[int], "Counter[str]"]
"""One run by its seed; gives what happened, by name."""

_SLICE = 50

Findings = list[tuple[int, str]]


def run_all(run: Run, runs: int, *, test: str) -> Counter[str]:
    """Run seeds one after the other, from `SIMULATOR_SEED` or a random one; gives what happened, by name.

    Args:
        run: Importable by its name, as other processes call it.
        runs: How many, unless `SIMULATOR_RUNS` says otherwise.
        test: The test that asks, as pytest would name it.

    Raises:
        AssertionError: A run failed; says which, and how to see it again.
    """
    first = int(os.environ.get("SIMULATOR_SEED") or secrets.randbelow(10**9))
    runs = int(os.environ.get("SIMULATOR_RUNS") or runs)
    print(f"{test}: seeds {first} to {first + runs - 1}")
    seeds = range(first, first + runs)
    slices = [seeds[at : at + _SLICE] for at in range(0, runs, _SLICE)]
    counts: Counter[str] = Counter()
    failed: Findings = []
    if len(slices) == 1:
        outcomes = [_run_slice(run, seeds)]
    else:
        # Spawned, as the threads of other tests must not be copied half way.
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            outcomes = list(pool.map(_run_slice, [run] * len(slices), slices))
    for happened, found in outcomes:
        counts += happened
        failed += found
    assert not failed, _told(failed, runs, test)
    return counts


def _run_slice(run: Run, seeds: Sequence[int]) -> tuple[Counter[str], Findings]:
    counts: Counter[str] = Counter()
    failed: Findings = []
    for seed in seeds:
        try:
            counts += run(seed)
        except Exception:
            failed.append((seed, traceback.format_exc(limit=-4)))
    return counts, failed


def _told(failed: Findings, runs: int, test: str) -> str:
    lines = [f"{len(failed)} of {runs} runs failed; to see one again:"]
    for seed, _ in failed[:10]:
        lines.append(f"  SIMULATOR_SEED={seed} SIMULATOR_RUNS=1 .venv/bin/python -m pytest {test}")
    return "\n".join([*lines, failed[0][1]])
