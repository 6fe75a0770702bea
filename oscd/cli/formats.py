"""Owns the option `--format` of `export` and `import`, and how a format is told by a file's name."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

import click

ENV: Final = "env"
JSON: Final = "json"
YAML: Final = "yaml"

_SUFFIXES: Final = {".env": ENV, ".json": JSON, ".yaml": YAML, ".yml": YAML}

format_option = click.option(
    "--format", "chosen", type=click.Choice([ENV, JSON, YAML]), help="Else as the file's name says."
)
prefix_option = click.option(
    "--prefix", default="", metavar="TEXT", help="Only keys that begin so; names of variables leave it out."
)
allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="NAME",
    help="Let an entry set this variable although it decides what else runs, as PATH or LD_PRELOAD; repeatable.",
)


def format_of(name: str) -> str | None:
    """What a file's name says: `.env`, `prod.env`, `.env.local`, `x.json`, `x.yaml`; None where it says nothing."""
    path = PurePath(name)
    if path.name == ".env" or path.name.startswith(".env."):
        return ENV
    return _SUFFIXES.get(path.suffix)
