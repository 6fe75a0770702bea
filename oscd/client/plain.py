"""Owns text of strangers on its way to a terminal: whoever wrote it shall not move the cursor. Must not cut it."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with U+FFFD for each character that does not print; tabs stay."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)
