"""Owns the progress bar of long commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, told how far the work is; silent elsewhere."""
    bar = click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        update_min_steps=max(1, length // 200),
        hidden=not sys.stderr.isatty(),
    )
    with bar:
        done = 0

        def tell(now: int) -> None:
            nonlocal done
            bar.update(now - done)
            done = now

        yield tell
