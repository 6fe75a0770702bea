"""Owns what a request says of a moment, and the refusal of one that is none. Must not read a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oscd.errors import Invalid
from oscd.moment import Moment, MomentUnknown, MomentUnreadable, parse_moment

AT = ("query", "at")


def moment_of(at: str | None) -> Moment | None:
    """What `at=` says; None where it says nothing.

    Raises:
        Invalid: It is neither a position nor a time.
    """
    if at is None:
        return None
    try:
        return parse_moment(at)
    except MomentUnreadable as error:
        raise Invalid.field(AT, str(error)) from error


@contextmanager
def known_moment(loc: tuple[str, str] = AT) -> Iterator[None]:
    """Refuse the request where what happens inside meets a moment that the log cannot tell.

    Args:
        loc: Where the request names the moment.

    Raises:
        Invalid: It does.
    """
    try:
        yield
    except MomentUnknown as error:
        raise Invalid.field(loc, str(error)) from error
