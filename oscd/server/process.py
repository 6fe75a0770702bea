"""What an oscd process does to itself: file modes, core dumps, open files, memory.

Owns: umask, resource limits, the settings of the allocator and of the garbage collector. Must not: know what the
process is for, or change them back later.

The process stays *dumpable*. `PR_SET_DUMPABLE 0` would keep its memory from other processes of the same
user too, but it hands `/proc/<pid>` to root, so that its operator can no longer trace or profile it, nor
read its `/proc/<pid>/fd`; who runs as this user can read the salt file and the settings anyway. What must
not happen is that memory with user keys in it lands on disk: that is `RLIMIT_CORE`.
"""

from __future__ import annotations

import gc
import os
import resource
from contextlib import suppress
from typing import Final

PRIVATE_UMASK: Final = 0o077
"""Files are made for their owner alone: database, salt, logs."""

OPEN_FILES: Final = 65_536
"""Enough for the most connections a node takes (20 000) with room; more only makes loops over descriptors
slow."""


RETURNED_BYTES: Final = 128 * 1024
"""Blocks of memory from this size on go back to the system as soon as they are free.

It is glibc's own default (mallopt(3), M_MMAP_THRESHOLD), but unless it is set glibc raises it up to 32 MB with the
first large block it frees. Large values then stay in its heaps as holes: after a hundred writes of 900 kB a worker
was measured at 120 to 250 MB, and at 50 to 80 MB with the threshold fixed.
"""


def harden_process() -> None:
    """Make new files private, forbid core dumps and raise the number of open files to what the system allows.

    Children inherit all three, and start with an allocator that gives memory back.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(RETURNED_BYTES))
    os.umask(PRIVATE_UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _raise_open_files()


def exempt_from_collection() -> None:
    """Leave what the process has made so far, modules above all, out of all garbage collections to come.

    A full one looked at it for 25 to 60 ms each time, in which a worker served nobody: it was the one long stall of
    writes to a node that ships its log. What is garbage by now is collected first, as it would stay.
    """
    gc.collect()
    gc.freeze()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some sandboxes forbid it; the service then runs with what it has.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
