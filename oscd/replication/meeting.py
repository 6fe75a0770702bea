"""Owns whom a node takes for a peer: another node of its cluster, and no other. Pure.

Where two will not have each other, both say the same, and what a person can do about it.
"""

from __future__ import annotations

from oscd.replication.ship import Identity
from oscd.replication.trouble import PeerTrouble
from oscd.replication.wire import PeerStatus


def refuse_stranger(identity: Identity, status: PeerStatus, *, we_are_empty: bool) -> None:
    """Make sure that a node which has shown the cluster key belongs to this cluster.

    Args:
        identity: This node's.
        status: The first one of the other.
        we_are_empty: Whether this log holds no event.

    Raises:
        PeerTrouble: It does not, and will not until somebody does something.
    """
    if status.node_id == identity.node_id:
        raise PeerTrouble(
            f"it is called {identity.node_id} too; give one of the two another OSC_CLUSTER_NODE_ID",
            lasts=True,
        )
    if status.salt and status.salt != identity.salt:
        raise PeerTrouble(
            f"it has another salt; {_salt_advice(we_are_empty=we_are_empty, it_is_empty=status.head == 0)}",
            lasts=True,
        )


def _salt_advice(*, we_are_empty: bool, it_is_empty: bool) -> str:
    if we_are_empty:
        return "this log is empty: stop this node, remove its salt file and start it again, to take the cluster's"
    if it_is_empty:
        return "its log is empty: stop that node, remove its salt file and start it again, to take this cluster's"
    return (
        "both have entries: keep one node's, back up the other's with their user keys, and import them into the first"
        " once the other was started anew without log and salt"
    )
