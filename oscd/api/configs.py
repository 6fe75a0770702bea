"""Owns the calls on configuration entries (contract §4): from a `Call` to the node's use cases to an answer.

Must not touch SQL or a cipher.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from quart import Response

from oscd.api.answers import entry_json, entry_location, json_answer, json_stream, not_modified
from oscd.api.call import Call, Handler
from oscd.api.conditions import entity_tag, preconditions_of
from oscd.api.cursors import content_of, cursor_of
from oscd.api.models import (
    DeleteAnswer,
    EntryCreate,
    EntryFull,
    EntryQuery,
    EntryShort,
    EntryUpdate,
    EnvironmentQuery,
    ListQuery,
)
from oscd.api.moments import known_moment, moment_of
from oscd.api.openapi import Answer, Operation
from oscd.errors import (
    AlreadyExists,
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
from oscd.events.position import Position
from oscd.listing import START, Filters, Listing
from oscd.moment import Moment
from oscd.node import Node, Written
from oscd.values import Opened

# One part of a streamed list: what a client that reads nothing can make the node hold, several times over.
PART_ENTRIES = 200
PART_BYTES = 32 * 1024
# A page asked for by `limit` ends early past this, and says where the next begins.
PAGE_BYTES = 256 * 1024
# Nor does a request walk through more views than this, where next to nothing matches.
PAGE_VIEWS = 20

POSITION = "X-OSC-Position"

_ANSWER_HEADERS = ("ETag", "X-Request-ID")
_WRITE_HEADERS = (*_ANSWER_HEADERS, POSITION)
_GUARDS = (Forbidden, NotAuthorized, Invalid, TooManyRequests, Unavailable)
_BODY_REFUSALS = (BadRequest, BodyTooLarge, UnsupportedMedia)

CREATE = Operation(
    "POST",
    "/configs",
    "Create an entry",
    {201: Answer("Created", EntryFull, (*_WRITE_HEADERS, "Location"))},
    body=EntryCreate,
    headers=("X-Actor",),
    refusals=(*_GUARDS, *_BODY_REFUSALS, AlreadyExists),
    api_key=True,
    user_key=True,
)
READ = Operation(
    "GET",
    "/configs/{key}",
    "Read an entry",
    {
        200: Answer("The entry; with its times where `mode=full`", EntryShort, _WRITE_HEADERS),
        304: Answer("Not changed", None, ("ETag",)),
    },
    query=EntryQuery,
    headers=("If-None-Match", "X-OSC-After"),
    refusals=(*_GUARDS, BadRequest, NotFound),
    api_key=True,
    user_key=True,
)
UPDATE = Operation(
    "PUT",
    "/configs/{key}",
    "Give an entry a new value",
    {
        200: Answer("Updated", EntryFull, _WRITE_HEADERS),
        201: Answer("Created, as `If-None-Match: *` asked", EntryFull, (*_WRITE_HEADERS, "Location")),
    },
    query=EnvironmentQuery,
    body=EntryUpdate,
    headers=("If-Match", "If-None-Match", "X-Actor"),
    refusals=(*_GUARDS, *_BODY_REFUSALS, NotFound, PreconditionFailed),
    api_key=True,
    user_key=True,
)
DELETE = Operation(
    "DELETE",
    "/configs/{key}",
    "Delete an entry",
    {200: Answer("Deleted", DeleteAnswer, (POSITION, "X-Request-ID"))},
    query=EnvironmentQuery,
    headers=("If-Match", "X-Actor"),
    refusals=(*_GUARDS, BadRequest, NotFound, PreconditionFailed),
    api_key=True,
    user_key=True,
)
LIST = Operation(
    "GET",
    "/configs",
    "List the entries the user key opens, by environment and key",
    {
        200: Answer(
            "The entries; with their times where `mode=full`",
            EntryShort,
            ("Link", POSITION, "X-Request-ID"),
            many=True,
        )
    },
    query=ListQuery,
    headers=("X-OSC-After",),
    refusals=_GUARDS,
    api_key=True,
    user_key=True,
)


@dataclass(frozen=True, slots=True)
class Configs:
    """The handlers, over one node."""

    node: Node

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [
            (CREATE, self.create),
            (READ, self.read),
            (UPDATE, self.update),
            (DELETE, self.delete),
            (LIST, self.list),
        ]

    async def create(self, call: Call) -> Response:
        """`POST /configs`."""
        body = call.body_as(EntryCreate)
        written = await self.node.create(
            body.environment, body.key, body.category, call.value_json, call.user_key, call.caller
        )
        return _written(written, call.value_json)

    async def read(self, call: Call) -> Response:
        """`GET /configs/{key}`."""
        query = call.query_as(EntryQuery)
        moment = moment_of(query.at)
        unless = preconditions_of(call.exchange).if_none_match
        await self._wait(call)
        opened, headers = await self._read(query.environment, call, moment)
        headers["ETag"] = entity_tag(opened.entry)
        if unless is not None and unless & {opened.entry.tag, "*"}:
            return not_modified(headers)
        return json_answer(entry_json(opened.entry, opened.value_json, query.mode), 200, headers, store=False)

    async def _read(
        self, environment: str, call: Call, moment: Moment | None
    ) -> tuple[Opened, dict[str, str]]:
        if moment is None:
            return await self.node.read(environment, call.key, call.user_key), {}
        with known_moment():
            found = await self.node.read_at(environment, call.key, call.user_key, moment)
        return found.opened, {POSITION: found.position.encode()}

    async def update(self, call: Call) -> Response:
        """`PUT /configs/{key}`."""
        body, environment = call.body_as(EntryUpdate), call.query_as(EnvironmentQuery).environment
        written = await self.node.update(
            environment,
            call.key,
            body.category,
            call.value_json,
            call.user_key,
            call.caller,
            preconditions_of(call.exchange),
        )
        return _written(written, call.value_json)

    async def delete(self, call: Call) -> Response:
        """`DELETE /configs/{key}`."""
        environment = call.query_as(EnvironmentQuery).environment
        written = await self.node.delete(
            environment, call.key, call.user_key, call.caller, preconditions_of(call.exchange)
        )
        message = DeleteAnswer(message=f"Configuration '{call.key}' deleted successfully")
        return json_answer(orjson.dumps(message.model_dump()), headers={POSITION: written.position.encode()})

    async def list(self, call: Call) -> Response:
        """`GET /configs`."""
        query = call.query_as(ListQuery)
        start = START if query.cursor is None else content_of(query.cursor, _place)
        moment = moment_of(query.at)
        await self._wait(call)
        listing = self.node.list(_filters(query), call.user_key, moment)
        if query.limit is not None:
            with known_moment():
                return await _one_page(listing, query, start, query.limit)
        # The first part is read before the status goes out, so that a refusal is still one.
        with known_moment():
            first = await listing.page(start, PART_ENTRIES, PART_BYTES)
        headers = {"Cache-Control": "no-store"} | _position_of(listing, query)
        return json_stream(_parts(listing, first, _to_json(query)), call.method, headers)

    async def _wait(self, call: Call) -> None:
        if call.after is not None:
            await self.node.wait_for(call.after)


async def _parts(
    listing: Listing,
    first: tuple[list[Opened], tuple[str, str] | None],
    to_json: Callable[[Opened], bytes],
) -> AsyncIterator[bytes]:
    opened, after = first
    del first
    separator = b"["
    while True:
        if opened:
            part = separator + b",".join(map(to_json, opened))
            opened = []  # While a slow client takes the part, nothing else of it shall be held.
            yield part
            separator = b","
        if after is None:
            break
        opened, after = await listing.page(after, PART_ENTRIES, PART_BYTES)
    yield b"[]" if separator == b"[" else b"]"


async def _one_page(
    listing: Listing, query: ListQuery, after: tuple[str, str] | None, limit: int
) -> Response:
    """At most `limit` entries, and a link to the next page where there may be one."""
    found: list[Opened] = []
    size = views = 0
    while after is not None and len(found) < limit and size < PAGE_BYTES and views < PAGE_VIEWS:
        views += 1
        opened, after = await listing.page(after, limit - len(found), PAGE_BYTES - size)
        found += opened
        size += sum(len(one.value_json) for one in opened)
    body = b"[" + b",".join(map(_to_json(query), found)) + b"]"
    headers = _position_of(listing, query)
    if after is not None:
        headers["Link"] = _link(query, after, listing.position)
    return json_answer(body, headers=headers, store=False)


def _to_json(query: ListQuery) -> Callable[[Opened], bytes]:
    return lambda opened: entry_json(opened.entry, opened.value_json, query.mode)


def _filters(query: ListQuery) -> Filters:
    return Filters(query.environment, query.category, query.prefix or "")


def _place(content: Any) -> tuple[str, str]:  # noqa: ANN401 - whatever a cursor says
    """Where the page before ended."""
    environment, key = content
    if not (isinstance(environment, str) and isinstance(key, str)):
        raise ValueError
    return (environment, key)


def _position_of(listing: Listing, query: ListQuery) -> dict[str, str]:
    return {} if query.at is None else {POSITION: listing.position.encode()}


def _link(query: ListQuery, after: tuple[str, str], position: Position) -> str:
    """The next page, of the same events: whoever follows the links reads one state, and not a little of several."""
    parameters = query.model_dump(exclude_none=True, exclude_defaults=True)
    parameters |= {"cursor": cursor_of(after), "at": position.encode()}
    return f'</configs?{urlencode(parameters)}>; rel="next"'


def _written(written: Written, value_json: bytes) -> Response:
    entry = written.entry
    headers = {
        "ETag": entity_tag(entry),
        POSITION: written.position.encode(),
    }
    created = entry.version == 1
    if created:
        headers["Location"] = entry_location(entry)
    return json_answer(entry_json(entry, value_json, "full"), 201 if created else 200, headers, store=False)
