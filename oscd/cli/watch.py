"""Owns the command `watch`: changes as lines, for ever."""

from __future__ import annotations

import select

import click

from oscd.cli.output import Table, tell_json
from oscd.cli.session import Session, category_filter, client_command, environment_filter
from oscd.client.entries import Json
from oscd.client.errors import UsageRefused
from oscd.client.frames import Frame
from oscd.client.json_text import json_text
from oscd.client.moment import is_position
from oscd.client.subscription import Wanted, changes

_COLOURS = {"created": "green", "updated": "yellow", "deleted": "red"}
_STDOUT = 1
_ENTRIES = frozenset({"snapshot", *_COLOURS})


@client_command("watch")
@click.argument("key", required=False)
@environment_filter
@category_filter
@click.option(
    "--from", "after", metavar="POSITION", help="Go on from there: a position of --json or `history`."
)
@click.option("--snapshot", is_flag=True, help="First the entries as they stand, then the changes.")
@click.option("--values", is_flag=True, help="With the values that your user key opens, as JSON.")
def watch(
    *,
    session: Session,
    key: str | None,
    environment: str | None,
    category: str | None,
    after: str | None,
    snapshot: bool,
    values: bool,
) -> None:
    """Print a line for each change, of KEY or of all entries, until Ctrl-C.

    Begins now; a node that restarts is waited for, and no change is left out or told twice. A line has when, what was
    done, key, environment, category, version. With --json one object a line: event, key, environment, category,
    version, timestamp, node_id, position (where --from goes on), and with --values value. Other events are bookmark
    (the snapshot is complete), restart (it begins anew) and reset (changes may be missing: read everything again).

    Example: oscd watch -e production --json
    """
    if after is not None and not is_position(after):
        raise UsageRefused("--from: accepted is a position, as --json and `oscd history` show them")
    if after is not None and snapshot:
        raise UsageRefused("--from and --snapshot exclude each other: a snapshot is of now")
    wanted = Wanted(key, environment, category, after, snapshot, values)
    teller = _Teller(as_json=session.as_json, values=values, is_partial=snapshot)
    with session.service(with_user_key=values) as service:
        for frame in changes(service, wanted, on_loss=_warn):
            teller.tell(frame)


class _Teller:
    """Prints frames.

    Args:
        is_partial: Whether a snapshot is to come, which is not complete before its bookmark.
    """

    def __init__(self, *, as_json: bool, values: bool, is_partial: bool) -> None:
        self._as_json = as_json
        self._values = values
        self._is_partial = is_partial
        self._has_begun = False
        self._table = Table(
            {"TIME": 27, "CHANGE": 8, "KEY": 24, "ENVIRONMENT": 12, "CATEGORY": 8, "VERSION": 7}
        )

    def tell(self, frame: Frame) -> None:
        """Print what a frame says, if it says something."""
        match frame.event:
            case "connected" if self._is_partial and self._has_begun:
                self._tell_other(
                    frame, "restart", "The snapshot begins anew; what it told before may be gone."
                )
            case "bookmark":
                self._is_partial = False
                self._tell_other(frame, "bookmark", "")
            case "reset":
                self._tell_other(
                    frame, "reset", "Changes may be missing: that position is not in the node's log."
                )
            case event if event in _ENTRIES:
                self._has_begun = True
                self._tell_entry(frame)
            case _:
                _require_reader()

    def _tell_entry(self, frame: Frame) -> None:
        data = frame.data
        opened = data.get("data")
        if self._as_json:
            names = ("key", "environment", "category", "version", "timestamp", "node_id")
            value = opened if isinstance(opened, dict) else {}
            tell_json(_document(frame.event, frame) | {name: data.get(name) for name in names} | value)
            return
        shown = (json_text(opened["value"]) if isinstance(opened, dict) and "value" in opened else None,)
        cells = [_text(data.get(name)) for name in ("key", "environment", "category")]
        self._table.say(
            _text(data.get("timestamp")),
            frame.event,
            *cells,
            f"v{data.get('version')}",
            *(shown if self._values else ()),
            colour=_COLOURS.get(frame.event),
        )

    def _tell_other(self, frame: Frame, event: str, sentence: str) -> None:
        if self._as_json:
            tell_json(_document(event, frame))
        elif sentence:
            _warn(sentence)


def _require_reader() -> None:
    """While there is nothing to write, notice with each keep-alive that nobody reads any more.

    Raises:
        BrokenPipeError: Standard output is a pipe whose other end is closed.
    """
    poll = select.poll()
    # poll(2): a closed pipe shows as POLLERR, whether asked for or not.
    poll.register(_STDOUT, 0)
    if any(happened & select.POLLERR for _, happened in poll.poll(0)):
        raise BrokenPipeError


def _document(event: str, frame: Frame) -> dict[str, Json]:
    return {"event": event, "position": frame.id}


def _text(told: Json) -> str | None:
    return told if isinstance(told, str) else None


def _warn(sentence: str) -> None:
    click.echo(f"oscd: {sentence}", err=True)
