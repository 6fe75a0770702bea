"""Owns where the value of `set` comes from: an argument, standard input, a file, or a question on a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO, Final

import click

from oscd.client.entries import Json
from oscd.client.errors import UsageRefused
from oscd.client.json_text import read_strictly
from oscd.client.target import STDIN

MAX_BYTES: Final = 64 * 1024 * 1024
"""More than any node takes; it says what it takes."""


def value_of(argument: str | None, file: Path | None, *, is_json: bool) -> Json:
    """Read the value to set.

    Args:
        argument: The value itself, or `-` for standard input; None, where `file` is None too, asks a person.
        is_json: Whether it is JSON; else it is text. From input and files one line feed at the end is left out, so
            that what `get` printed comes back equal.

    Raises:
        UsageRefused: It is said twice or not at all, cannot be read, or is not what it should be.
    """
    text = _text(argument, file)
    return _parsed(text) if is_json else text


def _text(argument: str | None, file: Path | None) -> str:
    if argument is not None and file is not None:
        raise UsageRefused("VALUE and --file are both given; accepted is one of them")
    if file is not None:
        try:
            with file.open("rb") as opened:
                return _decoded(opened, "--file")
        except OSError as error:
            raise UsageRefused(f"--file: {error.strerror}") from None
    if argument == STDIN:
        return _decoded(sys.stdin.buffer, "standard input", may_be_empty=False)
    return _asked() if argument is None else argument


def _decoded(source: BinaryIO, name: str, *, may_be_empty: bool = True) -> str:
    content = source.read(MAX_BYTES + 1)
    if not content and not may_be_empty:
        # More likely the program before the pipe failed than somebody means to set nothing.
        raise UsageRefused(f"{name} is empty; for an empty value give '' as VALUE")
    if len(content) > MAX_BYTES:
        raise UsageRefused(f"{name}: is larger than {MAX_BYTES >> 20} MiB")
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        pass
    # After the handler: the library's exception holds the content.
    raise UsageRefused(f"{name}: is not UTF-8")


def _asked() -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageRefused("no value; give VALUE, - for standard input, or --file FILE")
    return str(click.prompt("Value", hide_input=True, confirmation_prompt="Again", err=True))


def _parsed(text: str) -> Json:
    try:
        return read_strictly(text)
    except UsageRefused as refused:
        raise UsageRefused(
            f"the value cannot be taken as JSON: {refused}; without --json-value it is taken as text"
        ) from None
