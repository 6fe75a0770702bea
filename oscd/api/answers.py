"""Owns the bytes of answers: entries as JSON, times, headers. Must not read or decide anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson
from quart import Response
from werkzeug.datastructures import Headers

from oscd.api.models import Mode
from oscd.api.problems import problem_body, problem_headers
from oscd.errors import RequestRefused
from oscd.projections.entry import Entry
from oscd.times import rfc3339

# One value may be far larger than a part; the layers below copy what they are given, so they get it in slices.
SLICE_BYTES = 64 * 1024

_DOT_SEGMENTS = frozenset({".", ".."})

NO_STORE = ("Cache-Control", "no-store")


def json_answer(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, *, store: bool = True
) -> Response:
    """An answer of JSON.

    Args:
        store: Whether caches may keep it; never where it holds a value.
    """
    sent = Headers([("Content-Type", "application/json"), *(headers or {}).items()])
    if not store:
        sent.add(*NO_STORE)
    return Response(body, status, headers=sent)


def json_stream(parts: AsyncIterator[bytes], method: str, headers: Mapping[str, str]) -> Response:
    """An answer of JSON that is made while it is sent.

    Args:
        parts: Pulled one at a time, as the client takes them. What is raised in between ends the connection without
            the answer's end.
    """
    response = Response(b"" if method == "HEAD" else _slices(parts), 200, headers=dict(headers))
    response.headers["Content-Type"] = "application/json"
    response.headers.pop("Content-Length", None)  # Of a HEAD; a GET here has none either.
    response.timeout = None  # A long answer is bounded part by part, by the edge, and not as a whole.
    return response


async def _slices(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        for begin in range(0, len(part), SLICE_BYTES):
            yield part[begin : begin + SLICE_BYTES]


def not_modified(headers: Mapping[str, str]) -> Response:
    """304, with nothing that would describe a body (RFC 9110 §15.4.5)."""
    response = Response(b"", 304, headers={**headers, "Cache-Control": "no-store"})
    response.headers.pop("Content-Type", None)
    response.headers.pop("Content-Length", None)
    return response


def problem_answer(refusal: RequestRefused, extensions: Mapping[str, object] | None = None) -> Response:
    """An answer of problem+json."""
    response = Response(problem_body(refusal, extensions), refusal.status)
    for name, value in problem_headers(refusal):
        response.headers.set(name.decode("latin-1"), value.decode("latin-1"))
    return response


def entry_json(entry: Entry, value_json: bytes, mode: Mode) -> bytes:
    """An entry with its value; the value's own JSON goes in as it is."""
    document: dict[str, Any] = {
        "id": entry.id,
        "key": entry.key,
        "category": entry.category,
        "environment": entry.environment,
        "value": orjson.Fragment(value_json),
    }
    if mode == "full":
        document["created_at"] = rfc3339(entry.created_at)
        document["updated_at"] = rfc3339(entry.updated_at)
        document["version"] = entry.version
    return orjson.dumps(document)


def entry_location(entry: Entry) -> str:
    """The reference under which an entry can be read; a `/` in its key stays one where it may.

    A client removes the segments `.` and `..` from a reference (RFC 3986 §5.2.4), so a key with such segments
    becomes a single one; a key that is nothing else has its dots encoded, which most clients leave alone.
    """
    key = quote(entry.key)
    if not _DOT_SEGMENTS.isdisjoint(entry.key.split("/")):
        key = key.replace(".", "%2E") if entry.key in _DOT_SEGMENTS else key.replace("/", "%2F")
    return f"/configs/{key}?environment={quote(entry.environment, safe='')}"
