"""Owns the calls on the past (contract §5): history, rollback, the trail of events.

Must not touch SQL or a cipher.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from quart import Response

from oscd.api.answers import entry_json, json_answer, json_stream
from oscd.api.call import Call, Handler
from oscd.api.conditions import entity_tag, preconditions_of
from oscd.api.cursors import content_of, cursor_of
from oscd.api.guard import require_user_key
from oscd.api.history_models import EventsAnswer, EventsQuery, HistoryAnswer, HistoryQuery, RollbackRequest
from oscd.api.models import EntryFull, EnvironmentQuery
from oscd.api.moments import known_moment
from oscd.api.openapi import Answer, Operation
from oscd.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    Invalid,
    NotAuthorized,
    NotFound,
    PreconditionFailed,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from oscd.events.event import EventRef, EventType, Origin
from oscd.events.position import Position, PositionUnreadable, decode_position
from oscd.feed.frame import StreamFilter
from oscd.history.lineage import Lineage
from oscd.history.trail import Step, Trail
from oscd.history.versions import PageEnd, PageEndUnknown, Version
from oscd.node import Node
from oscd.times import rfc3339

_SEALED = frozenset({EventType.CREATED, EventType.UPDATED})

HISTORY = Operation(
    "GET",
    "/history/{key}",
    "The versions of an entry, oldest first",
    {200: Answer("All of them, or with `limit` the newest", HistoryAnswer, ("Link", "X-Request-ID"))},
    query=HistoryQuery,
    headers=("X-User-Key", "X-OSC-After"),
    refusals=(Forbidden, NotAuthorized, Invalid, NotFound, TooManyRequests, Unavailable),
    api_key=True,
)
ROLLBACK = Operation(
    "POST",
    "/rollback/{key}",
    "Give an entry an older version again",
    {200: Answer("Appended", EntryFull, ("ETag", "X-OSC-Position", "X-Request-ID"))},
    query=EnvironmentQuery,
    body=RollbackRequest,
    headers=("If-Match", "If-None-Match", "X-Actor"),
    refusals=(
        Forbidden,
        NotAuthorized,
        BadRequest,
        BodyTooLarge,
        UnsupportedMedia,
        Invalid,
        NotFound,
        PreconditionFailed,
        TooManyRequests,
        Unavailable,
    ),
    api_key=True,
    user_key=True,
)
EVENTS = Operation(
    "GET",
    "/events",
    "The events of the log, in its order, without values",
    {200: Answer("A page", EventsAnswer)},
    query=EventsQuery,
    headers=("X-OSC-After",),
    refusals=(Forbidden, Invalid, Unavailable),
    api_key=True,
)


@dataclass(frozen=True, slots=True)
class Past:
    """The handlers, over one node."""

    node: Node
    min_user_key_length: int

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [(HISTORY, self.history), (ROLLBACK, self.rollback), (EVENTS, self.events)]

    async def history(self, call: Call) -> Response:
        """`GET /history/{key}`."""
        query = call.query_as(HistoryQuery)
        user_key = require_user_key(call.exchange, self.min_user_key_length) if query.values else None
        after = None if query.cursor is None else content_of(query.cursor, _page_end)
        await self._wait(call)
        history = self.node.history(query.environment, call.key, user_key)
        try:
            outline = await history.outline(query.limit, after)
        except PageEndUnknown as error:
            raise Invalid.field(("query", "cursor"), str(error)) from error
        headers = {"Cache-Control": "no-store"} if query.values else {}
        if outline.end is not None:
            headers["Link"] = _link(call.key, query, outline.end)
        pages = history.pages(outline)
        # The first page is read before the status goes out, so that a refusal is still one.
        first: list[Version] = await anext(pages, [])
        return json_stream(_parts(call.key, query, first, pages), call.method, headers)

    async def rollback(self, call: Call) -> Response:
        """`POST /rollback/{key}`."""
        environment = call.query_as(EnvironmentQuery).environment
        wanted = _wanted(call.body_as(RollbackRequest))
        with known_moment(("body", "position")):
            restored = await self.node.rollback(
                environment, call.key, wanted, call.user_key, call.caller, preconditions_of(call.exchange)
            )
        entry = restored.written.entry
        headers = {"ETag": entity_tag(entry), "X-OSC-Position": restored.written.position.encode()}
        return json_answer(entry_json(entry, restored.value_json, "full"), 200, headers, store=False)

    async def events(self, call: Call) -> Response:
        """`GET /events`."""
        query = call.query_as(EventsQuery)
        after = Position({}) if query.after is None else _position(query.after, ("query", "after"))
        await self._wait(call)
        with known_moment(("query", "after")):
            wanted = StreamFilter(query.key, query.environment, query.category)
            trail = await self.node.trail(after, wanted, query.limit)
        # In a thread: with many origins a thousand positions take long to write down.
        return json_answer(await asyncio.to_thread(_page, trail))

    async def _wait(self, call: Call) -> None:
        if call.after is not None:
            await self.node.wait_for(call.after)


def _wanted(request: RollbackRequest) -> int | Position:
    """Which version a rollback names.

    Raises:
        Invalid: None, or two.
    """
    if (request.version is None) == (request.position is None):
        raise Invalid.field(("body",), "must have either version or position, as GET /history gives them")
    if request.position is not None:
        return _position(request.position, ("body", "position"))
    assert request.version is not None
    return request.version


def _position(text: str, loc: tuple[str, str]) -> Position:
    try:
        return decode_position(text)
    except PositionUnreadable as error:
        raise Invalid.field(loc, str(error)) from error


async def _parts(
    key: str, query: HistoryQuery, page: list[Version], pages: AsyncIterator[list[Version]]
) -> AsyncIterator[bytes]:
    head = orjson.dumps({"key": key, "environment": query.environment, "versions": []})
    yield head.removesuffix(b"]}")
    separator = b""
    while page:
        part = separator + b",".join(map(_version, page))
        page = []  # While a slow client takes the part, nothing else of it shall be held.
        yield part
        separator = b","
        page = await anext(pages, [])
    yield b"]}"


def _version(version: Version) -> bytes:
    event, body = version.recorded.event, version.recorded.body
    document: dict[str, Any] = {
        "version": event.version,
        "type": event.type,
        "timestamp": rfc3339(event.stamp),
        "created_at": rfc3339(event.created_at),
        "updated_at": rfc3339(event.updated_at),
        "category": event.category,
        "node_id": event.origin.node_id,
        "position": version.position.encode(),
        "actor": None if body is None else body.actor,
        "superseded": version.is_superseded,
    }
    if version.value_json is not None:
        document["value"] = orjson.Fragment(version.value_json)
    return orjson.dumps(document)


def _page(trail: Trail) -> bytes:
    return orjson.dumps({"events": list(map(_event, trail.steps)), "next": trail.next.encode()})


def _event(step: Step) -> dict[str, Any]:
    event = step.change.event
    return {
        "position": step.position.encode(),
        "offset": step.change.offset,
        "type": event.type,
        "key": event.key or None,
        "environment": event.environment or None,
        "category": event.category,
        "version": event.version,
        "timestamp": rfc3339(event.stamp),
        "updated_at": rfc3339(event.updated_at),
        "node_id": event.origin.node_id,
        "incarnation": event.origin.incarnation,
        "seq": event.seq,
        "actor": step.actor,
        "digest": step.change.digest.hex(),
        # That of a delete covers nothing random: it would tell the client's address to whoever tries them all.
        "body_digest": event.body_digest.hex() if event.type in _SEALED else None,
    }


def _link(key: str, query: HistoryQuery, end: PageEnd) -> str:
    parts = [_parts_of(end.last), None if end.lineage.expected is None else _parts_of(end.lineage.expected)]
    parameters = {
        "environment": query.environment,
        "limit": query.limit,
        **({"values": "true"} if query.values else {}),
        "cursor": cursor_of(parts),
    }
    return f'</history/{quote(key)}?{urlencode(parameters)}>; rel="next"'


def _parts_of(ref: EventRef) -> tuple[str, str, int]:
    return (ref.origin.node_id, ref.origin.incarnation, ref.seq)


def _page_end(content: Any) -> PageEnd:  # noqa: ANN401 - whatever a cursor says
    """Where the page before ended."""
    last, expected = content
    return PageEnd(_ref(last), Lineage(None if expected is None else _ref(expected), has_begun=True))


def _ref(parts: list[Any]) -> EventRef:
    node_id, incarnation, seq = parts
    if not (
        isinstance(node_id, str) and isinstance(incarnation, str) and type(seq) is int and 0 < seq < 2**63
    ):
        raise ValueError
    return EventRef(Origin(node_id, incarnation), seq)
