"""Owns docs/settings.md: the table of settings, as a page for people. `make docs` writes it.

What it says of a setting comes from `oscd/server/settings_table.py` alone. Must not know a setting by name.
"""

from __future__ import annotations

import sys
from typing import Final

from oscd.server.settings_table import TABLE, Row

_INTRODUCTION: Final = """\
# Settings

*Made of the table in `oscd/server/settings_table.py`, by `make docs`; a test compares them.*

A node reads them from its environment, then from a file `.env` in its working directory; the environment wins. An
empty value means unset. `oscd config` shows what is in force and where each comes from, secrets masked. A value that
cannot be read stops the start with one line that names the variable and what is accepted; an unknown `OSC_*` name is
warned about, with the nearest known one. What a *caller* sets is in [cli.md](cli.md#where-and-as-whom).

A setting marked *secret* may come from a file instead: `NAME_FILE=/run/secrets/…`. On SIGHUP
[keys](operations.md#rotate-api-keys) and [certificates](operations.md#rotate-certificates) are read again; everything
else takes a restart.

Sizes may end in `KiB`, `MiB`, `GiB` or `TiB`; durations are seconds.

| Setting | Default | Means |
|---|---|---|
"""


def settings_page() -> str:
    """The page."""
    return _INTRODUCTION + "".join(map(_line, TABLE.values()))


def _line(row: Row) -> str:
    default = f"`{row.default}`" if row.default else "unset"
    alias = f" (also `{row.alias}`)" if row.alias and row.alias != row.name else ""
    secret = "; *secret*" if row.secret else ""
    return f"| `{row.name}`{alias} | {default} | {row.meaning.replace('|', chr(92) + '|')}{secret} |\n"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
