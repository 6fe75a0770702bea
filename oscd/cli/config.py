"""What `oscd config` prints: the effective settings, and the example file that lists them all.

Owns: how a setting is shown. Must not: print a secret, or know a setting by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from oscd.server.settings_table import TABLE, Row, Settings

MASK = "********"


def show_config(settings: Settings, warnings: Sequence[str], *, as_json: bool = False) -> str:
    """Show every setting as `NAME=value` and where it came from, secrets masked, warnings last.

    As JSON: `{"settings": {NAME: {"value", "source"}}, "warnings": [...]}`; a source is `environment`,
    `.env`, the name of the `_FILE` setting that was followed, or `default`.
    """
    shown = {row.name: _shown(row, getattr(settings, attribute)) for attribute, row in TABLE.items()}
    sources = {name: settings.sources.get(name, "default") for name in shown}
    if as_json:
        rows = {name: {"value": shown[name], "source": sources[name]} for name in shown}
        document = {"settings": rows, "warnings": list(warnings)}
        return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    lines = [f"{name}={value}" for name, value in shown.items()]
    width = max(map(len, lines))
    table = [f"{line:<{width}}  # {source}" for line, source in zip(lines, sources.values(), strict=True)]
    return "\n".join([*table, *(f"# warning: {warning}" for warning in warnings)])


def example_env() -> str:
    """Make the text of `.env.example`: every setting, commented out, at its default."""
    head = "# Settings of oscd: copy to .env, uncomment what you change. The environment wins over it.\n"
    secrets = "# A secret may come from a file instead: NAME_FILE=/run/secrets/…\n"
    return (
        head + secrets + "".join(f"\n# {row.meaning}\n#{row.name}={row.default}\n" for row in TABLE.values())
    )


def _shown(row: Row, value: object) -> str:
    if row.secret:
        return MASK if value else ""
    return _text(value)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(map(str, value))
        case str() | int() | Path():
            return str(value)
        case _:
            raise TypeError(f"no text form for a setting of type {type(value).__name__}")
