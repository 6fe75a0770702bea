"""Owns what is wrong between nodes. Remote errors are a family of their own: nothing of ours has failed.

    OscdError
    └── PeerRefused     what a peer sends condemns its stream: it is given up, and begun anew later
    OriginHeld          what a peer sends of one origin is not taken; its other origins go on

A message is a sentence for `/cluster/status`; it repeats nothing that a peer sent but numbers and names of nodes.
"""

from __future__ import annotations

from oscd.errors import OscdError


class PeerRefused(OscdError):
    """A stream that is not what a peer sends."""


class OriginHeld(OscdError):
    """An event that must not be taken, and with it what follows of its origin.

    Attributes:
        passes: Whether time alone may cure it.
    """

    def __init__(self, sentence: str, *, passes: bool = False) -> None:
        super().__init__(sentence)
        self.passes = passes
