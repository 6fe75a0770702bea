"""Owns how text that others chose is shown on a terminal: nothing in it can be taken for an order to it."""

from __future__ import annotations


def shown(text: str, *, keep: str = "") -> str:
    """The text with what cannot be printed (control characters, marks of direction) spelled out.

    Args:
        keep: Characters that stay as they are.
    """
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def quoted(text: str) -> str:
    """The same in double quotes, so that it cannot pass for what stands beside it."""
    return '"' + shown(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
