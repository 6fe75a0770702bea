"""Owns the calls on the cluster (contract §8): for people what this node knows of the others, for nodes salt and log.

Must not know how nodes reach each other, nor let a key that is not the cluster's near salt or log, whatever the guard
thought of the path.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import orjson
from quart import Response

from oscd.api.answers import NO_STORE, json_answer, json_stream
from oscd.api.call import Call, Handler
from oscd.api.cluster_models import (
    ClusterHealth,
    ClusterStatus,
    Distribution,
    EntryMetadata,
    MetadataQuery,
    NodeShare,
    PeerStatus,
    QuarantinedOrigin,
    SaltCompared,
)
from oscd.api.guard import SALT_PATH
from oscd.api.openapi import Answer, Operation
from oscd.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    Forbidden,
    Invalid,
    NotAPeer,
    NotFound,
    Unavailable,
)
from oscd.events.cipher import SALT_BYTES
from oscd.listing import Filters
from oscd.node import Node
from oscd.projections.entry import Entry
from oscd.replication.members import Members, healthy_nodes, is_synced, total_nodes
from oscd.replication.report import ClusterReport, PeerReport
from oscd.times import rfc3339

MODE: Final = "replica"
# Entries in one part of a list of metadata.
PART_ENTRIES = 200
OCTETS = "application/octet-stream"

_HEADERS = ("X-Request-ID",)
STATUS = Operation(
    "GET",
    "/cluster/status",
    "The nodes of the cluster, as this one sees them",
    {200: Answer("The nodes; nulls and no nodes where clustering is off", ClusterStatus, _HEADERS)},
    refusals=(Forbidden,),
    api_key=True,
)
HEALTH = Operation(
    "GET",
    "/cluster/health",
    "Whether the process serves, and which node it is",
    {200: Answer("It does", ClusterHealth, _HEADERS)},
)
DISTRIBUTION = Operation(
    "GET",
    "/cluster/distribution",
    "What each node holds, and whether that is the same",
    {200: Answer("The nodes", Distribution, _HEADERS)},
    refusals=(Forbidden, Unavailable),
    api_key=True,
)
METADATA = Operation(
    "GET",
    "/cluster/configs",
    "All entries, whoever can open them, by environment and key; never a value",
    {200: Answer("The entries", EntryMetadata, _HEADERS, many=True)},
    query=MetadataQuery,
    headers=("X-OSC-After", "X-Request-ID"),
    refusals=(Forbidden, Invalid, Unavailable),
    api_key=True,
)
SALT = Operation(
    "GET",
    SALT_PATH,
    "The salt of the cluster, for its nodes",
    {
        200: Answer("The salt", None, _HEADERS, media_type=OCTETS),
        204: Answer("This node has none yet", None, _HEADERS),
    },
    refusals=(BadRequest, NotAPeer, NotFound),
    cluster_key=True,
)
COMPARE_SALT = Operation(
    "POST",
    SALT_PATH,
    "Whether a salt is that of this node; never changes it",
    {200: Answer("It is", SaltCompared, _HEADERS)},
    refusals=(BadRequest, NotAPeer, NotFound, BodyTooLarge, Conflict),
    takes_bytes=True,
    cluster_key=True,
)


@dataclass(frozen=True, slots=True)
class Membership:
    """This node in its cluster, or alone.

    Attributes:
        node_id: Its name.
        members: What it knows of the others; None where clustering is off.
        salt: Gives the salt that it serves with; raises Unavailable while it has none.
    """

    node_id: str
    members: Members | None
    salt: Callable[[], bytes]

    def known_salt(self) -> bytes | None:
        """The salt; None while there is none."""
        try:
            return self.salt()
        except Unavailable:
            return None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The handlers, over what one worker knows."""

    node: Node
    membership: Membership

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [
            (STATUS, self.status),
            (HEALTH, self.health),
            (DISTRIBUTION, self.distribution),
            (METADATA, self.metadata),
            (SALT, self.salt),
            (COMPARE_SALT, self.compare_salt),
        ]

    async def status(self, _call: Call) -> Response:
        """`GET /cluster/status`."""
        members = self.membership.members
        status = _OFF if members is None else _status(self.membership.node_id, await members.report())
        return json_answer(orjson.dumps(status.model_dump()), store=False)

    async def health(self, _call: Call) -> Response:
        """`GET /cluster/health`."""
        health = ClusterHealth(status="healthy", node_id=self.membership.node_id)
        return json_answer(orjson.dumps(health.model_dump()), store=False)

    async def distribution(self, _call: Call) -> Response:
        """`GET /cluster/distribution`."""
        members = self.membership.members
        report = None if members is None else await members.report()
        entries = (await self.node.extent()).entries
        peers = () if report is None else report.peers
        distribution = Distribution(
            cluster_mode="standalone" if report is None else MODE,
            is_replica=report is not None,
            all_nodes_synced=report is None or is_synced(report),
            nodes_distribution=[
                NodeShare(
                    node_id=self.membership.node_id, is_local=True, is_healthy=True, keys_count=entries
                ),
                *map(_share, peers),
            ],
        )
        return json_answer(orjson.dumps(distribution.model_dump()), store=False)

    async def metadata(self, call: Call) -> Response:
        """`GET /cluster/configs`."""
        query = call.query_as(MetadataQuery)
        if call.after is not None:
            await self.node.wait_for(call.after)
        pages = self.node.inventory(Filters(query.environment, query.category)).pages(PART_ENTRIES)
        # The first page is read before the status goes out, so that a refusal is still one.
        first = await anext(pages)
        return json_stream(_parts(first, pages), call.method, dict([NO_STORE]))

    async def salt(self, call: Call) -> Response:
        """`GET /cluster/salt`."""
        _require_peer(call)
        salt = self.membership.known_salt()
        if salt is not None:
            return Response(salt, content_type=OCTETS, headers=dict([NO_STORE]))
        none = Response(b"", 204, headers=dict([NO_STORE]))
        for name in ("Content-Type", "Content-Length"):
            none.headers.pop(name, None)
        return none

    async def compare_salt(self, call: Call) -> Response:
        """`POST /cluster/salt`."""
        _require_peer(call)
        if len(call.octets) != SALT_BYTES:
            raise BadRequest(f"A salt is exactly {SALT_BYTES} bytes; send them as they are.")
        salt = self.membership.known_salt()
        if salt is None:
            raise Conflict("This node has no salt yet; it takes one from its configured peers only.")
        if not hmac.compare_digest(call.octets, salt):
            raise Conflict("This node has another salt, and keeps it.")
        compared = SaltCompared(status="ok", message="This node has the same salt.")
        return json_answer(orjson.dumps(compared.model_dump()), store=False)


_OFF = ClusterStatus(
    enabled=False,
    mode=None,
    node_id=None,
    total_nodes=None,
    healthy_nodes=None,
    nodes=[],
    quarantined=[],
    not_ready=[],
)


def _status(node_id: str, report: ClusterReport) -> ClusterStatus:
    return ClusterStatus(
        enabled=True,
        mode=MODE,
        node_id=node_id,
        total_nodes=total_nodes(report),
        healthy_nodes=healthy_nodes(report),
        nodes=list(map(_peer, report.peers)),
        quarantined=[
            QuarantinedOrigin(
                node_id=one.node_id,
                incarnation=one.incarnation,
                seq=one.seq,
                peer=one.peer,
                reason=one.reason,
            )
            for one in report.quarantined
        ],
        not_ready=list(report.not_ready),
    )


def _peer(peer: PeerReport) -> PeerStatus:
    return PeerStatus(
        node_id=peer.node_id or peer.peer,
        peer=peer.peer,
        state=peer.state,
        is_healthy=peer.is_healthy,
        last_seen=None if peer.last_seen is None else rfc3339(peer.last_seen),
        lag_events=peer.lag_events,
        lag_seconds=peer.lag_seconds,
        skew_seconds=peer.skew_seconds,
        last_error=peer.last_error,
    )


def _share(peer: PeerReport) -> NodeShare:
    return NodeShare(
        node_id=peer.node_id or peer.peer,
        is_local=False,
        is_healthy=peer.is_healthy,
        keys_count=peer.entries,
    )


async def _parts(page: list[Entry], pages: AsyncIterator[list[Entry]]) -> AsyncIterator[bytes]:
    separator = b"["
    while True:
        if page:
            part = separator + b",".join(map(_metadata, page))
            page = []  # While a slow client takes the part, nothing else of it shall be held.
            yield part
            separator = b","
        try:
            page = await anext(pages)
        except StopAsyncIteration:
            break
    yield b"[]" if separator == b"[" else b"]"


def _metadata(entry: Entry) -> bytes:
    return orjson.dumps(
        {
            "id": entry.id,
            "key": entry.key,
            "category": entry.category,
            "environment": entry.environment,
            "created_at": rfc3339(entry.created_at),
            "updated_at": rfc3339(entry.updated_at),
            "version": entry.version,
        }
    )


def _require_peer(call: Call) -> None:
    """Refuse whoever did not show the cluster key.

    Raises:
        NotAPeer: The guard took the path for another one.
    """
    if call.exchange.cluster_key is None:
        raise NotAPeer("X-API-Key: this path takes the cluster key (OSC_CLUSTER_KEY), and no API key.")
