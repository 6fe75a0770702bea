"""Owns what a link asks with: where this log stands, who this node is, and how both are written into a request.

Must not reach the peer, nor know what is done with its answer.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from oscd.events.log import Reading
from oscd.events.standing import Standing
from oscd.replication.ship import Identity, Pull


@dataclass(frozen=True, slots=True)
class Opening:
    """All of it as of one view of the log.

    Attributes:
        incarnation: Of the origin that this log appends to.
        runs: Of peers, by node id, as they were noted then.
        is_empty: Whether the log had no event.
    """

    pull: Pull
    incarnation: str
    runs: dict[str, str]
    is_empty: bool


def opening(reading: Reading[sqlite3.Connection], identity: Identity) -> Opening:
    """What a link asks with now."""
    own = reading.own()
    asks = own.standing is not Standing.CONTINUES
    pull = Pull(
        after=reading.position(),
        node_id=identity.node_id,
        run=identity.run,
        salt=identity.salt,
        skip=None if asks else own.origin.incarnation,
        asks=asks,
    )
    return Opening(pull, own.origin.incarnation, dict(reading.runs()), reading.head() == 0)


def query_of(pull: Pull) -> dict[str, str]:
    """The query of a request."""
    query = {
        "after": pull.after.encode(),
        "node": pull.node_id,
        "run": pull.run,
        "salt": pull.salt,
        "asks": str(int(pull.asks)),
    }
    return query if pull.skip is None else query | {"skip": pull.skip}
