"""Owns the command `log`: its options, how a line looks to people and to machines, how following ends."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import orjson

from oscd.audit import Audit, Audited, Wanted
from oscd.cli.log_file import FILE_ARGUMENT, database, reading
from oscd.cli.moment import cut_here, read_moment
from oscd.errors import StartRefused
from oscd.events.cut import Cut
from oscd.events.event import EventRef
from oscd.events.sqlite.file import inode_of
from oscd.events.sqlite.reading import SqliteReading
from oscd.moment import Moment, MomentUnknown
from oscd.server.process import harden_process
from oscd.shown import quoted, shown
from oscd.times import rfc3339

POLL_SECONDS: Final = 0.25
KEY_ID_DIGITS: Final = 8
"""Of a key id, as people are shown it; `--json` has all of it."""


@click.command()
@FILE_ARGUMENT
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "--since",
    metavar="POSITION|TIME",
    callback=read_moment,
    help="Only what was written after it; a time is RFC 3339, or how long ago: 15m, 2h, 7d.",
)
@click.option("--key", "-k", help="Only this key.")
@click.option("--environment", "-e", help="Only this environment.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one object per line.")
def log(
    *,
    file: Path | None,
    follow: bool,
    since: Moment | None,
    key: str | None,
    environment: str | None,
    as_json: bool,
) -> None:
    """Tell what was written: when, what, and by whom. Never a value.

    FILE is a copy or a snapshot; without it, the log of OSC_DATABASE_PATH. Reads only, also beside a serving node.
    The columns: time, offset, type, environment, key, version; who (what the caller claimed to be, address, the
    first digits of the key id); node. An operator's release is by "operator" from local.

    Example: oscd log --follow --since 15m --environment prod
    """
    harden_process()
    path = database(file)
    with reading(path, is_copy=file is not None and not follow) as connection, _ended_by_signals():
        audit = Audit(connection, Wanted(environment, key, _since(connection, since)))
        upto = SqliteReading(connection).head()
        for page in _pages(audit, path, None if follow else upto):
            lines = (_document(one) if as_json else _line(one) for one in page)
            # Whole lines in one piece: what reads the other end of a pipe may look at any time.
            click.echo("".join(f"{line}\n" for line in lines), nl=False)


def _since(log: sqlite3.Connection, since: Moment | None) -> int | Cut | None:
    if since is None or isinstance(since, int):
        return since
    try:
        return cut_here(SqliteReading(log), since)
    except MomentUnknown as error:
        raise StartRefused(f"--since: {error}.") from error


def _pages(audit: Audit, path: Path, upto: int | None) -> Iterator[Sequence[Audited]]:
    """Page after page, up to an offset or for ever.

    Raises:
        StartRefused: The file is not at its path any more, so nothing more will be written to what is read.
    """
    inode = inode_of(path)
    while upto is None or audit.offset < upto:
        page, is_more = audit.page()
        if page:
            yield [one for one in page if upto is None or one.offset <= upto]
        if is_more:
            continue
        if upto is not None:
            return
        if inode_of(path) != inode:
            raise StartRefused(f"{path}: the file of the log was moved, deleted or replaced.")
        time.sleep(POLL_SECONDS)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal, or the end of whoever reads, end the process as it ends any other: there is nothing to undo."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(one: Audited) -> str:
    event = one.event
    version = f"v{event.version}" if event.is_of_entry else "-"
    return (
        f"{rfc3339(event.stamp)}  {one.offset:>8}  {shown(event.type):<12}  {shown(event.environment) or '-':<10}"
        f"  {shown(event.key) or '-':<24}  {version:<5}  {_who(one):<40}  {shown(event.origin.node_id)}"
    )


def _who(one: Audited) -> str:
    actor = None if one.body is None else one.body.actor
    address = None if one.body is None else one.body.address
    parts = [
        "-" if actor is None else quoted(actor),
        "-" if address is None else shown(address),
        "-" if one.event.key_id is None else one.event.key_id.hex()[:KEY_ID_DIGITS],
    ]
    return " ".join(parts)


def _document(one: Audited) -> str:
    event = one.event
    document = {
        "offset": one.offset,
        "position": one.position.encode(),
        "timestamp": rfc3339(event.stamp),
        "stamp": event.stamp,
        "updated_at": rfc3339(event.updated_at),
        "type": event.type,
        "environment": event.environment,
        "key": event.key,
        "category": event.category,
        "version": event.version,
        "actor": None if one.body is None else one.body.actor,
        "address": None if one.body is None else one.body.address,
        "key_id": None if event.key_id is None else event.key_id.hex(),
        "node_id": event.origin.node_id,
        "incarnation": event.origin.incarnation,
        "seq": event.seq,
        "digest": one.digest.hex(),
        "replaces": None if event.replaces is None else _reference(event.replaces),
        "imported": event.imported,
    }
    return orjson.dumps(document).decode()


def _reference(ref: EventRef) -> dict[str, str | int]:
    return {"node_id": ref.origin.node_id, "incarnation": ref.origin.incarnation, "seq": ref.seq}
