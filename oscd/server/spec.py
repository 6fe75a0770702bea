"""Owns what the supervisor hands to a worker process, and that process's main function.

Apart from `worker.py`, so that the supervisor, which serves nothing, neither loads the edge nor waits for it: a node
is ready in half the time. Must not import `worker.py` at the top.
"""

from __future__ import annotations

import logging
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from oscd.events.event import Origin
from oscd.events.sqlite.file import LogFile
from oscd.server.control import run_worker
from oscd.server.logs import configure_logging
from oscd.server.settings import Settings

LOG_CLOSE_SECONDS = 0.5

_log = logging.getLogger("oscd.worker")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the supervisor tells each worker; travels pickled through a pipe, never on a command line.

    Attributes:
        directory: Where settings are read again when keys are rotated.
        node_id: This node's name, with the port it really got.
    """

    settings: Settings
    directory: Path
    node_id: str
    file: LogFile
    origin: Origin
    salt: bytes

    def __repr__(self) -> str:
        """Names the node only: the salt and the settings' secrets have no place in a traceback."""
        return f"WorkerSpec({self.node_id})"


def worker_main(spec: WorkerSpec, listener: socket.socket, channel: socket.socket) -> None:
    """The main function of a worker process."""
    settings = spec.settings
    sink = configure_logging(settings.log_level, settings.log_format, settings.log_file, spec.node_id)
    try:
        from oscd.server.worker import serve_node

        run_worker(partial(serve_node, spec, listener, sink), channel)
    except Exception as error:
        # Not left to multiprocessing, which prints a traceback with the error's message, whatever that holds.
        _log.critical("the worker failed", exc_info=error)
        sys.exit(1)
    finally:
        sink.close(LOG_CLOSE_SECONDS)
