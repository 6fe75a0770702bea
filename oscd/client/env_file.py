"""Owns `.env` files: variables to text that a shell may source and a parser may read, and such text to variables.

Whatever a value holds, sourcing the text runs nothing and sets exactly the named variables. Of the ways of quoting
that are equal to a shell, the one is taken that python-dotenv reads alike; where there is none, the text is one that
python-dotenv refuses to read, not one that it would misread. Must not choose names, or touch a file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import Final

from dotenv.parser import Binding, parse_stream

from oscd.client.errors import UsageRefused
from oscd.client.variables import NAME, Variable

_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
"""What means itself everywhere, and is all that parsers without quotes (`docker run --env-file`) can read.

Not `=`: at the beginning and after a colon zsh takes the word behind it for a command, and puts its path there.
"""

# In these a shell expands, or an interactive one recalls history. Only ASCII is double-quoted: a shell in a locale
# such as Shift JIS takes a backslash after a byte of a UTF-8 character for that character's second half.
_NOT_DOUBLE: Final = re.compile(r"[$`!]|[^\x00-\x7f]")
# python-dotenv takes a backslash before either of these as an escape, a shell does not.
_NOT_SINGLE: Final = re.compile(r"'|\\\\|\\\Z")
_ONLY_SHELL: Final = re.compile(rf"""({NAME.pattern})=""((?:'[^']*'|\\')+)(?:\r?\n|\Z)""")
"""Begins with an empty string that something follows: other parsers stop at that."""


def quoted(text: str) -> str:
    """A word that a shell reads as exactly this text, without running anything."""
    if _BARE.fullmatch(text):
        return text
    if not _NOT_SINGLE.search(text):
        return f"'{text}'"
    if not _NOT_DOUBLE.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '""\'' + text.replace("'", r"'\''") + "'"


def written(variables: Iterable[Variable]) -> str:
    """The file, a line or more for each variable."""
    return "".join(f"{variable.name}={quoted(variable.text)}\n" for variable in variables)


def only_for_shells(variables: Iterable[Variable]) -> list[Variable]:
    """Those that other parsers of `.env` files cannot read."""
    return [variable for variable in variables if quoted(variable.text).startswith('""')]


def parsed(content: str) -> dict[str, str]:
    """The variables of a file, its own or one that a person wrote as python-dotenv reads it. Nothing is expanded.

    Raises:
        UsageRefused: A line is none of the format, or a name comes twice. Says which.
    """
    found: dict[str, str] = {}
    for name, text, line in _bindings(content.removeprefix("\ufeff")):
        if not NAME.fullmatch(name):
            raise UsageRefused(f"line {line}: accepted as a name is [A-Za-z_][A-Za-z0-9_]*")
        if name in found:
            raise UsageRefused(f"line {line}: {name} is set twice")
        found[name] = text
    return found


def _bindings(content: str) -> Iterator[tuple[str, str, int]]:
    at = 0
    line = 1
    while at < len(content):
        own = _ONLY_SHELL.match(content, at)
        if own is not None:
            yield own[1], _shell_text(own[2]), line
            line += content.count("\n", at, own.end())
            at = own.end()
            continue
        for binding in parse_stream(io.StringIO(content[at:])):
            end = at + len(binding.original.string)
            if binding.error and not content[at:end].isspace():
                lead = len(content[at:end]) - len(content[at:end].lstrip())
                raise UsageRefused(
                    f"line {line + content.count(chr(10), at, at + lead)}: accepted is NAME=value"
                )
            if binding.key is not None:
                yield binding.key, _text_of(binding, line), line
            line += content.count("\n", at, end)
            at = end
            if _ONLY_SHELL.match(content, at):
                break


def _text_of(binding: Binding, line: int) -> str:
    if binding.value is None:
        raise UsageRefused(f"line {line}: accepted is NAME=value")
    return binding.value


def _shell_text(pieces: str) -> str:
    return "".join(
        piece[1:-1] if piece.startswith("'") else "'" for piece in re.findall(r"'[^']*'|\\'", pieces)
    )
