"""A node's no, from its status and problem+json to an error of the tree.

Owns: which status is which error, and that its words are safe for a terminal. Must not repeat a page that is none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from oscd.client.entries import Json
from oscd.client.errors import AccessRefused, Conflict, EntryMissing, NodeUnavailable, Refusal
from oscd.shown import shown

_MAX_DETAIL: Final = 1000
_MAX_FIELDS: Final = 20
_BY_STATUS: dict[int, type[Refusal]] = {
    401: AccessRefused,
    403: AccessRefused,
    404: EntryMissing,
    412: Conflict,
    429: NodeUnavailable,
    502: NodeUnavailable,
    503: NodeUnavailable,
    504: NodeUnavailable,
}


def refusal_of(status: int, content: bytes) -> Refusal:
    """The error that an answer is, in the node's words; a proxy's page is not repeated."""
    if 300 <= status < 400:
        return _error(status, f"redirected (status {status}), which is not followed; correct OSC_URL")
    document: Json = None
    with suppress(ValueError, RecursionError):
        document = json.loads(content)
    detail = document.get("detail") if isinstance(document, dict) else None
    if not isinstance(detail, str):
        return _error(status, f"answered with status {status} and nothing that oscd would say")
    errors = document.get("errors")
    # One wrong field is in the detail already.
    fields = errors if isinstance(errors, list) and len(errors) > 1 else []
    return _error(status, _shown(detail[:_MAX_DETAIL]), [*map(_field, fields[:_MAX_FIELDS])])


def _field(error: Json) -> str:
    """A sentence for one wrong field."""
    if not isinstance(error, dict) or not isinstance(error.get("loc"), list):
        return "a field is wrong"
    return _shown(f"{'.'.join(map(str, error['loc']))}: {error.get('msg')}"[:_MAX_DETAIL])


def _shown(text: str) -> str:
    return shown(text, keep="\t")


def _error(status: int, detail: str, fields: Sequence[str] = ()) -> Refusal:
    kind = _BY_STATUS.get(status, Refusal)
    # The published client goes by these words, too (contract §3).
    if status == 400 and "already exists" in detail:
        kind = Conflict
    return kind(status, detail, fields)
