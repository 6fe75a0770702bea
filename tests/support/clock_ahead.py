"""`oscd`, in whose processes the clock is `CLOCK_AHEAD_SECONDS` (a variable of the environment) ahead.

A worker is spawned with this file as its main module, so it is patched before it loads anything of a node. Must not
change anything else.
"""

from __future__ import annotations

import os

from oscd import times

_true_now = times.microseconds_now
_AHEAD_MICROSECONDS = int(float(os.environ["CLOCK_AHEAD_SECONDS"]) * 1_000_000)


def _microseconds_now() -> int:
    return _true_now() + _AHEAD_MICROSECONDS


times.microseconds_now = _microseconds_now

if __name__ == "__main__":
    from oscd.cli.main import main

    main()
