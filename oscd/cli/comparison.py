"""Owns how two states of an entry are compared, as lines of a unified diff. Pure. Must not print."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from oscd.client.json_text import json_text
from oscd.client.past import State


def compare(name: str, before: State | None, after: State) -> Iterator[str]:
    """The lines of a unified diff; none where the two are equal.

    Text is compared line by line; where one of the two is something else, both as JSON with sorted members.

    Args:
        before: None where there was no entry.
    """
    lines = list(_value_lines(name, before, after))
    if before is not None and before.exists and after.exists and before.category != after.category:
        lines = lines or [_head("---", name, before), _head("+++", name, after)]
        # No line of a value begins so.
        lines.append(f"category: {before.category or 'none'} → {after.category or 'none'}")
    yield from lines


def _value_lines(name: str, before: State | None, after: State) -> Iterator[str]:
    both = [state.value for state in (before, after) if state is not None and state.exists]
    is_text = all(isinstance(value, str) for value in both)
    old, new = _head("---", name, before), _head("+++", name, after)
    lines = difflib.unified_diff(_lines(before, as_text=is_text), _lines(after, as_text=is_text), lineterm="")
    for number, line in enumerate(lines):
        yield (old, new)[number] if number < 2 else line


def _head(mark: str, name: str, state: State | None) -> str:
    if state is None:
        return f"{mark} {name}  (no version)"
    deleted = "" if state.exists else "  (deleted)"
    return f"{mark} {name}  version {state.version}  {state.timestamp}{deleted}"


def _lines(state: State | None, *, as_text: bool) -> list[str]:
    if state is None or not state.exists:
        return []
    if as_text:
        # Not splitlines(): a line feed that ends a text is part of it.
        return str(state.value).split("\n")
    return json_text(state.value, indent=2, sort_keys=True).split("\n")
