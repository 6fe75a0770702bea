"""Owns that the keys of `exec --watch` stay its own: the command it runs is of the same user.

Must not end or start a process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Final

from oscd.client.guarded import is_own

_PR_SET_DUMPABLE: Final = 4


def keep_keys() -> None:
    """Close this process's memory and `/proc/PID/environ` to others of its user (prctl(2)), as far as Linux can.

    To be called when the keys were read and before a command is started; an exec opens what it makes again. That the
    keys leave `os.environ` is for what runs in here: the block the process began with stays where it was.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for name in filter(is_own, [*os.environ]):
        del os.environ[name]


def leave_no_core() -> None:
    """See that the end leaves no memory on disk: there are keys in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
