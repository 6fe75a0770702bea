"""`make mutants`: breaks a copy of oscd, one named fault at a time, and demands that the named tests turn red."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.faults import FAULTS, Fault

_ROOT = Path(__file__).parent.parent.parent
_COPIED = ("oscd", "tests", "pyproject.toml")
_SECONDS = 300
# pytest: all passed, and some failed; anything else proves nothing.
_GREEN, _RED = 0, 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault.

    Attributes:
        survived: Of its tests, those that stayed green.
    """

    fault: Fault
    survived: tuple[str, ...]
    seconds: float


def main() -> None:
    """Try the faults that the command line names, all if it names none."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose names hold one of these")
    words = parser.parse_args().words
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    if not chosen:
        parser.error(f"no fault is named like that; there are: {', '.join(fault.name for fault in FAULTS)}")
    with TemporaryDirectory(prefix="oscd-mutants-") as scratch:
        whole = _copy(Path(scratch, "whole"))
        _require_green(whole, {test for fault in chosen for test in fault.tests})
        outcomes = [_try(fault, Path(scratch, "broken")) for fault in chosen]
    print(_table(outcomes))
    sys.exit(any(outcome.survived for outcome in outcomes))


def _require_green(tree: Path, tests: Iterable[str]) -> None:
    _say("all of it, unbroken")
    status, said = _run(tree, sorted(tests))
    if status != _GREEN:
        sys.exit(f"without any fault these tests end with {status}:\n{said[-3000:]}")


def _try(fault: Fault, tree: Path) -> Outcome:
    _say(fault.name)
    begun = time.monotonic()
    fault.apply(_copy(tree))
    try:
        survived = tuple(test for test in fault.tests if not _is_red(tree, test))
    finally:
        shutil.rmtree(tree)
    return Outcome(fault, survived, time.monotonic() - begun)


def _is_red(tree: Path, test: str) -> bool:
    status, said = _run(tree, [test])
    if status not in {_GREEN, _RED}:
        sys.exit(f"{test} ends with {status}:\n{said[-3000:]}")
    return status == _RED


def _run(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    # The path makes processes that a test starts, wherever they run, use the copy as well.
    environment = dict(os.environ) | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--exitfirst", *tests],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS * len(tests),
        check=False,
    )
    return done.returncode, done.stdout


def _copy(tree: Path) -> Path:
    tree.mkdir()
    for name in _COPIED:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, tree / name)
    return tree


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for outcome in outcomes:
        for number, test in enumerate(outcome.fault.tests):
            verdict = "SURVIVED" if test in outcome.survived else "red"
            name, took = (outcome.fault.name, f"{outcome.seconds:.0f} s") if number == 0 else ("", "")
            rows.append((name, took, verdict, test))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    )


def _say(what: str) -> None:
    """Progress, apart from the table."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
