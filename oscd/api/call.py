"""Owns reading one request, in the order in which refusals go: user key, size and type, syntax, fields.

An `Operation` says what a route takes; this makes a `Call` of a request, or refuses it, and binds routes to
Quart. Must not know what a handler does with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pydantic import BaseModel
from quart import Quart, Response, request
from werkzeug.exceptions import RequestTimeout
from werkzeug.routing import BaseConverter

from oscd.api import strict_json
from oscd.api.exchange import Exchange
from oscd.api.guard import require_user_key
from oscd.api.models import ValueBody
from oscd.api.openapi import Operation
from oscd.api.validation import decode_path_key, read_query, validate, value_json
from oscd.commands import Caller
from oscd.errors import BodyTooLarge, BodyTooSlow, Invalid, NotFound, UnsupportedMedia
from oscd.events.position import Position, PositionUnreadable, decode_position

Model = TypeVar("Model", bound=BaseModel)

BODY_SECONDS = 30
MAX_ACTOR = 255
INLINE_PARSE_BYTES = 64 * 1024
LARGE_AT_ONCE = 2
# Commas, colons and opening brackets that the body of an import may have, beyond those it needs: base64 has none.
MOST_IMPORT_STRUCTURE = 100
_KEY = "{key}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be."""

    min_user_key_length: int
    max_body_bytes: int
    max_import_bytes: int

    def body_bytes(self, operation: Operation) -> int:
        """How large the body of an operation may be."""
        return self.max_import_bytes if operation.takes_import else self.max_body_bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One request, understood.

    Attributes:
        user_key: "" where the operation takes none.
        key: The entry's key from the path, "" where the path has none.
        body: The body without its `value`.
        octets: The body of an operation that takes bytes.
        value_json: The value as JSON, "" where the body has none: it waits in this form, which is the smallest.
    """

    exchange: Exchange
    method: str
    user_key: str
    key: str
    query: BaseModel | None
    body: BaseModel | None
    octets: bytes
    value_json: bytes
    after: Position | None
    caller: Caller

    def query_as(self, model: type[Model]) -> Model:
        """The query, of the type its operation declares."""
        assert isinstance(self.query, model)
        return self.query

    def body_as(self, model: type[Model]) -> Model:
        """The body, of the type its operation declares."""
        assert isinstance(self.body, model)
        return self.body


Handler = Callable[[Call], Awaitable[Response]]


class KeyConverter(BaseConverter):
    """Whatever follows: slashes, nothing, anything. `decode_path_key` judges the raw bytes."""

    part_isolating = False
    regex = "(?s:.*)"


def bind(
    app: Quart, operation: Operation, handler: Handler, limits: Limits, large_bodies: asyncio.Semaphore
) -> None:
    """Serve an operation with a handler.

    Args:
        large_bodies: Held while a large body is parsed; the same for all operations of an application.
    """
    rule = operation.path.replace(_KEY, "<key:key>")

    async def serve(key: str = "") -> Response:
        exchange: Exchange = request.scope["oscd"]  # type: ignore[typeddict-item]
        exchange.route = operation.path
        return await handler(await _read(operation, exchange, limits, large_bodies))

    app.add_url_rule(
        rule, endpoint=f"{operation.method} {operation.path}", view_func=serve, methods=[operation.method]
    )


async def _read(
    operation: Operation, exchange: Exchange, limits: Limits, large_bodies: asyncio.Semaphore
) -> Call:
    user_key = require_user_key(exchange, limits.min_user_key_length) if operation.user_key else ""
    most_bytes = limits.body_bytes(operation)
    data = await _read_body(operation, exchange, most_bytes)
    exchange.require_single()
    body, stored = (
        (None, b"")
        if operation.body is None
        else await _understand(
            operation, operation.body, data or _no_body(operation), most_bytes, large_bodies
        )
    )
    key = _path_key(request.scope["raw_path"], operation.path) if operation.path.endswith(_KEY) else ""
    return Call(
        exchange=exchange,
        method=request.method,
        user_key=user_key,
        key=key,
        query=None if operation.query is None else read_query(operation.query, request.scope["query_string"]),
        body=body,
        octets=data if operation.takes_bytes else b"",
        value_json=stored,
        after=_position(exchange) if "X-OSC-After" in operation.headers else None,
        caller=Caller(_actor(exchange), exchange.address) if "X-Actor" in operation.headers else Caller(),
    )


async def _read_body(operation: Operation, exchange: Exchange, most_bytes: int) -> bytes:
    """The body, as far as it is one; of an operation that takes none it is left where it is.

    Raises:
        BodyTooLarge, Unavailable: It has more bytes than can be taken.
        UnsupportedMedia: It says of itself that it is not JSON.
        BodyTooSlow: It did not arrive in time.
    """
    if operation.body is None and not operation.takes_bytes:
        return b""
    announced = exchange.text(b"content-length") or "0"
    if announced.isdigit() and int(announced[:20]) > most_bytes:
        raise BodyTooLarge(f"The body exceeds {most_bytes} bytes.")
    if not operation.takes_bytes:
        _require_json(exchange)
    try:
        data = await request.get_data(cache=False)
    except RequestTimeout as error:
        raise BodyTooSlow(f"The body did not arrive within {BODY_SECONDS} s.") from error
    if exchange.refusal is not None:
        raise exchange.refusal
    assert isinstance(data, bytes)
    return data


def _no_body(operation: Operation) -> bytes:
    return b"{}" if operation.is_body_optional else b""


async def _understand(
    operation: Operation,
    model_type: type[BaseModel],
    data: bytes,
    most_bytes: int,
    large_bodies: asyncio.Semaphore,
) -> tuple[BaseModel, bytes]:
    """Parse and check a body; a large one in a thread, as it may take long, and few at a time.

    What 1 MiB of JSON becomes in memory may be twenty times that, so no more than `LARGE_AT_ONCE` are held so.
    """
    understood = partial(_understood, model_type, data, most_bytes, is_import=operation.takes_import)
    if len(data) <= INLINE_PARSE_BYTES:
        return understood()
    async with large_bodies:
        return await asyncio.to_thread(understood)


def _understood(
    model_type: type[BaseModel], data: bytes, most_bytes: int, *, is_import: bool
) -> tuple[BaseModel, bytes]:
    if is_import:
        _require_flat(data)
    body = validate(model_type, strict_json.parse(data), "body")
    if not isinstance(body, ValueBody):
        return body, b""
    return body.model_copy(update={"value": None}), value_json(body.value, most_bytes)


def _require_flat(data: bytes) -> None:
    """Refuse the body of an import that would become far more in memory than the one text it is there for.

    Raises:
        Invalid: It has too much structure.
    """
    structure = 0
    for begin in range(0, len(data), INLINE_PARSE_BYTES):
        structure += sum(
            data.count(mark, begin, begin + INLINE_PARSE_BYTES) for mark in (b",", b":", b"[", b"{")
        )
        if structure > MOST_IMPORT_STRUCTURE:
            raise Invalid(
                "The body of an import has backup_data, overwrite and dry_run; this one has far more."
            )


def _require_json(exchange: Exchange) -> None:
    media_type, _, parameters = (exchange.text(b"content-type") or "application/json").partition(";")
    name = media_type.strip().lower()
    is_json = name == "application/json" or (name.startswith("application/") and name.endswith("+json"))
    said = re.split(r"[;\s]+", parameters.lower().replace('"', ""))
    charsets = {parameter for parameter in said if parameter.startswith("charset=")}
    if not is_json or not charsets <= {"charset=utf-8", "charset=utf8"}:
        raise UnsupportedMedia(
            "Content-Type: must be application/json, in UTF-8; curl -d needs -H 'Content-Type: application/json'."
        )
    if (exchange.text(b"content-encoding") or "identity").lower() != "identity":
        raise UnsupportedMedia("Content-Encoding: bodies are taken uncompressed only.")


def _path_key(raw_path: bytes, template: str) -> str:
    prefix = template.removesuffix(_KEY).encode("ascii")
    if not raw_path.startswith(prefix):
        raise NotFound("There is nothing at this path; /docs lists what there is.")
    return decode_path_key(raw_path.removeprefix(prefix))


def _position(exchange: Exchange) -> Position | None:
    text = exchange.text(b"x-osc-after")
    if text is None:
        return None
    try:
        return decode_position(text)
    except PositionUnreadable as error:
        raise Invalid.field(("header", "X-OSC-After"), str(error)) from error


def _actor(exchange: Exchange) -> str | None:
    actor = exchange.text(b"x-actor")
    if actor is not None and len(actor) > MAX_ACTOR:
        raise Invalid.field(("header", "X-Actor"), f"must have at most {MAX_ACTOR} characters")
    return actor
