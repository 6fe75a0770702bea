"""What the calls on the cluster take and answer (contract §8); see `models.py`.

Owns: their fields and rules. Must not: what `models.py` must not.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from oscd.api.history_models import PositionText
from oscd.api.models import Category, Count, Environment, Key, RequestModel, Time, number_if_decimal
from oscd.events.event import is_node_id

MOST_CONFLICTS = 1000

PeerName = Annotated[str, Field(description="As the operator named it", examples=["node2.example:9000"])]


def _hexadecimal(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]*", text):
        raise ValueError("hexadecimal digits")
    return text.lower()


def _plain(text: str) -> str:
    if not is_node_id(text):
        raise ValueError("1 to 64 letters, digits and . _ : -")
    return text


def _truth(text: object) -> object:
    return (
        {"1": True, "0": False, "true": True, "false": False}.get(text, text)
        if isinstance(text, str)
        else text
    )


_Word = Annotated[str, AfterValidator(_plain)]


class PullQuery(RequestModel):
    """Query of `GET /cluster/events`: who asks, and from where on."""

    after: Annotated[
        PositionText | None, Field(description="Where its log stands; an empty one stands nowhere")
    ] = None
    node: Annotated[_Word, Field(description="Its name", examples=["node2"])]
    run: Annotated[_Word, Field(description="A random word that it made when it was started")]
    salt: Annotated[
        Annotated[str, Field(min_length=64, max_length=64), AfterValidator(_hexadecimal)] | None,
        Field(description="SHA-256 of its salt, where it has one"),
    ] = None
    skip: Annotated[
        Annotated[str, Field(min_length=16, max_length=16), AfterValidator(_hexadecimal)] | None,
        Field(description="Its own incarnation, whose events it needs not"),
    ] = None
    asks: Annotated[
        bool, BeforeValidator(_truth), Field(description="Whether it asks where its own log had ended")
    ] = False


class MetadataQuery(RequestModel):
    """Query of `GET /cluster/configs`; what is absent matches everything."""

    category: Category | None = None
    environment: Environment | None = None


class ConflictsQuery(RequestModel):
    """Query of `GET /cluster/conflicts`."""

    limit: Annotated[
        int,
        BeforeValidator(number_if_decimal),
        Field(ge=1, le=MOST_CONFLICTS, description="How many, of the newest"),
    ] = 100


class ClusterHealth(BaseModel):
    """The process serves."""

    status: Literal["healthy"]
    node_id: str


class PeerStatus(BaseModel):
    """Another node, as this one sees it."""

    node_id: Annotated[str, Field(description="Its name; until it was met, what the operator named it")]
    peer: PeerName
    state: Annotated[
        str, Field(description="Of the link to it", examples=["live", "catching_up", "backing_off"])
    ]
    is_healthy: bool
    last_seen: Time | None
    lag_events: Annotated[Count | None, Field(description="Events it has that this node has not yet")]
    lag_seconds: float | None
    skew_seconds: Annotated[float | None, Field(description="Its clock minus this node's")]
    has_diverged: Annotated[
        bool,
        Field(description="Whether it holds the same events as this node and is in another state: a fault"),
    ]
    last_error: str | None


class QuarantinedOrigin(BaseModel):
    """Events that are not taken from a peer, and why."""

    node_id: Annotated[str, Field(description="Who wrote them")]
    incarnation: str
    seq: Annotated[int, Field(ge=1, description="From this one of its events on")]
    peer: PeerName
    reason: str


class ClusterStatus(BaseModel):
    """The cluster, as this node sees it; counts include this node, `nodes` lists the others."""

    enabled: bool
    mode: Literal["replica"] | None
    node_id: str | None
    total_nodes: Count | None
    healthy_nodes: Count | None
    nodes: list[PeerStatus]
    quarantined: list[QuarantinedOrigin]
    not_ready: Annotated[list[str], Field(description="What this node waits for before it is ready")]


class NodeShare(BaseModel):
    """What one node holds."""

    node_id: str
    is_local: bool
    is_healthy: bool
    keys_count: Annotated[Count | None, Field(description="Live entries; null until it was met")]


class Distribution(BaseModel):
    """What the nodes hold, and whether that is the same."""

    cluster_mode: Literal["replica", "standalone"]
    is_replica: bool
    all_nodes_synced: Annotated[bool, Field(description="Whether all have one state, by its digest")]
    nodes_distribution: list[NodeShare]


class EntryMetadata(BaseModel):
    """An entry, whoever owns it, without its value."""

    id: Annotated[int, Field(ge=1)]
    key: Key
    category: Category | None
    environment: Environment
    created_at: Time
    updated_at: Time
    version: Annotated[int, Field(ge=1)]


class ConflictingWrite(BaseModel):
    """One of two writes that met."""

    node_id: str
    timestamp: Time
    type: str
    version: Annotated[int, Field(ge=1)]
    position: Annotated[PositionText, Field(description="What `POST /rollback` takes to bring it back")]


class ConflictMet(BaseModel):
    """Two writes of one entry, of which neither knew of the other."""

    key: Key
    environment: Environment
    foreign_key: Annotated[bool, Field(description="Whether two user keys met")]
    winner: ConflictingWrite
    loser: ConflictingWrite


class ConflictsAnswer(BaseModel):
    """The newest conflicts that this node has met, the newest first."""

    conflicts: list[ConflictMet]
    total: Annotated[Count, Field(description="All that it has ever met")]


class SaltCompared(BaseModel):
    """The salt that was sent is this node's."""

    status: Literal["ok"]
    message: str
