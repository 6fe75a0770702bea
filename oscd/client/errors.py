"""Every error of the client side, as one tree of two families.

    ClientError
    ├── LocalError             the node has refused nothing
    │   ├── UsageRefused           what was given cannot be used; nothing was sent
    │   ├── Unreachable            no connection, no trust in it, cut off, or silence
    │   ├── AnswerUnreadable       what answers does not speak as a node does
    │   ├── VersionMissing         the history has no such version
    │   └── VersionSealed          the user key does not open that version
    └── Refusal                the node's own answer: its status and its `detail`
        ├── AccessRefused          401, 403
        ├── EntryMissing           404
        ├── Conflict               412, and 400 where the entry already exists
        └── NodeUnavailable        429, 502, 503, 504: a later try may succeed

Owns: the tree. Must not hold a key, a value or a request: whoever raises one of
these outside `except` makes sure that no exception of the HTTP library, which holds the request, rides along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from oscd.errors import OscdError


class ClientError(OscdError):
    """Root of the tree; `str()` of it is a sentence for a person.

    Attributes:
        kind: One word for machines; it stays the same for ever.
    """

    kind: ClassVar[str]


class LocalError(ClientError):
    """Found out on this side."""


class UsageRefused(LocalError):
    """An option, a variable or a file cannot be used; nothing was sent."""

    kind = "usage"


class Unreachable(LocalError):
    """There was no whole answer."""

    kind = "unreachable"


class AnswerUnreadable(LocalError):
    """There was an answer, but not one of a node of oscd."""

    kind = "unreadable"


NO_NODE: Final = "is OSC_URL the address of a node of oscd?"
"""Ends the sentence of an `AnswerUnreadable` that another address may cure."""


class VersionMissing(LocalError):
    """The history was read, and has no such version."""

    kind = "not_found"


class VersionSealed(LocalError):
    """The history was read, and another user key sealed that version."""

    kind = "not_authorized"


class Refusal(ClientError):
    """A node answered no.

    Attributes:
        status: The HTTP status.
        detail: The node's sentence.
        fields: A sentence for each wrong field, where several were.
    """

    kind = "refused"

    def __init__(self, status: int, detail: str, fields: Sequence[str] = ()) -> None:
        super().__init__("; ".join([detail, *fields]))
        self.status = status
        self.detail = detail
        self.fields = tuple(fields)


class AccessRefused(Refusal):
    """The API key or the user key is missing or wrong."""

    kind = "not_authorized"


class EntryMissing(Refusal):
    """There is no such entry, or version of it."""

    kind = "not_found"


class Conflict(Refusal):
    """The entry is not in the state the caller named."""

    kind = "conflict"


class NodeUnavailable(Refusal):
    """The node, or what stands before it, cannot answer now."""

    kind = "unavailable"
