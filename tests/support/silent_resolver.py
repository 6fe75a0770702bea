"""`oscd`, in whose processes the resolver hangs for names that end with `.hangs.invalid`, as in an outage of DNS.

It says so on standard error. With `WITHOUT_UVLOOP` in the environment there is no uvloop either. A worker is spawned
with this file as its main module, so it is patched before it loads anything of a node. Must not change anything else.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any

if "WITHOUT_UVLOOP" in os.environ:
    sys.modules["uvloop"] = None  # type: ignore[assignment]

_getaddrinfo = socket.getaddrinfo


def _hanging(host: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - as the function that it stands for
    name = host.decode() if isinstance(host, bytes) else host
    if name is not None and name.endswith(".hangs.invalid"):
        print(f"the look-up of {name} hangs", file=sys.stderr, flush=True)
        threading.Event().wait()
    return _getaddrinfo(host, *rest, **named)


socket.getaddrinfo = _hanging

if __name__ == "__main__":
    from oscd.cli.main import main

    main()
