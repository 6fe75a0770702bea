"""Owns how a command of the client side ends: its exit status, and how an error looks. Stable; scripts go by it."""

from __future__ import annotations

import json
from typing import Final

import click

from oscd.client.entries import Json
from oscd.client.errors import (
    AccessRefused,
    ClientError,
    Conflict,
    EntryMissing,
    NodeUnavailable,
    Refusal,
    Unreachable,
    UsageRefused,
    VersionMissing,
    VersionSealed,
)

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2  # click's own, too
EXIT_INTERRUPTED: Final = 128 + 2  # what a shell makes of SIGINT

EXIT_STATUS: Final = (
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 not found, 4 not authorized, "
    "5 conflict (exists already, or changed meanwhile), 6 the node cannot be reached or is unavailable."
)
"""Ends the help of every command of the client side."""

_STATUSES: Final[dict[type[ClientError], int]] = {
    UsageRefused: EXIT_USAGE,
    EntryMissing: 3,
    VersionMissing: 3,
    AccessRefused: 4,
    VersionSealed: 4,
    Conflict: 5,
    Unreachable: 6,
    NodeUnavailable: 6,
}


def exit_status(error: ClientError) -> int:
    """The exit status of a command that ended with this error."""
    return _STATUSES.get(type(error), EXIT_FAILED)


def tell_error(error: ClientError, *, as_json: bool) -> None:
    """Write an error to standard error: a sentence, or a JSON object for machines.

    The object is `{"error": {"kind", "status", "detail", "fields"}}`: `kind` is one of usage, unreachable,
    unreadable, not_authorized, not_found, conflict, unavailable, refused; `status` is the node's, null where there
    was none.
    """
    if not as_json:
        click.echo(f"oscd: {error}", err=True)
        return
    refused = error if isinstance(error, Refusal) else None
    said: dict[str, Json] = {
        "kind": error.kind,
        "status": refused.status if refused else None,
        "detail": refused.detail if refused else str(error),
        "fields": [*refused.fields] if refused else [],
    }
    click.echo(json.dumps({"error": said}, ensure_ascii=False), err=True)
