"""Refusals out: an error of the tree as an RFC 9457 problem.

Owns: the members and headers of `application/problem+json`. Must not: import a web framework (the raw ASGI
layer answers with it too), choose a status, or add anything to what the error says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from oscd.errors import NotAuthorized, RequestRefused

MEDIA_TYPE: Final = "application/problem+json"

# RFC 9110 §15.5.2 demands a challenge with every 401. No browser knows this scheme, so none asks a password.
_CHALLENGE: Final = b'OSC-User-Key realm="oscd"'


def problem_type(error: type[RequestRefused]) -> str:
    """Name the kind of problem by a URI that stays the same for ever; one title, one type (RFC 9457 §3.1)."""
    return "urn:oscd:problem:" + error.title.lower().replace(" ", "-")


def problem_body(error: RequestRefused, extensions: Mapping[str, object] | None = None) -> bytes:
    """Write the problem as JSON.

    Args:
        error: What was refused; its `detail` is shown as it is.
        extensions: Further members (RFC 9457 §3.2), such as the reasons of `/ready`.
    """
    problem: dict[str, object] = {
        "type": problem_type(type(error)),
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.errors:
        problem["errors"] = [{"loc": field.loc, "msg": field.msg} for field in error.errors]
    if extensions:
        problem.update(extensions)
    return orjson.dumps(problem)


def problem_headers(error: RequestRefused) -> list[tuple[bytes, bytes]]:
    """List the headers the problem needs; its length and those of the connection are the caller's."""
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if isinstance(error, NotAuthorized):
        headers.append((b"www-authenticate", _CHALLENGE))
    return headers
