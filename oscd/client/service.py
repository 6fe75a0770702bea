"""What a node can be asked, typed: each method is one use case of the API (contract §4, §5).

Owns: paths, queries and bodies. Must not know a terminal, nor decide anything about an entry.

Every method raises `Unreachable` where there was no whole answer, `AnswerUnreadable` where it is not a node's, and
the `Refusal` that the node gave; only what is particular to one is said there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, quote, urlsplit

import httpx

from oscd.client.cluster import (
    Conflict,
    Distribution,
    Status,
    conflicts_of,
    distribution_of,
    status_of,
)
from oscd.client.entries import (
    Entry,
    Json,
    Version,
    as_list,
    entry_of,
    member,
    read_json,
    version_of,
)
from oscd.client.errors import AnswerUnreadable, UsageRefused
from oscd.client.target import Target
from oscd.client.wire import EVENT_STREAM, Answer, Call, Wire

PAGE_ENTRIES: Final = 500
"""Entries a list is asked for at a time; a node gives fewer where they are large."""

PAGE_OPENED_VERSIONS: Final = 50
"""Versions with their values, each of which may be large."""

CLUSTER_ANSWER_SECONDS: Final = 5.0
"""Without a byte; what a node knows of its cluster it need not look for, and a person waits."""

ANY: Final = "*"
"""As `if_none_match`: only where there is no such entry now."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries; None, and an empty prefix, match all.

    Attributes:
        prefix: The literal beginning of the key.
    """

    environment: str | None = None
    category: str | None = None
    prefix: str = ""


class Service:
    """A node to be asked; close it, or use it in a `with`.

    Raises:
        UsageRefused: A file of certificates cannot be used.
    """

    def __init__(self, target: Target, *, transport: httpx.BaseTransport | None = None) -> None:
        self._wire = Wire(target, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._wire.close()

    @property
    def url(self) -> str:
        """The node's address."""
        return self._wire.url

    def get(self, environment: str, key: str, *, at: str | None = None) -> Entry:
        """Read an entry.

        Args:
            at: As it stood then: a position or an RFC 3339 time.

        Raises:
            EntryMissing: There is none.
            AccessRefused: The user key is not the entry's.
        """
        query = {"environment": environment, "mode": "full"} | ({} if at is None else {"at": at})
        return _entry(self._wire.ask(Call("GET", _path("configs", key), query)))

    def entries(self, filters: Filters, *, at: str | None = None) -> Iterator[Entry]:
        """Read the entries that the user key opens, page by page, by environment and key."""
        wanted = {
            "environment": filters.environment,
            "category": filters.category,
            "prefix": filters.prefix or None,
            "at": at,
        }
        query = {name: text for name, text in wanted.items() if text is not None}
        page: Mapping[str, str] | None = query | {"mode": "full", "limit": str(PAGE_ENTRIES)}
        while page is not None:
            answer = self._wire.ask(Call("GET", "/configs", page))
            for document in as_list(read_json(answer.content)):
                yield entry_of(document, position=answer.headers.get("x-osc-position"))
            page = _next_page(answer, page)

    def create(self, environment: str, key: str, value: Json, *, category: str | None = None) -> Entry:
        """Make an entry.

        Raises:
            Conflict: It is there already, whoever owns it.
        """
        body: dict[str, Json] = {"key": key, "environment": environment, "value": value}
        body |= {} if category is None else {"category": category}
        return _entry(self._wire.ask(Call("POST", "/configs", body=body)))

    def put(
        self,
        environment: str,
        key: str,
        value: Json,
        *,
        category: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Entry:
        """Give an entry a value.

        Args:
            category: None keeps the old one, "" removes it.
            if_match: Only where the entry has this tag.
            if_none_match: `ANY`: only where there is none yet.

        Raises:
            EntryMissing: There is none, and `if_none_match` did not allow to create it.
            Conflict: A condition does not hold.
            AccessRefused: The user key is not the entry's.
        """
        body = {"value": value} | ({} if category is None else {"category": category})
        query = {"environment": environment}
        call = Call("PUT", _path("configs", key), query, _conditions(if_match, if_none_match), body)
        return _entry(self._wire.ask(call))

    def delete(self, environment: str, key: str, *, if_match: str | None = None) -> str:
        """Delete an entry; gives the position of the write.

        Raises:
            EntryMissing: There is none.
            Conflict: The condition does not hold.
            AccessRefused: The user key is not the entry's.
        """
        call = Call(
            "DELETE", _path("configs", key), {"environment": environment}, _conditions(if_match, None)
        )
        return self._wire.ask(call).headers.get("x-osc-position", "")

    def history(self, environment: str, key: str, *, values: bool = False) -> Iterator[Version]:
        """Read the versions of an entry, the newest first, page by page.

        Args:
            values: With those that the user key opens.

        Raises:
            EntryMissing: There never was such an entry.
        """
        limit = PAGE_OPENED_VERSIONS if values else PAGE_ENTRIES
        query = {"environment": environment, "limit": str(limit)} | ({"values": "true"} if values else {})
        page: dict[str, str] | None = query
        while page is not None:
            answer = self._wire.ask(Call("GET", _path("history", key), page, with_user_key=values))
            versions = member(read_json(answer.content), "versions", list)
            # A page is oldest first; the first page is the newest.
            yield from map(version_of, reversed(versions))
            page = _next_page(answer, page)

    def rollback(
        self,
        environment: str,
        key: str,
        *,
        version: int | None = None,
        position: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Entry:
        """Give an entry the value and category it had, as a new version; a deleted one too.

        Args:
            version: The newest event of that number.
            position: Instead: that very event, as `history` gave it.

        Raises:
            EntryMissing: There is no such version.
            Conflict: A condition does not hold.
            AccessRefused: The user key does not open both.
        """
        body: dict[str, Json] = {"position": position} if version is None else {"version": version}
        query = {"environment": environment}
        call = Call("POST", _path("rollback", key), query, _conditions(if_match, if_none_match), body)
        return _entry(self._wire.ask(call))

    def cluster_status(self) -> Status:
        """How the node sees its cluster."""
        return status_of(self._of_cluster("status"))

    def distribution(self) -> Distribution:
        """What the nodes of its cluster hold."""
        return distribution_of(self._of_cluster("distribution"))

    def conflicts(self, limit: int) -> list[Conflict]:
        """The newest writes that met on it, the newest first.

        Args:
            limit: How many at most, 1 to 1000.
        """
        return conflicts_of(self._of_cluster("conflicts", {"limit": str(limit)}))

    def _of_cluster(self, what: str, query: Mapping[str, str] = MappingProxyType({})) -> Json:
        call = Call(
            "GET", f"/cluster/{what}", query, with_user_key=False, answer_seconds=CLUSTER_ANSWER_SECONDS
        )
        return read_json(self._wire.ask(call).content)

    @contextmanager
    def stream(
        self, query: Mapping[str, str], last_event_id: str | None, *, values: bool
    ) -> Iterator[Iterator[bytes]]:
        """Open one stream of changes; `subscription.py` makes one without end of them.

        Args:
            query: Of `GET /sse/subscribe`.
            values: Whether the user key goes along.
        """
        headers = {"Accept": EVENT_STREAM}
        headers |= {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with self._wire.stream(Call("GET", "/sse/subscribe", query, headers, with_user_key=values)) as parts:
            yield parts


def _path(root: str, key: str) -> str:
    """Everything in a key is encoded, dots too: a segment `..` would be taken out on the way (RFC 3986 §5.2.4).

    Raises:
        UsageRefused: The key is no text, or empty.
    """
    try:
        encoded = quote(key, safe="").replace(".", "%2E")
    except UnicodeEncodeError:
        encoded = ""
    if not encoded:
        raise UsageRefused("the key is empty or no UTF-8; accepted is 1 to 255 characters")
    return f"/{root}/{encoded}"


def _conditions(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    given = {"If-Match": if_match, "If-None-Match": if_none_match}
    return {name: tag for name, tag in given.items() if tag is not None}


def _entry(answer: Answer) -> Entry:
    headers = answer.headers
    return entry_of(
        read_json(answer.content), tag=headers.get("etag"), position=headers.get("x-osc-position")
    )


def _next_page(answer: Answer, page: Mapping[str, str]) -> dict[str, str] | None:
    """The query of the next page, from `Link` (RFC 8288); where it leads to is not the node's to say.

    Raises:
        AnswerUnreadable: It leads to the same page again.
    """
    link = answer.headers.get("link")
    if link is None:
        return None
    target, _, parameters = link.removeprefix("<").partition(">")
    if 'rel="next"' not in parameters:
        return None
    query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    if query == page:
        raise AnswerUnreadable("the answer's next page is the same page")
    return query
