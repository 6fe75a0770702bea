"""Owns the commands on one entry or many as they stand: `get`, `set`, `ls`, `rm`."""

from __future__ import annotations

import click

from oscd.cli.output import entry_document, tell_json, value_text
from oscd.cli.session import Session, at, client_command, environment


@client_command("get")
@click.argument("key")
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
        click.echo(value_text(entry.value))
