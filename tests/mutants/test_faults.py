"""The faults of `make mutants` still fit the code: whoever moves a line learns it here, not once a fault survives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent.parent

NAMED = (
    "skip the fsync",
    "answer before commit",
    "announce before commit",
    "drop an event on a slow reader",
    "compare wall clocks",
    "forget a tombstone",
    "ingest without the chain check",
    "re-issue a sequence number after restore",
)
"""What must be among them, whatever else is."""


def test_the_faults_that_matter_most_are_there() -> None:
    """Each by its name, and no name twice."""
    names = [fault.name for fault in FAULTS]
    assert set(NAMED) <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_of_code_that_still_compiles(fault: Fault, tmp_path: Path) -> None:
    """Its old text stands in its file exactly once, and what comes of it is Python, and other Python."""
    copy = tmp_path / fault.path
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / fault.path).read_text())
    fault.apply(tmp_path)
    assert ast.dump(ast.parse(copy.read_text())) != ast.dump(ast.parse((ROOT / fault.path).read_text()))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_tests_that_exist(fault: Fault) -> None:
    """A test that was renamed would be no proof any more."""
    assert fault.tests
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert name, f"{test} names no test"
        *classes, function = name.partition("[")[0].split("::")
        assert function in _functions(ROOT / path, classes), f"{test} does not exist"


def _functions(path: Path, classes: list[str]) -> set[str]:
    """The tests of a module, or of a class of it, those that it inherits from another module of ours included."""
    tree = ast.parse(path.read_text())
    for name in classes:
        (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
        inherited: set[str] = set()
        for base in found.bases:
            inherited |= _inherited(tree, base)
        return inherited | _defined(found)
    return _defined(tree)


def _inherited(tree: ast.Module, base: ast.expr) -> set[str]:
    assert isinstance(base, ast.Name)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == base.id for alias in node.names):
            assert node.module is not None
            return _functions(ROOT / (node.module.replace(".", "/") + ".py"), [base.id])
    return set()


def _defined(tree: ast.Module | ast.ClassDef) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
