"""Every error oscd raises on purpose, as one tree.

    OscdError
    ├── StartRefused          the process must not start: one line, exit status 1
    ├── LogCorrupt            stored bytes are not what was appended
    └── RequestRefused        the caller gets a problem+json answer
        ├── BadRequest            400
        │   └── AlreadyExists     400 (the published client maps the words "already exists")
        ├── NotAuthorized         401  user key missing, short, or not the entry's
        ├── Forbidden             403  API key, host or origin
        │   └── NotAPeer              403  the cluster key
        ├── NotFound              404
        ├── MethodNotAllowed      405
        ├── BodyTooSlow           408
        ├── Conflict              409  what the caller holds contradicts what this node holds
        ├── PreconditionFailed    412
        ├── BodyTooLarge          413
        ├── UnsupportedMedia      415
        ├── Invalid               422  well-formed but not acceptable; carries the fields
        ├── TooManyRequests       429  retry helps
        ├── InternalError         500
        └── Unavailable           503  retry helps

Owns: status codes, titles, retry advice. Must not: know an HTTP library or repeat a value, a key or a path of
the server in a `detail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class OscdError(Exception):
    """Root of the tree; `str()` of it is a sentence for a person."""


class StartRefused(OscdError):
    """The process must not start. The message is one line and says what to do."""


class LogCorrupt(OscdError):
    """Bytes in the log are not the bytes that were appended."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: where it is (`("body", "key")`) and what would be right, never its value."""

    loc: tuple[str | int, ...]
    msg: str


class RequestRefused(OscdError):
    """A request that is answered with problem+json.

    Attributes:
        status: HTTP status code.
        title: The same few words for every refusal of this class.
        kind: Value of the `error_type` metric label.
        retry_after: Seconds after which a retry may succeed, or None where a retry does not help.
        errors: The wrong fields, where there are any.
    """

    status: ClassVar[int]
    title: ClassVar[str]
    kind: ClassVar[str]
    retry_after: int | None = None
    errors: tuple[FieldError, ...] = ()

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(RequestRefused):
    """Malformed: not HTTP, JSON or header syntax as it should be."""

    status, title, kind = 400, "Bad request", "bad_request"


class AlreadyExists(BadRequest):
    """A create of an entry that exists, whoever owns it."""

    title, kind = "Already exists", "already_exists"


class NotAuthorized(RequestRefused):
    """The user key is missing, too short, or does not open the entry."""

    status, title, kind = 401, "Not authorized", "auth_error"


class Forbidden(RequestRefused):
    """The API key is missing or wrong, or the page that asks may not."""

    status, title, kind = 403, "Forbidden", "auth_error"


class NotAPeer(Forbidden):
    """The cluster key is missing or wrong: whoever asks is no node of this cluster."""

    title = "Not a peer"


class NotFound(RequestRefused):
    """No such entry or no such route."""

    status, title, kind = 404, "Not found", "not_found"


class MethodNotAllowed(RequestRefused):
    """The route exists, the method does not."""

    status, title, kind = 405, "Method not allowed", "method_not_allowed"


class BodyTooSlow(RequestRefused):
    """The body did not arrive in time."""

    status, title, kind = 408, "Request timeout", "timeout"


class Conflict(RequestRefused):
    """What the caller holds contradicts what this node holds; a person has to decide which of them is right."""

    status, title, kind = 409, "Conflict", "conflict"


class PreconditionFailed(RequestRefused):
    """`If-Match` or `If-None-Match` does not hold."""

    status, title, kind = 412, "Precondition failed", "precondition_failed"


class BodyTooLarge(RequestRefused):
    """The body exceeds the configured limit."""

    status, title, kind = 413, "Body too large", "too_large"


class UnsupportedMedia(RequestRefused):
    """The body is not JSON by its own declaration."""

    status, title, kind = 415, "Unsupported media type", "unsupported_media"


class Invalid(RequestRefused):
    """Well-formed, but a field's value is not acceptable."""

    status, title, kind = 422, "Invalid", "validation_error"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    @classmethod
    def field(cls, loc: tuple[str | int, ...], msg: str) -> Invalid:
        """Refuse one field."""
        return cls(f"{loc[-1]}: {msg}", [FieldError(loc, msg)])


class TooManyRequests(RequestRefused):
    """A bounded resource is taken; a later retry may find it free."""

    status, title, kind = 429, "Too many requests", "too_many_requests"
    retry_after = 1


class InternalError(RequestRefused):
    """A fault of ours. The detail says nothing of its cause; the log does."""

    status, title, kind = 500, "Internal error", "internal_error"


class Unavailable(RequestRefused):
    """The log cannot be written or read right now, or the node shuts down.

    Args:
        detail: What is wrong, without a path of the server.
        retry_after: Seconds the client should wait; the published client sleeps it, so 1 or 2.
    """

    status, title, kind = 503, "Service unavailable", "unavailable"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
