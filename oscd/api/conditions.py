"""Owns entity tags in headers (RFC 9110 §8.8.3, §13.1). Must not compare them with an entry: the rules do."""

from __future__ import annotations

import re

from oscd.api.exchange import Exchange
from oscd.commands import Preconditions
from oscd.errors import BadRequest
from oscd.projections.entry import Entry

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# A list may have empty elements (RFC 9110 §5.6.1.2), and a tag may hold a comma.
_TAGS = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,[ \t,]*{_TAG.pattern})*[ \t,]*")


def entity_tag(entry: Entry) -> str:
    """The strong ETag of an entry in this state."""
    return f'"{entry.tag}"'


def preconditions_of(exchange: Exchange) -> Preconditions:
    """What `If-Match` and `If-None-Match` ask for.

    Raises:
        BadRequest: One is no list of entity tags.
    """
    return Preconditions(
        if_match=_tags(_text(exchange, b"if-match"), "If-Match", weak_counts=False),
        if_none_match=_tags(_text(exchange, b"if-none-match"), "If-None-Match", weak_counts=True),
    )


def _text(exchange: Exchange, name: bytes) -> str | None:
    # An empty one is not the same as none: it would turn a compare-and-swap into a plain write.
    value = exchange.headers.get(name)
    return None if value is None else value.decode("latin-1")


def _tags(text: str | None, name: str, *, weak_counts: bool) -> frozenset[str] | None:
    """The opaque tags; a weak one never matches where comparison is strong."""
    if text is None:
        return None
    if text.strip() == "*":
        return frozenset({"*"})
    if not _TAGS.fullmatch(text):
        raise BadRequest(f'{name}: must be * or entity tags such as "abc", with their quotes.')
    found = [(weak, tag) for weak, tag in _TAG.findall(text) if weak_counts or not weak]
    # The tag "*" is a tag like any other, not the wildcard; no entry of oscd has it.
    return frozenset(tag for _, tag in found if tag != "*")
