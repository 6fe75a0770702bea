"""From a log record to one line of text.

Owns: the form of times, files and exceptions, and of a line as JSON or for a console. Must not: write
anywhere, raise (a line that cannot be made as asked is made plainer), or let a foreign exception's message
through: whoever raised it may have put a value into it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from oscd.errors import OscdError

Fields = Mapping[str, Any]
Render = Callable[[Fields], bytes]

# What stands first in every line, in this order; `console` writes these without their names.
_HEAD = ("timestamp", "level", "event")
# Bounds on one exception in one line: links of its chain, and frames of each, the innermost.
_MOST_EXCEPTIONS = 8
_MOST_FRAMES = 20

_ROOTS = (f"{Path(__file__).parents[2]}/", "site-packages/", "/lib/python3")


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339, UTC, microseconds, `Z`, of a time since 1970; now when none is given."""
    second, rest = divmod(time.time_ns() if nanoseconds is None else nanoseconds, 1_000_000_000)
    return f"{_to_the_second(second)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1024)
def source_file(path: str) -> str:
    """Shorten a code file's path to what is the same on every machine: `oscd/node.py`, `quart/app.py`."""
    for root in _ROOTS:
        _, found, after = path.rpartition(root)
        if found:
            return after.partition("/")[2] if root == "/lib/python3" else after
    return path.rpartition("/")[2]


def exception_fields(error: BaseException) -> list[dict[str, Any]]:
    """Tell an exception and what led to it: type and frames, and the message only of our own errors."""
    told = []
    for one, _ in zip(_chain(error), range(_MOST_EXCEPTIONS), strict=False):
        link: dict[str, Any] = {"type": f"{type(one).__module__}.{type(one).__qualname__}"}
        if isinstance(one, OscdError):
            link["message"] = str(one)
        link["frames"] = list(_frames(one.__traceback__))[-_MOST_FRAMES:]
        told.append(link)
    return told


def render_json(fields: Fields) -> bytes:
    """One line of JSON, newline included."""
    try:
        return orjson.dumps(
            fields, default=_opaque, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
        )
    except TypeError:
        return _render_odd(fields)


def render_console(fields: Fields) -> bytes:
    """One line for a person, newline included: time, level, event, then `name=value`, values as JSON."""
    when, level, event = (str(fields.get(name, "")) for name in _HEAD)
    # Escaped as JSON escapes, so that no text of a caller can start a line of its own.
    rest = (f"{name}={_json_text(value)}" for name, value in fields.items() if name not in _HEAD)
    return f"{when} {level:<8} {_json_text(event)[1:-1]}  {' '.join(rest)}\n".encode(
        errors="backslashreplace"
    )


RENDERERS: Mapping[str, Render] = {"json": render_json, "console": render_console}
"""By the value of `OSC_LOG_FORMAT`."""


@lru_cache(maxsize=8)
def _to_the_second(second: int) -> str:
    # Cached, because it is most of what a line of the access log costs.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _render_odd(fields: Fields) -> bytes:
    try:
        # Lone surrogates, integers beyond 64 bits: the slow encoder writes both.
        return json.dumps(fields, default=_opaque, skipkeys=True).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        plain = {name: str(fields.get(name, "")) for name in _HEAD}
        return json.dumps(plain | {"unrenderable": True}).encode() + b"\n"


def _json_text(value: object) -> str:
    return render_json({"": value}).decode().partition(":")[2].strip()[:-1]


def _opaque(value: object) -> str:
    # Never `repr`: it shows what an object holds.
    return str(value) if isinstance(value, Path) else f"<{type(value).__name__}>"


def _chain(error: BaseException) -> Iterator[BaseException]:
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            pending.extend(one.exceptions)
        earlier = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if earlier is not None:
            pending.append(earlier)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{source_file(code.co_filename)}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
