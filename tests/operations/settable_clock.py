"""`oscd`, whose clock is at any moment ahead by the seconds in the file CLOCK_FILE, if there is one.

A worker is spawned with this file as its main module, so it is patched before it loads anything of a node. Must not
change anything else.
"""

from __future__ import annotations

import os
from pathlib import Path

from oscd import times

_true_now = times.microseconds_now
_FILE = Path(os.environ["CLOCK_FILE"])


def _microseconds_now() -> int:
    try:
        ahead = float(_FILE.read_text())
    except FileNotFoundError:
        ahead = 0.0
    return _true_now() + int(ahead * 1_000_000)


times.microseconds_now = _microseconds_now

if __name__ == "__main__":
    from oscd.cli.main import main

    main()
