"""Owns JSON as people have it: written so that no terminal or line reader stumbles, read without a doubt.

Must not know entries. What a node answers is read elsewhere (`entries.py`): it may hold what no node takes any more.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from oscd.client.errors import UsageRefused

TOO_DEEP: Final = "is nested too deeply"

# JSON has them in strings alone. To a terminal some of the first are orders; some readers end a line at the others.
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
_MOST_DIGITS: Final = 20
"""Of an integer of 64 bits, with its sign. int() takes quadratic time over long runs; no node stores them anyway."""


def json_text(document: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:  # noqa: ANN401 - any JSON
    """JSON on one line, or on several."""
    text = json.dumps(document, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, from an entry taken over from OpenSecureConf
        text = json.dumps(document, indent=indent, sort_keys=sort_keys)
    return text.translate(_ESCAPED)


def read_strictly(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Read JSON that a person or a program wrote. Where it says something twice, nobody is asked which one counts.

    Raises:
        UsageRefused: It is none, holds NaN, Infinity or a name twice in one object, has an integer far beyond 64
            bits or too many levels. Says where, and repeats nothing.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        refused = f"line {error.lineno}, column {error.colno}: {error.msg}; accepted is JSON"
    except RecursionError:
        refused = TOO_DEEP
    # After the handlers: the library's exception holds the text.
    raise UsageRefused(refused)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise UsageRefused("a name comes twice in one object")
    return made


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise UsageRefused("an integer is beyond 64 bits; write it as a string")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise UsageRefused(f"{name} is not JSON")
