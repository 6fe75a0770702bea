"""Owns how a command of the client side ends: its exit status, and how an error looks. Stable; scripts go by it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
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
    elif isinstance(error, Refusal):
        _tell(error.kind, error.status, error.detail, error.fields)
    else:
        _tell(error.kind, None, str(error))


def tell_wrong_usage(error: click.ClickException, arguments: Sequence[str]) -> None:
    """Write what click found wrong in a command line: in its words, or as `tell_error` does."""
    # Where options cannot be parsed, what stands there has to do; what follows `--` is another program's.
    if "--json" in itertools.takewhile(lambda argument: argument != "--", arguments):
        _tell(UsageRefused.kind, None, error.format_message())
    else:
        error.show()


def _tell(kind: str, status: int | None, detail: str, fields: Sequence[str] = ()) -> None:
    said: dict[str, Json] = {"kind": kind, "status": status, "detail": detail, "fields": list(fields)}
    click.echo(json.dumps({"error": said}, ensure_ascii=False), err=True)
