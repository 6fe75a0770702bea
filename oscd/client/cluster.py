"""What a node tells of its cluster, as facts: JSON in, a trusted object or a refusal out.

Owns: which members of those answers are relied on. Must not do I/O, nor judge whether a cluster is well enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from oscd.client.entries import Json, as_list, as_text, member, optional
from oscd.client.errors import AnswerUnreadable


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as the asked one sees it.

    Attributes:
        node_id: Its name; until it was met, what the operator named it.
        address: As the operator named it.
        state: Of the link to it.
        last_seen: RFC 3339; None where it was never seen.
        lag_events, lag_seconds: What it has that the asked node has not, and for how long that is so.
        skew_seconds: Its clock minus that of the asked node.
        has_diverged: Whether it holds the same events as the asked node and is in another state.
    """

    node_id: str
    address: str
    state: str
    is_healthy: bool
    last_seen: str | None
    lag_events: int | None
    lag_seconds: float | None
    skew_seconds: float | None
    has_diverged: bool
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Events that the asked node does not take: those of one origin from a number on.

    Attributes:
        node_id: Who wrote them.
        peer: Who offered them, as the operator named it.
    """

    node_id: str
    incarnation: str
    seq: int
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """The cluster, as the asked node sees it.

    Attributes:
        node_id: The asked node; None where clustering is off.
        not_ready: What it waits for before it is ready.
    """

    enabled: bool
    node_id: str | None
    total_nodes: int | None
    healthy_nodes: int | None
    peers: tuple[Peer, ...]
    quarantined: tuple[Quarantined, ...]
    not_ready: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether every node is healthy and none has diverged, the asked one is ready, and nothing quarantined."""
        are_well = all(peer.is_healthy and not peer.has_diverged for peer in self.peers)
        return are_well and not self.quarantined and not self.not_ready


@dataclass(frozen=True, slots=True)
class Distribution:
    """What the nodes hold.

    Attributes:
        node_id: The asked node.
        is_synced: Whether all nodes are in one state.
        entries: By node id, the number of live entries there, where it is known.
    """

    node_id: str
    is_synced: bool
    entries: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Write:
    """One of two writes that met.

    Attributes:
        type: `created`, `updated` or `deleted`.
        position: What a rollback takes to bring it back.
    """

    node_id: str
    timestamp: str
    type: str
    version: int
    position: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two writes of one entry, of which neither knew of the other.

    Attributes:
        foreign_key: Whether two user keys met.
    """

    key: str
    environment: str
    foreign_key: bool
    winner: Write
    loser: Write


def status_of(document: Json) -> Status:
    """What `GET /cluster/status` answers.

    Raises:
        AnswerUnreadable: A member is missing or of another type.
    """
    return Status(
        enabled=member(document, "enabled", bool),
        node_id=optional(document, "node_id", str),
        total_nodes=optional(document, "total_nodes", int),
        healthy_nodes=optional(document, "healthy_nodes", int),
        peers=tuple(map(_peer, member(document, "nodes", list))),
        quarantined=tuple(map(_quarantined, member(document, "quarantined", list))),
        not_ready=tuple(map(as_text, member(document, "not_ready", list))),
    )


def distribution_of(document: Json) -> Distribution:
    """What `GET /cluster/distribution` answers.

    Raises:
        AnswerUnreadable: A member is missing or of another type, or no node is the asked one.
    """
    shares = member(document, "nodes_distribution", list)
    local = [member(share, "node_id", str) for share in shares if member(share, "is_local", bool)]
    if len(local) != 1:
        raise AnswerUnreadable("the answer does not say which node gave it")
    return Distribution(
        node_id=local[0],
        is_synced=member(document, "all_nodes_synced", bool),
        entries={member(share, "node_id", str): optional(share, "keys_count", int) for share in shares},
    )


def conflicts_of(document: Json) -> list[Conflict]:
    """What `GET /cluster/conflicts` answers, the newest first.

    Raises:
        AnswerUnreadable: A member is missing or of another type.
    """
    return [
        Conflict(
            key=member(one, "key", str),
            environment=member(one, "environment", str),
            foreign_key=member(one, "foreign_key", bool),
            winner=_write(member(one, "winner", dict)),
            loser=_write(member(one, "loser", dict)),
        )
        for one in as_list(member(document, "conflicts", list))
    ]


def _peer(document: Json) -> Peer:
    return Peer(
        node_id=member(document, "node_id", str),
        address=member(document, "peer", str),
        state=member(document, "state", str),
        is_healthy=member(document, "is_healthy", bool),
        last_seen=optional(document, "last_seen", str),
        lag_events=optional(document, "lag_events", int),
        lag_seconds=_seconds(document, "lag_seconds"),
        skew_seconds=_seconds(document, "skew_seconds"),
        has_diverged=optional(document, "has_diverged", bool) or False,
        last_error=optional(document, "last_error", str),
    )


def _quarantined(document: Json) -> Quarantined:
    return Quarantined(
        node_id=member(document, "node_id", str),
        incarnation=member(document, "incarnation", str),
        seq=member(document, "seq", int),
        peer=member(document, "peer", str),
        reason=member(document, "reason", str),
    )


def _write(document: Json) -> Write:
    return Write(
        node_id=member(document, "node_id", str),
        timestamp=member(document, "timestamp", str),
        type=member(document, "type", str),
        version=member(document, "version", int),
        position=member(document, "position", str),
    )


def _seconds(document: Json, name: str) -> float | None:
    """A number, which JSON may write without a point."""
    found = optional(document, name, object)
    if found is None:
        return None
    return float(found) if isinstance(found, int) else member(document, name, float)
