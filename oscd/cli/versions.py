"""Owns the commands on what an entry was: `history`, `diff`, `rollback`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable

import click

from oscd.cli.comparison import compare
from oscd.cli.outcome import EXIT_FAILED
from oscd.cli.output import (
    Table,
    entry_document,
    is_terminal,
    say,
    state_document,
    tell_json,
    version_document,
)
from oscd.cli.session import Session, client_command, environment, key
from oscd.client import past
from oscd.client.entries import Version
from oscd.client.errors import EntryMissing
from oscd.client.json_text import json_text
from oscd.client.past import State, version_name
from oscd.client.service import ANY, Service
from oscd.shown import shown

_COLOURS = {"-": "red", "+": "green", "@": "cyan"}


@client_command("history")
@key
@environment
@click.option("--values", is_flag=True, help="Show the values that your user key opens too, as JSON.")
@click.option("-n", "--limit", type=click.IntRange(1), help="Only so many, the newest.")
def history(*, session: Session, key: str, environment: str, values: bool, limit: int | None) -> None:
    """List the versions of an entry, the newest first, those of a deleted one too.

    A line has version, what was done, when, by whom (OSC_ACTOR), on which node, and the position, which `get --at`,
    `diff` and `rollback --to` take; ! marks a version that lost against a write on another node. With --json one
    object a line: version, type, timestamp, category, actor, node_id, superseded, position, and with --values value.

    Example: oscd history database/password -e production
    """
    table = Table({"VERSION": 7, "TYPE": 7, "TIME": 27, "ACTOR": 8, "NODE": 10, "POSITION": 19})
    with session.service(with_user_key=values) as service:
        for version in itertools.islice(service.history(environment, key, values=values), limit):
            if session.as_json:
                tell_json(version_document(version))
            else:
                table.say(*_cells(version, values=values))


def _cells(version: Version, *, values: bool) -> Iterable[str | None]:
    number = f"v{version.version}" + ("!" if version.superseded else "")
    yield from (number, version.type, version.timestamp, version.actor, version.node_id, version.position)
    if values:
        yield json_text(version.value) if version.opened else None


@client_command("diff")
@key
@click.argument("a", required=False)
@click.argument("b", required=False)
@environment
@click.option("--exit-code", is_flag=True, help="Exit with 1 if they differ, as git does.")
def diff(
    *, session: Session, key: str, environment: str, a: str | None, b: str | None, exit_code: bool
) -> None:
    """Compare two versions of an entry, A with B; B is the newest by default, A the one before it.

    A and B are version numbers or positions, as `oscd history` shows them. With --json an object: key, environment,
    equal, from, to (version, timestamp, position, category, deleted, value; from is null where there was none), diff.

    Example: oscd diff database/password -e production 1 3
    """
    with session.service() as service:
        before, after = _compared(service, environment, key, a, b)
    is_different = _say_comparison(session, key, environment, before, after)
    if exit_code and is_different:
        sys.exit(EXIT_FAILED)


def _compared(
    service: Service, environment: str, key: str, a: str | None, b: str | None
) -> tuple[State | None, State]:
    if a is None:
        after, *earlier = itertools.islice(past.standing(service, environment, key), 2)
        return earlier[0] if earlier else None, after
    before = past.named(service, environment, key, version_name(a))
    if b is None:
        return before, next(past.standing(service, environment, key))
    return before, past.named(service, environment, key, version_name(b))


def _say_comparison(session: Session, key: str, environment: str, before: State | None, after: State) -> bool:
    """Print how two states differ, and give whether they do."""
    lines = list(compare(f"{key} in {environment}", before, after))
    if session.as_json:
        sides = {"from": state_document(before), "to": state_document(after)}
        tell_json({"key": key, "environment": environment, "equal": not lines, **sides, "diff": lines})
        return bool(lines)
    for line in lines:
        # A value is somebody's text; on a terminal it shall not act.
        say(shown(line, keep="\t") if is_terminal() else line, colour=_COLOURS.get(line[:1]))
    return bool(lines)


@client_command("rollback")
@key
@environment
@click.option("--to", metavar="VERSION", required=True, help="Version number or position, of `oscd history`.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rollback(*, session: Session, key: str, environment: str, to: str, dry_run: bool, yes: bool) -> None:
    """Give an entry the value and category it had, as a new version; a deleted entry too.

    On a terminal it shows what would change and asks; elsewhere, and with --yes or --json, it does so at once. If
    somebody changes the entry meanwhile, nothing is done and the status is 5. With --json an object: key,
    environment, category, version, created_at, updated_at, etag, position; with --dry-run that of `oscd diff`.

    Example: oscd rollback database/password -e production --to 1
    """
    name = version_name(to)
    with session.service() as service:
        now, tag = _current(service, environment, key)
        if dry_run or (is_terminal() and sys.stdin.isatty() and not yes and not session.as_json):
            then = past.named(service, environment, key, name)
            if not _say_comparison(session, key, environment, now, then) and not session.as_json:
                click.echo("Nothing would change.", err=True)
            if dry_run:
                return
            click.confirm("Roll back?", abort=True, err=True)
        entry = service.rollback(
            environment,
            key,
            version=name if isinstance(name, int) else None,
            position=name if isinstance(name, str) else None,
            if_match=tag,
            if_none_match=ANY if tag is None else None,
        )
    if session.as_json:
        tell_json(entry_document(entry, with_value=False))
    else:
        said = f"in version {name}" if isinstance(name, int) else f"at {shown(name)}"
        say(f"{key} in {environment} is now version {entry.version}, as it was {said}.")


def _current(service: Service, environment: str, key: str) -> tuple[State | None, str | None]:
    """What the entry is, and its tag; None and None where there is none now."""
    try:
        entry = service.get(environment, key)
    except EntryMissing:
        return None, None
    return past.current(entry), entry.tag
