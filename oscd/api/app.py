"""Owns the assembly of the edge: routes, refusals, the layer around them. Must not hold a rule of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from oscd.api.answers import problem_answer
from oscd.api.backup import BackupCalls
from oscd.api.call import BODY_SECONDS, LARGE_AT_ONCE, Handler, KeyConverter, Limits, bind
from oscd.api.cluster import Cluster, Membership
from oscd.api.configs import Configs
from oscd.api.edge import Edge, RequestLog, held_back
from oscd.api.exchange import Exchange, Network
from oscd.api.guard import Guard
from oscd.api.history import Past
from oscd.api.metrics import Metrics
from oscd.api.openapi import Operation
from oscd.api.peers import Peers
from oscd.api.service import Documentation, Probe, Readiness, Service
from oscd.api.streams import Streams
from oscd.api.throttle import FailureThrottle
from oscd.backup.backups import Backups
from oscd.errors import BadRequest, InternalError, MethodNotAllowed, NotFound, RequestRefused
from oscd.events.keyring import KeyRing
from oscd.metrics.counters import Counters
from oscd.metrics.exposition import Exposition
from oscd.node import Node
from oscd.streams.registry import Registry
from oscd.streams.ticket import Tickets

_log = logging.getLogger("oscd.api")


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """What the operator decides of the edge.

    Attributes:
        guard: The rules in force now; asked anew for every request, as keys are rotated while serving.
    """

    guard: Callable[[], Guard]
    limits: Limits
    trusted_proxies: Sequence[Network] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the edge of one worker serves.

    Attributes:
        node: The use cases …
        backups: … and those on backups.
        registry: The streams.
        counters: Where this worker counts.
        exposition: What all workers counted.
        probe: Says why the log cannot be written, or None.
        membership: This node in its cluster.
    """

    node: Node
    backups: Backups
    keyring: KeyRing
    registry: Registry
    tickets: Tickets
    counters: Counters
    exposition: Exposition
    probe: Probe
    membership: Membership


def create_app(parts: Parts, *, rules: EdgeRules, version: str, log: RequestLog) -> Edge:
    """The ASGI application of one worker.

    Args:
        version: oscd's.
        log: Writes one line per request.
    """
    app = Quart("oscd", static_folder=None)
    app.config["BODY_TIMEOUT"] = BODY_SECONDS
    # The server bounds every send; Quart would start a task for each answer to do it again.
    app.config["RESPONSE_TIMEOUT"] = None
    # The edge counts bodies; Quart's own limit, 16 MB by default, would cut in below a larger one.
    app.config["MAX_CONTENT_LENGTH"] = None
    app.url_map.converters["key"] = KeyConverter
    # A path is a name here: nothing is redirected, nothing normalised.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    throttle = FailureThrottle()
    large_bodies = asyncio.Semaphore(LARGE_AT_ONCE)
    _answer_refusals(app, throttle)
    for operation, handler in _routes(parts, rules, version):
        bind(app, operation, handler, rules.limits, large_bodies)
    return Edge(
        app.asgi_app,  # type: ignore[arg-type]
        guard=rules.guard,
        throttle=throttle,
        trusted_proxies=rules.trusted_proxies,
        max_body_bytes=rules.limits.max_body_bytes,
        max_import_bytes=rules.limits.max_import_bytes,
        log=log,
        count=parts.counters.request,
        redeem=parts.tickets.redeem,
    )


def _routes(parts: Parts, rules: EdgeRules, version: str) -> list[tuple[Operation, Handler]]:
    streams = Streams(
        parts.registry,
        parts.keyring,
        parts.tickets,
        parts.exposition,
        min_user_key_length=rules.limits.min_user_key_length,
        api_keys=lambda: rules.guard().api_keys,
    )
    documented = [
        *Service(
            parts.node, Readiness(parts.probe, parts.membership.awaited), version, parts.membership
        ).routes(),
        *Metrics(parts.exposition).routes(),
        *Configs(parts.node).routes(),
        *BackupCalls(parts.node, parts.backups, rules.limits.max_body_bytes).routes(),
        *Past(parts.node, rules.limits.min_user_key_length).routes(),
        *streams.routes(),
        *Cluster(parts.node, parts.membership).routes(),
        *Peers(parts.membership, lambda: rules.guard().cluster_keys, lambda: rules.guard().secrets).routes(),
    ]
    return [*documented, *Documentation([operation for operation, _ in documented], version).routes()]


def _answer_refusals(app: Quart, throttle: FailureThrottle) -> None:
    """Turn whatever a request ends in into problem+json."""

    @app.errorhandler(RequestRefused)
    async def refused(refusal: RequestRefused) -> Response:
        exchange: Exchange = request.scope["oscd"]  # type: ignore[typeddict-item]
        return _refusal(await held_back(refusal, exchange, throttle))

    @app.errorhandler(HTTPException)
    async def unrouted(error: HTTPException) -> Response:
        if isinstance(error, WerkzeugMethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            answer = _refusal(MethodNotAllowed(f"This path takes {allowed}."))
            answer.headers["Allow"] = allowed
            return answer
        if error.code == 404:
            return _refusal(NotFound("There is nothing at this path; /docs lists what there is."))
        return _refusal(BadRequest("The request cannot be understood."))

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        _log.error("unexpected error", exc_info=error)
        return _refusal(InternalError("oscd met an error of its own; its log says more."))


def _refusal(refusal: RequestRefused) -> Response:
    """Answer with a problem, and leave its kind for the metrics."""
    exchange: Exchange = request.scope["oscd"]  # type: ignore[typeddict-item]
    exchange.error = refusal.kind
    return problem_answer(refusal)
