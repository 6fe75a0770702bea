"""Owns the command `import`: reading a file, showing what it would change, asking, and saying what was done.

What changes is decided in `client/plan.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from oscd.cli.formats import ENV, JSON, format_of, format_option
from oscd.cli.output import say, tell_json
from oscd.cli.session import Session, client_command, file_name
from oscd.client.documents import MAX_BYTES, Item, items_of_json, items_of_yaml
from oscd.client.entries import Json
from oscd.client.env_file import parsed
from oscd.client.errors import UsageRefused
from oscd.client.json_text import json_text
from oscd.client.plan import Effect, Outcome, Step, apply, items_of_variables, plan
from oscd.client.service import Service
from oscd.client.target import STDIN
from oscd.client.variables import Naming
from oscd.shown import shown

_SIGNS = {Effect.CREATE: "+", Effect.CHANGE: "~", Effect.KEEP: "!"}
_COLOURS = {Effect.CREATE: "green", Effect.CHANGE: "yellow"}


@client_command("import")
@click.argument("file", type=file_name, metavar="FILE")
@click.option(
    "-e", "--environment", metavar="ENV", help="Where all entries go; else where the file says they are."
)
@click.option(
    "--prefix", default="", metavar="TEXT", help="For .env files: what the names leave out of the keys."
)
@format_option
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--overwrite", is_flag=True, help="Change entries that exist; else they are kept.")
@click.option("--values", is_flag=True, help="Show the values that change, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_entries(
    *,
    session: Session,
    file: str,
    environment: str | None,
    prefix: str,
    chosen: str | None,
    dry_run: bool,
    overwrite: bool,
    values: bool,
    yes: bool,
) -> None:
    """Create and change entries as FILE says, after showing what that would be; - reads standard input.

    FILE is what `oscd export` writes; or a mapping, whose names are the parts of keys; or any .env file, whose names
    are those of the entries that an export would call so, else new keys. Nothing is deleted. An entry that somebody
    changes meanwhile is not overwritten: the import stops there, and says what was done. Run it again to go on.

    Example: oscd import app.yaml -e staging --dry-run
    """
    if file == STDIN and session.user_key_file == STDIN:
        raise UsageRefused("standard input cannot hold both the user key and the entries")
    text = _read(file)
    with session.service() as service:
        try:
            items = _items(service, text, chosen or format_of(file) or "", environment, prefix)
        except UsageRefused as refused:
            raise UsageRefused(f"{file}: {refused}") from None
        steps = plan(service, items, overwrite=overwrite)
        if not session.as_json:
            _show(steps, values=values)
        if dry_run or not any(step.writes for step in steps):
            outcome = Outcome([])
        else:
            _require_consent(file, yes=yes)
            outcome = apply(service, steps)
    if session.as_json:
        tell_json(_report(steps, outcome, dry_run=dry_run))
    else:
        say(_summary(steps, outcome, dry_run=dry_run))
    if outcome.error is not None:
        raise outcome.error


def _read(file: str) -> str:
    try:
        if file == STDIN:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageRefused(f"{file}: is larger than {MAX_BYTES >> 20} MiB")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageRefused(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageRefused(f"{file}: is not UTF-8") from None


def _items(service: Service, text: str, form: str, environment: str | None, prefix: str) -> list[Item]:
    if form != ENV:
        if not form:
            raise UsageRefused("its name does not tell what it is; say --format")
        return (items_of_json if form == JSON else items_of_yaml)(text, environment)
    if environment is None:
        raise UsageRefused("a .env file names no environment; say --environment")
    return items_of_variables(service, parsed(text).items(), environment, Naming(prefix))


def _require_consent(file: str, *, yes: bool) -> None:
    if yes:
        return
    if file == STDIN or not sys.stdin.isatty():
        raise UsageRefused(
            "there is no terminal to ask on: --yes imports without asking, --dry-run only shows"
        )
    click.confirm("Import?", abort=True, err=True)


def _show(steps: Sequence[Step], *, values: bool) -> None:
    for step in steps:
        if step.effect in _SIGNS:
            line = f"{_SIGNS[step.effect]} {step.name}{_difference(step, values=values)}"
            say(shown(line), colour=_COLOURS.get(step.effect))


def _difference(step: Step, *, values: bool) -> str:
    item, before = step.item, step.before
    said = []
    if values:
        old = "" if before is None else f"{json_text(before.value)} -> "
        said.append(old + json_text(item.value))
    if item.category is not None and item.category != ((before and before.category) or ""):
        said.append(f"category {item.category or 'none'}")
    return ": " + ", ".join(said) if said else ""


def _count(steps: Sequence[Step], effect: Effect) -> int:
    return sum(step.effect is effect for step in steps)


def _summary(steps: Sequence[Step], outcome: Outcome, *, dry_run: bool) -> str:
    kept = _count(steps, Effect.KEEP)
    rest = f"{_count(steps, Effect.SAME)} unchanged" + (
        f", {kept} kept (--overwrite changes them)" if kept else ""
    )
    verb = "Would create" if dry_run else "Created"
    done = steps if dry_run else outcome.done
    text = f"{verb} {_count(done, Effect.CREATE)}, change {_count(done, Effect.CHANGE)}; {rest}."
    text = text if dry_run else text.replace(", change ", ", changed ")
    if outcome.failed is not None:
        left = "".join(f"\n  {step.name}" for step in outcome.left)
        text += f"\nStopped at {outcome.failed.name}." + (f" Not tried:{left}" if left else "")
    return text


def _report(steps: Sequence[Step], outcome: Outcome, *, dry_run: bool) -> dict[str, Json]:
    planned = {effect.value: [_name(step) for step in steps if step.effect is effect] for effect in Effect}
    return {
        "dry_run": dry_run,
        "planned": planned,
        "applied": [_name(step) for step in outcome.done],
        "failed": None if outcome.failed is None else _name(outcome.failed),
        "not_tried": [_name(step) for step in outcome.left],
    }


def _name(step: Step) -> dict[str, Json]:
    return {"environment": step.item.environment, "key": step.item.key}
