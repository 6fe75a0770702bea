"""Owns the environment of a command that `oscd exec` runs: what it inherits, what entries add, what is too much.

Pure. Must not start anything. Names and values are bytes here, as the kernel has them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from oscd.client.errors import UsageRefused
from oscd.client.guarded import is_own
from oscd.client.variables import Variable

KEPT_WHEN_CLEAN: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_*", "TZ", "TMPDIR")
"""Patterns of what a command inherits even so."""

LONGEST_STRING: Final = 32 * os.sysconf("SC_PAGE_SIZE")
"""Bytes of one variable, name, `=` and final NUL included: Linux's MAX_ARG_STRLEN (execve(2))."""

MOST_BYTES: Final = os.sysconf("SC_ARG_MAX")
_POINTER_BYTES: Final = 8

Environment = dict[bytes, bytes]


def environment_of(
    inherited: Mapping[bytes, bytes], variables: Iterable[Variable], *, clean: bool
) -> Environment:
    """What a command gets: what is inherited without any `OSC_*`, which may be a key, and the entries over it.

    Args:
        clean: Whether only `KEPT_WHEN_CLEAN` is inherited.

    Raises:
        UsageRefused: An entry is larger than a variable can be.
    """
    environment = {name: text for name, text in inherited.items() if _is_handed_on(name, clean=clean)}
    for variable in variables:
        name, text = variable.name.encode(), variable.text.encode()
        size = len(name) + len(text) + 2
        if sys.platform == "linux" and size > LONGEST_STRING:
            raise UsageRefused(
                f"{variable.key!r} makes a variable of {size} bytes; this system takes at most {LONGEST_STRING}"
            )
        environment[name] = text
    return environment


def require_room(environment: Environment, arguments: Sequence[str]) -> None:
    """See that a command can be started with this environment.

    Raises:
        UsageRefused: Together with its arguments it is more than the system takes (E2BIG).
    """
    strings = [len(name) + len(text) + 1 for name, text in environment.items()]
    strings += [len(os.fsencode(argument)) for argument in arguments]
    size = sum(strings) + len(strings) * (1 + _POINTER_BYTES)
    if size > MOST_BYTES:
        raise UsageRefused(
            f"the command's environment and arguments have {size} bytes; this system takes at most {MOST_BYTES}: "
            "narrow the selection with --prefix or --category"
        )


def _is_handed_on(name: bytes, *, clean: bool) -> bool:
    text = os.fsdecode(name)
    if is_own(text):
        return False
    return not clean or any(fnmatchcase(text, pattern) for pattern in KEPT_WHEN_CLEAN)
