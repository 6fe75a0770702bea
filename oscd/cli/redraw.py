"""Owns a picture on a terminal that is drawn anew where it stands; elsewhere, lines after lines.

Must not know what is drawn.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import click

from oscd.cli.output import is_terminal, say

Line = tuple[str, str | None]
"""A text that may go to a terminal, and its colour."""


class Picture:
    """Lines that take the place of those drawn before."""

    def __init__(self) -> None:
        self._height = 0

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, cut where the terminal ends: a line that wraps would be two."""
        if not is_terminal():
            for text, colour in lines:
                say(text, colour=colour)
            return
        columns, rows = shutil.get_terminal_size()
        if self._height:
            # ECMA-48: CPL, to the beginning of the line so many above, and ED, erase to the end.
            click.echo(f"\x1b[{self._height}F\x1b[J".encode(), nl=False)
        shown = lines[: max(1, rows - 1)]
        for text, colour in shown:
            say(text[: columns - 1], colour=colour)
        self._height = len(shown)
