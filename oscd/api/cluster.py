"""Owns the calls on the cluster (contract §8) for people: what this node knows of the others, and its conflicts.

Must not know how nodes reach each other; what they ask of each other is in `peers.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from quart import Response

from oscd.api.answers import NO_STORE, json_answer, json_stream
from oscd.api.call import Call, Handler
from oscd.api.cluster_models import (
    ClusterHealth,
    ClusterStatus,
    ConflictsAnswer,
    ConflictsQuery,
    Distribution,
    EntryMetadata,
    MetadataQuery,
    NodeShare,
    PeerStatus,
    QuarantinedOrigin,
)
from oscd.api.openapi import Answer, Operation
from oscd.errors import Forbidden, Invalid, Unavailable
from oscd.history.conflicts import Conflicts, Side
from oscd.listing import Filters
from oscd.node import Node
from oscd.projections.entry import Entry
from oscd.replication.members import Members, healthy_nodes, is_synced, total_nodes
from oscd.replication.report import ClusterReport, PeerReport
from oscd.replication.source import Source
from oscd.times import rfc3339

MODE: Final = "replica"
# Entries in one part of a list of metadata.
PART_ENTRIES = 200

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
    headers=("X-OSC-After",),
    refusals=(Forbidden, Invalid, Unavailable),
    api_key=True,
)
CONFLICTS = Operation(
    "GET",
    "/cluster/conflicts",
    "Writes of one entry that met without knowing of each other, the newest first",
    {200: Answer("The conflicts", ConflictsAnswer, _HEADERS)},
    query=ConflictsQuery,
    headers=("X-OSC-After",),
    refusals=(Forbidden, Invalid, Unavailable),
    api_key=True,
)


@dataclass(frozen=True, slots=True)
class Membership:
    """This node in its cluster, or alone.

    Attributes:
        node_id: Its name.
        salt: Gives the salt that it serves with; raises Unavailable while it has none.
        run: A random word of its start, by which a node knows itself when it meets itself.
        members: What it knows of the others; None where clustering is off …
        source: … and so is what ships its log to them.
    """

    node_id: str
    salt: Callable[[], bytes]
    run: str = ""
    members: Members | None = None
    source: Source | None = None

    def known_salt(self) -> bytes | None:
        """The salt; None while there is none."""
        try:
            return self.salt()
        except Unavailable:
            return None

    async def awaited(self) -> Sequence[str]:
        """What this node waits for before it may serve."""
        if self.members is None:
            return ()
        # The steward may have the salt already, and this worker not yet.
        missing = () if self.known_salt() is not None else ("This node has no salt yet.",)
        return (await self.members.report()).not_ready or missing


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
            (CONFLICTS, self.conflicts),
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
        await self._wait(call)
        pages = self.node.inventory(Filters(query.environment, query.category)).pages(PART_ENTRIES)
        # The first page is read before the status goes out, so that a refusal is still one.
        first = await anext(pages)
        return json_stream(_parts(first, pages), call.method, dict([NO_STORE]))

    async def conflicts(self, call: Call) -> Response:
        """`GET /cluster/conflicts`."""
        await self._wait(call)
        found = await self.node.conflicts(call.query_as(ConflictsQuery).limit)
        # In a thread: with many origins a thousand positions take long to write down.
        return json_answer(await asyncio.to_thread(_conflicts, found))

    async def _wait(self, call: Call) -> None:
        if call.after is not None:
            await self.node.wait_for(call.after)


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
        has_diverged=peer.has_diverged,
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


def _conflicts(found: Conflicts) -> bytes:
    conflicts = [
        {
            "key": met.winner.event.key,
            "environment": met.winner.event.environment,
            "foreign_key": met.foreign_key,
            "winner": _side(met.winner),
            "loser": _side(met.loser),
        }
        for met in found.newest
    ]
    return orjson.dumps({"conflicts": conflicts, "total": found.total})


def _side(side: Side) -> dict[str, object]:
    return {
        "node_id": side.event.origin.node_id,
        "timestamp": rfc3339(side.event.stamp),
        "type": side.event.type,
        "version": side.event.version,
        "position": side.position.encode(),
    }
