"""Owns the main function of a worker process, which the supervisor names and the new process runs.

Apart from `worker.py`, so that the supervisor, which serves nothing, neither loads the edge nor waits for it: a node
is ready in half the time. Must not import `worker.py` at the top.
"""

from __future__ import annotations

import logging
import socket
import sys
from functools import partial

from oscd.server.control import run_worker
from oscd.server.logs import configure_logging
from oscd.server.spec import WorkerSpec

LOG_CLOSE_SECONDS = 0.5

_log = logging.getLogger("oscd.worker")


def worker_main(spec: WorkerSpec, index: int, listener: socket.socket, channel: socket.socket) -> None:
    """The main function of a worker process."""
    settings = spec.settings
    sink = configure_logging(
        settings.log_level, settings.log_format, settings.log_file, spec.node_id, settings.log_rotation
    )
    try:
        from oscd.server.worker import serve_node

        run_worker(partial(serve_node, spec, index, listener, sink), channel)
    except Exception as error:
        # Not left to multiprocessing, which prints a traceback with the error's message, whatever that holds.
        _log.critical("the worker failed", exc_info=error)
        sys.exit(1)
    finally:
        sink.close(LOG_CLOSE_SECONDS)
