"""Owns how a moment is given on the command line: a position, a time, or how long ago."""

from __future__ import annotations

import click

from oscd.events.cut import Cut
from oscd.events.sqlite.reading import SqliteReading
from oscd.moment import Moment, MomentUnreadable, cut_at, parse_moment
from oscd.times import microseconds_now, parse_ago


def read_moment(_: click.Context, __: click.Parameter, text: str | None) -> Moment | None:
    """The value of an option that takes a moment.

    Raises:
        click.BadParameter: It is none.
    """
    if text is None:
        return None
    try:
        ago = parse_ago(text, microseconds_now())
        return parse_moment(text) if ago is None else ago
    except MomentUnreadable as error:
        raise click.BadParameter(f"{error}, or how long ago, such as 15m, 2h or 7d.") from error


def cut_here(log: SqliteReading, moment: Moment) -> Cut:
    """What the moment covers in this log.

    Raises:
        MomentUnknown: It has not come yet, or is not in this log.
    """
    return cut_at(log, moment, microseconds_now())
