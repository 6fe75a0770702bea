"""Owns the command `export`: entries to a file of three formats."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from oscd.cli.formats import ENV, JSON, YAML, allow_option, format_of, format_option, prefix_option
from oscd.cli.output import entry_document
from oscd.cli.session import Session, at, category_filter, client_command, environment_filter, file_name
from oscd.client.documents import json_document, yaml_document
from oscd.client.entries import Entry, Json
from oscd.client.env_file import only_for_shells, written
from oscd.client.errors import UsageRefused
from oscd.client.private_file import write_private
from oscd.client.service import Filters
from oscd.client.variables import Naming, variables

_SAID = ("key", "environment", "category", "value")
_METADATA = ("version", "created_at", "updated_at")


@client_command("export", json_help="Errors as JSON; for entries as JSON: --format json.")
@environment_filter
@prefix_option
@category_filter
@at
@format_option
@click.option(
    "-o",
    "--output",
    type=file_name,
    metavar="FILE",
    help="Else, or with -, standard output; made with mode 0600, whole or not at all.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--metadata", is_flag=True, help="With version, created_at, updated_at; import passes over them."
)
@allow_option
def export(
    *,
    session: Session,
    environment: str | None,
    prefix: str,
    category: str | None,
    at: str | None,
    chosen: str | None,
    output: str | None,
    force: bool,
    metadata: bool,
    allow: tuple[str, ...],
) -> None:
    """Write the entries your key opens as .env, JSON or YAML; JSON where neither --format nor FILE's name says.

    JSON and YAML can be imported again as they are. In a .env file database/password is DATABASE_PASSWORD, and
    whatever a value holds, a shell that sources the file runs nothing.

    Example: oscd export -e production --prefix app/ -o app.env
    """
    form = chosen or (format_of(output) if output else None) or JSON
    if form == ENV and environment is None:
        raise UsageRefused("a .env file holds one environment: say --environment")
    with session.service() as service:
        entries = list(service.entries(Filters(environment, category, prefix), at=at))
    text = _text(form, entries, Naming(prefix, allow), metadata=metadata)
    if output is None or output == "-":
        sys.stdout.buffer.write(text.encode())
    else:
        write_private(Path(output), text.encode(), replace=force)
        click.echo(f"{len(entries)} entries written to {output}.", err=True)


def _text(form: str, entries: Sequence[Entry], naming: Naming, *, metadata: bool) -> str:
    if form == ENV:
        made = variables(((entry.key, entry.value) for entry in entries), naming)
        for variable in only_for_shells(made):
            click.echo(f"oscd: warning: only a shell can read {variable.name} as it is quoted", err=True)
        return written(made)
    return {JSON: json_document, YAML: yaml_document}[form](_documents(entries, metadata=metadata))


def _documents(entries: Iterable[Entry], *, metadata: bool) -> Iterable[dict[str, Json]]:
    names = _SAID + _METADATA if metadata else _SAID
    for entry in entries:
        document = entry_document(entry)
        yield {name: document[name] for name in names}
