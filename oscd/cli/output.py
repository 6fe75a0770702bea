"""Owns how what a node told is printed: values, lines, documents for machines, colours.

Must not write to standard error, nor decide what is printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import click

from oscd.client.entries import Entry, Json, Version
from oscd.client.json_text import json_text
from oscd.client.past import State
from oscd.shown import shown


def value_text(value: Json) -> str:
    """A value as `get` prints it: text as it is, but shall not act on a terminal; anything else as JSON."""
    if not isinstance(value, str):
        return json_text(value)
    return shown(value, keep="\t\n") if is_terminal() else value


def say(text: str, *, colour: str | None = None) -> None:
    """Print a line at once, as UTF-8 whatever the locale; coloured on a terminal only."""
    if colour is not None and is_coloured():
        text = click.style(text, fg=colour)
    # surrogatepass: as above; a text is printed as it is.
    click.echo(text.encode(errors="surrogatepass"))


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def is_coloured() -> bool:
    """Whether colours are wanted (no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Table:
    """Lines of columns: aligned on a terminal, tab separated elsewhere.

    Args:
        columns: Heads, for a terminal, and widths at first; a wider cell widens its column from its line on, as lines
            are printed when they come. Lines may have more cells than that.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self._heads: Sequence[str] = list(columns)
        self._widths = list(columns.values())

    def say(self, *cells: str | None, colour: str | None = None) -> None:
        """Print a line; None is shown as `-`."""
        texts = [shown((cell or "-").replace("\t", " ")) for cell in cells]
        if not is_terminal():
            say("\t".join(texts))
            return
        if self._heads:
            heads, self._heads = self._heads, ()
            say(self._aligned(heads), colour="bright_black")
        say(self._aligned(texts), colour=colour)

    def _aligned(self, texts: Sequence[str]) -> str:
        for number, text in enumerate(texts[: len(self._widths)]):
            self._widths[number] = max(self._widths[number], len(text))
        padded = [text.ljust(width) for text, width in zip(texts, self._widths, strict=False)]
        return "  ".join([*padded, *texts[len(padded) :]]).rstrip()


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> list[str]:
    """Lines of a table that is known whole, heads first: aligned for a terminal, tab separated for the rest."""
    table = [[*heads], *([shown((cell or "-").replace("\t", " ")) for cell in row] for row in rows)]
    if not is_terminal():
        return ["\t".join(row) for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def tell_json(document: Json) -> None:
    """Print one document for machines, on one line, at once."""
    say(json_text(document))


def entry_document(entry: Entry, *, with_value: bool = True) -> dict[str, Json]:
    """An entry for machines."""
    return {
        "key": entry.key,
        "environment": entry.environment,
        "category": entry.category,
        **({"value": entry.value} if with_value else {}),
        "version": entry.version,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "etag": entry.tag,
        "position": entry.position,
    }


def version_document(version: Version) -> dict[str, Json]:
    """A version for machines; `value` only where the user key opened it."""
    return {
        "version": version.version,
        "type": version.type,
        "timestamp": version.timestamp,
        "category": version.category,
        "actor": version.actor,
        "node_id": version.node_id,
        "superseded": version.superseded,
        "position": version.position,
        **({"value": version.value} if version.opened else {}),
    }


def state_document(state: State | None) -> dict[str, Json] | None:
    """A state for machines; `value` only where there was an entry."""
    if state is None:
        return None
    return {
        "version": state.version,
        "timestamp": state.timestamp,
        "position": state.position,
        "category": state.category,
        "deleted": not state.exists,
        **({"value": state.value} if state.exists else {}),
    }
