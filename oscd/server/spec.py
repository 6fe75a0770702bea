"""Owns what the supervisor tells a worker. Must not import what serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oscd.events.sqlite.file import LogFile
from oscd.feed.bell import Bells
from oscd.server.in_force import InForce
from oscd.server.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the supervisor tells each worker; travels pickled through a pipe, never on a command line.

    Attributes:
        directory: Where settings are read again when keys are rotated.
        node_id: This node's name, with the port it really got.
        run: A random word of this start, by which a node knows itself when it meets itself.
        salt: None in a new cluster, until the steward has kept it.
        runtime: The directory of this run (`runtime.py`).
        bells: One for each worker.
        in_force: By worker, what it leaves to the next one in its place.
    """

    settings: Settings
    directory: Path
    node_id: str
    run: str
    file: LogFile
    salt: bytes | None
    runtime: Path
    bells: Bells
    in_force: tuple[InForce, ...]

    def __repr__(self) -> str:
        """Names the node only: the salt and the settings' secrets have no place in a traceback."""
        return f"WorkerSpec({self.node_id})"
