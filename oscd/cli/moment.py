"""Owns how a moment is given on the command line: a position, a time, or how long ago."""

from __future__ import annotations

import re

import click

from oscd.events.cut import Cut
from oscd.events.sqlite.transaction import SqliteReading
from oscd.moment import Moment, MomentUnreadable, cut_at, parse_moment
from oscd.times import microseconds_now

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_MICROSECONDS = {
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}


def read_moment(_: click.Context, __: click.Parameter, text: str | None) -> Moment | None:
    """The value of an option that takes a moment.

    Raises:
        click.BadParameter: It is none.
    """
    if text is None:
        return None
    try:
        return _ago(text) or parse_moment(text)
    except MomentUnreadable as error:
        raise click.BadParameter(f"{error}, or how long ago, such as 15m, 2h or 7d.") from error


def cut_here(log: SqliteReading, moment: Moment) -> Cut:
    """What the moment covers in this log.

    Raises:
        MomentUnknown: It has not come yet, or is not in this log.
    """
    return cut_at(log, moment, microseconds_now())


def _ago(text: str) -> int | None:
    match = _AGO.fullmatch(text)
    return None if match is None else max(0, microseconds_now() - int(match[1]) * _MICROSECONDS[match[2]])
