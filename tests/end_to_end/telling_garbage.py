"""`oscd`, whose processes write to GARBAGE_DIRECTORY, as they end, what their collector looks at and what it spares.

A worker is spawned with this file as its main module. Must not change anything.
"""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path

_DIRECTORY = Path(os.environ["GARBAGE_DIRECTORY"])


@atexit.register
def _tell() -> None:
    (_DIRECTORY / str(os.getpid())).write_text(f"{len(gc.get_objects())} {gc.get_freeze_count()}")


if __name__ == "__main__":
    from oscd.cli.main import main

    main()
