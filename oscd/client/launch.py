"""Owns the last steps before a command of `oscd exec --watch` runs, in the process that becomes it.

Run as a script: `python -I -S launch.py PARENT COMMAND ARGUMENT…`. Between fork and exec a process that has threads
may run almost nothing, so this is done after an exec of its own. Must not import oscd, or write but one line.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

NOT_FOUND: Final = 127
NOT_RUNNABLE: Final = 126
"""What a shell ends with for a command it cannot find or run (POSIX, XCU 2.8.2)."""

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL (prctl(2)); Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def become(command: list[str], environment: dict[bytes, bytes] | None = None) -> int:
    """Turn this process into a command; comes back only with the exit status for one that cannot be run.

    Args:
        environment: None for the one this process has.
    """
    restore_signals()
    try:
        if environment is None:
            os.execvp(command[0], command)  # noqa: S606 - it is what this is for
        else:
            os.execvpe(command[0], command, environment)  # noqa: S606 - as above
    except (FileNotFoundError, NotADirectoryError):
        return _tell(command[0], "command not found", NOT_FOUND)
    except (OSError, ValueError) as error:
        return _tell(command[0], getattr(error, "strerror", None) or "cannot be run", NOT_RUNNABLE)


def restore_signals() -> None:
    """Undo what Python does to signals that a command would inherit, then let pass what was held back."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _tell(name: str, what: str, status: int) -> int:
    os.write(2, f"oscd: {name}: {what}\n".encode(errors="replace"))
    return status


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    sys.exit(become(sys.argv[2:]))
