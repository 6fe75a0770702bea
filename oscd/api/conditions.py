"""Owns entity tags in headers (RFC 9110 §8.8.3, §13.1). Must not compare them with an entry: the rules do."""

from __future__ import annotations

import re

from oscd.api.exchange import Exchange
from oscd.commands import Preconditions
from oscd.errors import BadRequest
from oscd.events.event import EventRef

_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*')
_MAX_TAGS = 100


def entity_tag(winner: EventRef) -> bytes:
    """The strong ETag of an entry whose winning event this is."""
    return f'"{winner.tag}"'.encode("ascii")


def preconditions_of(exchange: Exchange) -> Preconditions:
    """What `If-Match` and `If-None-Match` ask for.

    Raises:
        BadRequest: One is no list of entity tags.
    """
    return Preconditions(
        if_match=_tags(exchange.text(b"if-match"), "If-Match", weak_counts=False),
        if_none_match=_tags(exchange.text(b"if-none-match"), "If-None-Match", weak_counts=True),
    )


def _tags(text: str | None, name: str, *, weak_counts: bool) -> frozenset[str] | None:
    """The opaque tags; a weak one never matches where comparison is strong."""
    if text is None:
        return None
    if text.strip() == "*":
        return frozenset({"*"})
    tags = set[str]()
    for part in text.split(",", _MAX_TAGS):
        match = _TAG.fullmatch(part)
        if match is None:
            raise BadRequest(f'{name}: must be * or entity tags such as "abc", with their quotes.')
        if weak_counts or not match[1]:
            tags.add(match[2])
    return frozenset(tags)
