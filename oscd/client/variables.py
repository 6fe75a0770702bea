"""Owns entries as variables: what each is called and what it says, for `.env` files and for a command's environment.

Must not read or write either. Every refusal names the entry and what to do about it, and repeats no value.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from oscd.client.errors import UsageRefused
from oscd.client.guarded import is_own, why_guarded
from oscd.client.json_text import read_strictly

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What POSIX calls a name (XBD 3.216): what a shell can set."""

_SEPARATORS: Final = "/-. "
_WRITTEN: Final = str.maketrans(
    string.ascii_lowercase + _SEPARATORS, string.ascii_uppercase + "_" * len(_SEPARATORS)
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One entry as a variable."""

    name: str
    text: str = field(repr=False)
    key: str


@dataclass(frozen=True, slots=True)
class Naming:
    """How entries get their names.

    Attributes:
        prefix: What every key begins with; left out of the names.
        allowed: Guarded names that may be set.
    """

    prefix: str = ""
    allowed: Collection[str] = ()

    def name_of(self, key: str) -> str:
        """What the entry is called: `database/password` → `DATABASE_PASSWORD`.

        Raises:
            UsageRefused: That gives no name a shell can set, one of oscd's own, or one that is guarded.
        """
        name = self.spelt(key)
        if name is None:
            raise UsageRefused(
                f"{key!r} gives no name of a variable: after the prefix, accepted are A-Z a-z 0-9 _ / - . and blank, "
                "no digit first; narrow the selection with --prefix or --category"
            )
        if is_own(name):
            raise UsageRefused(f"{key!r} would set {name}: no entry may set a variable of oscd itself")
        what = why_guarded(name)
        if what is not None and name not in self.allowed:
            raise UsageRefused(
                f"{key!r} would set {name}, which decides {what}; if that is meant, say --allow {name}"
            )
        return name

    def spelt(self, key: str) -> str | None:
        """The name alone, whatever it may do; None where a shell could not set it."""
        # Only ASCII is translated: `str.upper` would make two letters of one, or other letters.
        name = key.removeprefix(self.prefix).lstrip("/").translate(_WRITTEN)
        return name if NAME.fullmatch(name) else None


def text_of(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """What a variable says: a string as it is, anything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def value_of(text: str, before: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    """The value of an entry whose variable now says `text`, where it had the value `before`.

    A string stays one. Where the entry held another kind of value, what reads as one is one.
    """
    if isinstance(before, str):
        return text
    try:
        read = read_strictly(text)
    except UsageRefused:
        return text
    return text if isinstance(read, str) else read


def variables(entries: Iterable[tuple[str, Any]], naming: Naming) -> list[Variable]:
    """The variables of entries given as key and value, in the same order.

    Raises:
        UsageRefused: As `Naming.name_of`; two entries have one name, or a value holds NUL.
    """
    made: dict[str, Variable] = {}
    for key, value in entries:
        name, text = naming.name_of(key), text_of(value)
        if name in made:
            raise UsageRefused(f"{made[name].key!r} and {key!r} would both be {name}")
        if "\0" in text or not _is_whole(text):
            raise UsageRefused(
                f"{key!r} holds a NUL character or half a surrogate pair, which no variable can"
            )
        made[name] = Variable(name, text, key)
    return list(made.values())


def _is_whole(text: str) -> bool:
    """Whether it can be written as UTF-8; what was taken over from OpenSecureConf may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
