"""`oscd`, whose processes go on writing to GARBAGE_DIRECTORY what their collector looks at and what it spares.

A worker is spawned with this file as its main module. Must not change anything.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

_DIRECTORY = Path(os.environ["GARBAGE_DIRECTORY"])
_PAUSE = 0.1


def _tell() -> None:
    told = _DIRECTORY / str(os.getpid())
    draft = told.with_suffix(".draft")
    while True:
        draft.write_text(f"{len(gc.get_objects())} {gc.get_freeze_count()}")
        draft.replace(told)
        time.sleep(_PAUSE)


threading.Thread(target=_tell, daemon=True).start()

if __name__ == "__main__":
    from oscd.cli.main import main

    main()
