"""Owns the calls on streams (contract §6): who may open which, and what is told of those that are open.

Must not know how a stream finds what it sends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from quart import Response

from oscd.api.answers import json_answer
from oscd.api.call import Call, Handler
from oscd.api.exchange import Exchange
from oscd.api.guard import STREAM_PATH, require_user_key
from oscd.api.models import (
    StreamHealth,
    StreamQuery,
    StreamSeen,
    StreamStatistics,
    TicketAnswer,
    TicketQuery,
    TicketRequest,
)
from oscd.api.openapi import Answer, Operation
from oscd.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    Invalid,
    NotAuthorized,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from oscd.events.cipher import Cipher
from oscd.events.keyring import KeyRing
from oscd.feed.frame import StreamFilter
from oscd.metrics.exposition import Exposition
from oscd.streams import sse
from oscd.streams.registry import Registry, Report
from oscd.streams.terms import Wanted
from oscd.streams.ticket import Tickets, credential
from oscd.times import microseconds_now, rfc3339

FILTERS = ("key", "environment", "category")

SUBSCRIBE = Operation(
    "GET",
    STREAM_PATH,
    "Be told of every change, as server-sent events",
    {
        200: Answer(
            "The stream: `connected`, then `created`, `updated`, `deleted` and `sync`, until it ends",
            media_type="text/event-stream",
        )
    },
    query=StreamQuery,
    headers=("Last-Event-ID", "X-User-Key"),
    refusals=(BadRequest, Forbidden, NotAuthorized, Invalid, TooManyRequests, Unavailable),
    api_key=True,
)
ISSUE_TICKET = Operation(
    "POST",
    "/sse/tickets",
    "A ticket with which a browser's EventSource may open a stream",
    {200: Answer("The ticket; it goes into the query of `/sse/subscribe`", TicketAnswer)},
    query=TicketQuery,
    body=TicketRequest,
    is_body_optional=True,
    refusals=(BadRequest, BodyTooLarge, Forbidden, Invalid, UnsupportedMedia),
    api_key=True,
)
STATISTICS = Operation(
    "GET",
    "/sse/stats",
    "What the streams of this node have done",
    {200: Answer("The statistics", StreamStatistics)},
    refusals=(Forbidden, Unavailable),
    api_key=True,
)
SUBSCRIPTIONS = Operation(
    "GET",
    "/sse/subscriptions",
    "The streams that are open on this node",
    {200: Answer("The streams", StreamSeen, many=True)},
    refusals=(Forbidden, Unavailable),
    api_key=True,
)
HEALTH = Operation(
    "GET",
    "/sse/health",
    "Whether streams are served",
    {200: Answer("They are", StreamHealth)},
    refusals=(Unavailable,),
)


@dataclass(frozen=True, slots=True)
class Streams:
    """The handlers, over the streams of one worker.

    Attributes:
        api_keys: Those accepted now; empty where none is required.
    """

    registry: Registry
    keyring: KeyRing
    tickets: Tickets
    exposition: Exposition
    min_user_key_length: int
    api_keys: Callable[[], Sequence[bytes]]

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [
            (SUBSCRIBE, self.subscribe),
            (ISSUE_TICKET, self.issue_ticket),
            (STATISTICS, self.statistics),
            (SUBSCRIPTIONS, self.subscriptions),
            (HEALTH, self.health),
        ]

    async def subscribe(self, call: Call) -> Response:
        """`GET /sse/subscribe`."""
        query, ticket = call.query_as(StreamQuery), call.exchange.ticket
        wanted_filter = StreamFilter(query.key, query.environment, query.category)
        if ticket is not None:
            ticket.require(wanted_filter)
            wanted_filter = ticket.wanted
        user_key = require_user_key(call.exchange, self.min_user_key_length) if query.values else None
        headers = {
            "Content-Type": sse.CONTENT_TYPE,
            "Cache-Control": "no-cache" if user_key is None else "no-cache, no-store",
            "X-Accel-Buffering": "no",
        }
        if call.method == "HEAD":
            head = Response(b"", 200, headers=headers)
            head.headers.pop("Content-Length")  # A GET has none.
            return head
        self.registry.require_room()
        cipher = None if user_key is None else await self._cipher(user_key)
        shown = _credential(call.exchange)
        if shown is not None and shown not in map(credential, self.api_keys()):
            # Removed while a user key was stretched: the streams it had opened were ended without this one.
            raise Forbidden("X-API-Key is missing or wrong.")
        proved = None
        if user_key is not None and cipher is not None:
            proved = self.keyring.remember_later(user_key, cipher)
        call.exchange.forget_keys()
        subscription = await self.registry.open(
            Wanted(
                filter=wanted_filter,
                resume=call.exchange.text(b"last-event-id") or query.after,
                from_snapshot=query.begin == "snapshot",
                cipher=cipher,
                credential=shown,
                expires_at=None if ticket is None else ticket.expires_at,
            ),
            proved,
        )
        return Response(subscription.parts(), 200, headers=headers)

    async def issue_ticket(self, call: Call) -> Response:
        """`POST /sse/tickets`."""
        query, body = call.query_as(TicketQuery), call.body_as(TicketRequest)
        said = body.model_dump(include=set(FILTERS), exclude_none=True)
        for name, asked in query.model_dump(exclude_none=True).items():
            if said.setdefault(name, asked) != asked:
                raise Invalid.field(("query", name), "must be what the body says, or be left out")
        wanted = StreamFilter(**said)
        text, expires_at = await self.tickets.issue(wanted, body.expires_in, call.exchange.api_key)
        answer = TicketAnswer(ticket=text, expires_at=rfc3339(expires_at * 1_000_000))
        return json_answer(orjson.dumps(answer.model_dump()), store=False)

    async def statistics(self, _call: Call) -> Response:
        """`GET /sse/stats`."""
        seen, totals = await self.registry.seen(), await self.exposition.totals()
        by_type = {kind: int(n) for kind, n in totals.by_label("sse_events_sent_total", "event_type").items()}
        ended = totals.value("sse_subscription_duration_seconds_count")
        seconds = totals.value("sse_subscription_duration_seconds_sum")
        document = {
            "subscriptions": {
                "total_created": int(totals.value("sse_subscriptions_total")),
                "active": self.registry.active,
                "closed": int(totals.value("sse_subscriptions_closed_total")),
                "wildcard": sum(not any(stream.filters.values()) for stream in seen.streams),
                **{f"by_{name}": _counted(seen, name) for name in FILTERS},
                "last_created_at": _time(seen.last_created_at),
            },
            "events": {
                "total_sent": sum(by_type.values()),
                "by_type": by_type,
                "dropped_queue_full": 0,
                "last_sent_at": _time(seen.last_sent_at),
            },
            "connection_health": {
                "keepalive_sent": int(totals.value("sse_keepalive_sent_total")),
                "disconnections_detected": int(totals.value("sse_disconnections_total")),
            },
            "performance": {
                "average_subscription_duration_seconds": round(seconds / ended, 2) if ended else 0.0,
                "max_queue_size_reached": seen.greatest_lag,
            },
        }
        return json_answer(orjson.dumps(document))

    async def subscriptions(self, _call: Call) -> Response:
        """`GET /sse/subscriptions`."""
        seen, now = await self.registry.seen(), microseconds_now()
        document = [
            {
                "subscription_id": stream.subscription_id,
                "filters": stream.filters,
                "created_at": rfc3339(stream.created_at),
                "duration_seconds": round(max(0, now - stream.created_at) / 1e6, 2),
                "queue_size": stream.lag,
                "queue_max_size": None,
            }
            for stream in seen.streams
        ]
        return json_answer(orjson.dumps(document))

    async def health(self, _call: Call) -> Response:
        """`GET /sse/health`."""
        totals = await self.exposition.totals()
        health = StreamHealth(
            status="healthy",
            active_subscriptions=self.registry.active,
            total_events_sent=int(sum(totals.by_label("sse_events_sent_total", "event_type").values())),
        )
        return json_answer(orjson.dumps(health.model_dump()))

    async def _cipher(self, user_key: str) -> Cipher:
        return self.keyring.recall(user_key) or await self.keyring.derive(user_key)


def _credential(exchange: Exchange) -> bytes | None:
    """Of the API key that lets a stream be open, its own or its ticket's; None where none is required."""
    if exchange.ticket is not None:
        return exchange.ticket.credential
    return None if exchange.api_key is None else credential(exchange.api_key)


def _counted(seen: Report, name: str) -> dict[str, int]:
    """How many streams filter by each value of one kind."""
    return dict(Counter(value for stream in seen.streams if (value := stream.filters[name]) is not None))


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)
