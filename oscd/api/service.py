"""Owns the calls that tell of the service itself: `/`, `/health`, `/ready`, `/stats`, and its documentation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson
from quart import Response

from oscd.api.answers import json_answer, problem_answer
from oscd.api.call import Call, Handler
from oscd.api.cluster import MODE, Membership
from oscd.api.docs_page import DOCS_HTML, DOCS_POLICY, docs_asset
from oscd.api.models import ClusterInfo, Health, NotReady, Ready, ServiceInfo, Statistics
from oscd.api.openapi import Answer, Operation, document
from oscd.errors import Forbidden, Invalid, NotFound, Unavailable
from oscd.node import Node
from oscd.replication.members import healthy_nodes, total_nodes

NAME = "OpenSecureConf API"
FEATURES = (
    "encrypted-values",
    "event-log",
    "compare-and-swap",
    "pagination",
    "read-your-writes",
    "streams",
    "history",
    "point-in-time",
    "rollback",
    "backup",
    "replication",
)
UNCATEGORIZED = "uncategorized"
# How long one look at the log serves every probe of this worker.
PROBE_SECONDS = 1.0

_HEADERS = ("X-Request-ID",)
INFO = Operation("GET", "/", "What serves here", {200: Answer("The service", ServiceInfo, _HEADERS)})
HEALTH = Operation("GET", "/health", "Whether the process serves", {200: Answer("It does", Health, _HEADERS)})
READY = Operation(
    "GET",
    "/ready",
    "Whether the node can take writes",
    {200: Answer("It can", Ready, _HEADERS), 503: Answer("It cannot, and why", NotReady, ("Retry-After",))},
)
STATISTICS = Operation(
    "GET",
    "/stats",
    "How many entries there are, whoever can open them",
    {200: Answer("The statistics", Statistics, _HEADERS)},
    headers=("X-OSC-After",),
    refusals=(Forbidden, Invalid, Unavailable),
    api_key=True,
)

# Returns why the log cannot be written, or None where it can.
Probe = Callable[[], Awaitable[str | None]]

# Returns what else the node waits for before it may serve.
Awaited = Callable[[], Awaitable[Sequence[str]]]


async def _nothing() -> Sequence[str]:
    return ()


class Readiness:
    """Whether the node may serve; the log is looked at as seldom as an answer of `PROBE_SECONDS` ago will do."""

    def __init__(
        self, probe: Probe, awaited: Awaited = _nothing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._awaited = awaited
        self._clock = clock
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._trouble: str | None = None

    async def reasons(self) -> list[str]:
        """Why the node is not ready; empty where it is."""
        async with self._looking:
            if self._clock() - self._looked_at >= PROBE_SECONDS:
                self._trouble = await self._probe()
                self._looked_at = self._clock()
        troubles = [] if self._trouble is None else [self._trouble]
        # One sentence may come from both: a log that takes no writes says why by itself.
        return list(dict.fromkeys([*troubles, *await self._awaited()]))


@dataclass(frozen=True, slots=True)
class Service:
    """The handlers, over one node."""

    node: Node
    readiness: Readiness
    version: str
    membership: Membership

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served and documented."""
        return [
            (INFO, self.info),
            (HEALTH, self.health),
            (READY, self.ready),
            (STATISTICS, self.statistics),
        ]

    async def info(self, _call: Call) -> Response:
        """`GET /`."""
        info = ServiceInfo(
            name=NAME,
            service=NAME,
            version=self.version,
            description="Encrypted, event-sourced configuration service",
            status="operational",
            features=list(FEATURES),
            cluster_enabled=self.membership.members is not None,
            cluster=await self._cluster(),
        )
        return json_answer(orjson.dumps(info.model_dump()))

    async def _cluster(self) -> ClusterInfo | None:
        members = self.membership.members
        if members is None:
            return None
        report = await members.report()
        return ClusterInfo(
            enabled=True,
            mode=MODE,
            node_id=self.membership.node_id,
            total_nodes=total_nodes(report),
            healthy_nodes=healthy_nodes(report),
        )

    async def health(self, _call: Call) -> Response:
        """`GET /health`."""
        return json_answer(b'{"status":"healthy"}')

    async def ready(self, _call: Call) -> Response:
        """`GET /ready`."""
        reasons = await self.readiness.reasons()
        if reasons:
            refusal = Unavailable(" ".join(reasons))
            return problem_answer(refusal, {"ready": False, "reasons": reasons})
        return json_answer(b'{"ready":true}', store=False)

    async def statistics(self, call: Call) -> Response:
        """`GET /stats`."""
        if call.after is not None:
            await self.node.wait_for(call.after)
        found = await self.node.statistics()
        # A category of that very name counts with those that have none, as in the original.
        by_category: dict[str, int] = {}
        for category, entries in found.by_category.items():
            name = UNCATEGORIZED if category is None else category
            by_category[name] = by_category.get(name, 0) + entries
        statistics = Statistics(
            total_keys=found.entries,
            total_categories=len(by_category),
            total_environments=len(found.by_environment),
            keys_by_category=by_category,
            keys_by_environment=found.by_environment,
        )
        return json_answer(orjson.dumps(statistics.model_dump()))


@dataclass(frozen=True, slots=True)
class Documentation:
    """`/openapi.json`, generated from the operations, and the page that shows it."""

    operations: Sequence[Operation]
    version: str

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served; it does not document itself."""
        openapi = orjson.dumps(document(self.operations, self.version))

        async def serve_openapi(_call: Call) -> Response:
            return json_answer(openapi)

        async def serve_page(_call: Call) -> Response:
            return _page(DOCS_HTML, "text/html; charset=utf-8")

        def serve_asset(name: str) -> Handler:
            async def serve(_call: Call) -> Response:
                asset = docs_asset(name)
                if asset is None:
                    raise NotFound("There is nothing at this path.")
                return _page(*asset)

            return serve

        return [
            (Operation("GET", "/openapi.json", "This document", {}), serve_openapi),
            (Operation("GET", "/docs", "The page that shows it", {}), serve_page),
            *(
                (Operation("GET", f"/docs/{name}", "Part of the page", {}), serve_asset(name))
                for name in ("oscd-docs.css", "oscd-docs.js")
            ),
        ]


def _page(body: bytes, content_type: str) -> Response:
    headers = {"Content-Security-Policy": DOCS_POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(body, content_type=content_type, headers=headers)
