"""Owns the bytes that are sent, prepared once. Must not send them."""

from __future__ import annotations

import json

from bench.fill import ENVIRONMENT, USER_KEY, VALUE, key
from bench.load import NUMBER

_NUMBER = NUMBER.decode()


def head(method: str, target: str, user_key: str = USER_KEY) -> str:
    """A request without a body, with the headers a client of oscd sends."""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        f"User-Agent: bench\r\nX-User-Key: {user_key}\r\n\r\n"
    )


def guarded(request: str, api_key: str) -> str:
    """The same request with an API key."""
    return request.replace("\r\n", f"\r\nX-API-Key: {api_key}\r\n", 1)


def with_body(method: str, target: str, document: object) -> str:
    """A request with a body of JSON."""
    body = json.dumps(document)
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head(method, target).removesuffix("\r\n") + headers + body


def create(prefix: str) -> str:
    """A create of the entry `prefix-NUMBER`."""
    document = {"key": f"{prefix}-{_NUMBER}", "value": VALUE, "environment": ENVIRONMENT, "category": "c"}
    return with_body("POST", "/configs", document)


READ = head("GET", f"/configs/entry-{_NUMBER}?environment={ENVIRONMENT}")
UPDATE = with_body("PUT", f"/configs/entry-{_NUMBER}?environment={ENVIRONMENT}", {"value": VALUE})
# Entry 1, as the key of entry 0 would be taken for the number.
FLOOD = head("GET", f"/configs/{key(1)}?environment={ENVIRONMENT}", f"nobody's key {_NUMBER}")

BARE_GET = head("GET", "/entry")
BARE_POST = create("echo").replace("/configs", "/echo", 1)
