"""Owns the commands on entries as they stand, or stood: `get`, `set`, `ls`, `rm`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from oscd.cli.output import Table, entry_document, say, tell_json, value_text
from oscd.cli.session import (
    Session,
    at,
    category_filter,
    client_command,
    environment,
    environment_filter,
    key,
)
from oscd.cli.value_input import value_of
from oscd.client.entries import Entry, Json
from oscd.client.errors import Conflict, EntryMissing, UsageRefused
from oscd.client.json_text import json_text
from oscd.client.service import Filters, Service
from oscd.client.target import STDIN

_ROUNDS: Final = 5
if_match = click.option("--if-match", metavar="ETAG", help="Only if it is unchanged: the etag of --json.")


@client_command("get")
@key
@environment
@at
def get(*, session: Session, key: str, environment: str, at: str | None) -> None:
    """Print the value of an entry: text as it is, anything else as JSON.

    With --json an object: key, environment, category, value, version, created_at, updated_at, etag, position.

    Example: oscd get database/password -e production
    """
    with session.service() as service:
        entry = service.get(environment, key, at=at)
    if session.as_json:
        tell_json(entry_document(entry))
    else:
        say(value_text(entry.value))


@client_command("set")
@key
@click.argument("value", required=False)
@environment
@click.option("-c", "--category", help='Put it under this category; "" takes it out. Otherwise it stays.')
@click.option("--file", type=click.Path(path_type=Path), help="Take the value from a file.")
@click.option(
    "--json-value", is_flag=True, help="The value is JSON; otherwise it is text, whatever it looks like."
)
@click.option("--create", is_flag=True, help="Only if there is no such entry yet.")
@if_match
def set_(
    *,
    session: Session,
    key: str,
    value: str | None,
    environment: str,
    category: str | None,
    file: Path | None,
    json_value: bool,
    create: bool,
    if_match: str | None,
) -> None:
    """Give an entry a value; make the entry if there is none.

    Without VALUE you are asked for it and it is not shown. A VALUE on the command line can be seen by everybody on
    this machine (ps) and stays in your shell's history: give secrets by - (standard input) or --file, of which one
    line feed at the end is left out.

    With --json an object: key, environment, category, version, created_at, updated_at, etag, position.

    Example: pass show db | oscd set database/password - -e production -c db
    """
    if create and if_match is not None:
        raise UsageRefused("--create and --if-match exclude each other")
    if value == STDIN and session.user_key_file == STDIN:
        raise UsageRefused("standard input cannot hold both the user key and the value")
    with session.service() as service:
        what = value_of(value, file, is_json=json_value)
        if create:
            entry = service.create(environment, key, what, category=category)
        elif if_match is not None:
            entry = service.put(environment, key, what, category=category, if_match=if_match)
        else:
            entry = _put(service, environment, key, what, category)
    if session.as_json:
        tell_json(entry_document(entry, with_value=False))
    else:
        say(f"{key} in {environment} is now version {entry.version}.")


def _put(service: Service, environment: str, key: str, value: Json, category: str | None) -> Entry:
    """Update the entry or create it, whichever it takes; others may do the opposite meanwhile.

    Raises:
        EntryMissing: It comes and goes faster than it can be written.
    """
    for _ in range(_ROUNDS):
        with suppress(EntryMissing):
            return service.put(environment, key, value, category=category)
        with suppress(Conflict):
            return service.create(environment, key, value, category=category)
    return service.put(environment, key, value, category=category)


@client_command("ls")
@click.argument("prefix", default="")
@environment_filter
@category_filter
@at
@click.option("--values", is_flag=True, help="Show the values too, as JSON.")
def ls(
    *,
    session: Session,
    prefix: str,
    environment: str | None,
    category: str | None,
    at: str | None,
    values: bool,
) -> None:
    """List the entries whose key begins with PREFIX and that your user key opens.

    A line has key, environment, category, version and when it was updated; columns are separated by tabs where the
    output is no terminal. With --json one object a line: key, environment, category, version, created_at, updated_at,
    and with --values value.

    Example: oscd ls database/ -e production
    """
    table = Table({"KEY": 24, "ENVIRONMENT": 12, "CATEGORY": 8, "VERSION": 7, "UPDATED": 27})
    with session.service() as service:
        for entry in service.entries(Filters(environment, category, prefix), at=at):
            if session.as_json:
                document = entry_document(entry, with_value=values)
                tell_json({name: told for name, told in document.items() if name not in {"etag", "position"}})
                continue
            shown = (json_text(entry.value),) if values else ()
            version = f"v{entry.version}"
            table.say(entry.key, entry.environment, entry.category, version, entry.updated_at, *shown)


@client_command("rm")
@key
@environment
@if_match
def rm(*, session: Session, key: str, environment: str, if_match: str | None) -> None:
    """Delete an entry. Its history stays, and `oscd rollback` brings it back.

    With --json an object: key, environment, position.

    Example: oscd rm database/password -e staging
    """
    with session.service() as service:
        position = service.delete(environment, key, if_match=if_match)
    if session.as_json:
        tell_json({"key": key, "environment": environment, "position": position})
    else:
        say(f"{key} in {environment} is deleted.")
