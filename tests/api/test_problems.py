"""A refusal becomes an RFC 9457 problem with everything a client reads and nothing more."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from oscd.api.problems import problem_body, problem_headers, problem_type
from oscd.errors import (
    AlreadyExists,
    FieldError,
    Invalid,
    NotAuthorized,
    NotFound,
    RequestRefused,
    TooManyRequests,
    Unavailable,
)


def family(kind: type[RequestRefused]) -> Iterator[type[RequestRefused]]:
    for child in kind.__subclasses__():
        yield child
        yield from family(child)


# Those of the tree in `errors.py`; what others derive from them says the same on the wire.
REFUSALS = tuple(kind for kind in family(RequestRefused) if kind.__module__ == RequestRefused.__module__)


def test_a_problem_has_the_four_members() -> None:
    """Type, title, status and a string detail are always there; errors only where fields are wrong."""
    assert orjson.loads(problem_body(AlreadyExists("Configuration already exists"))) == {
        "type": "urn:oscd:problem:already-exists",
        "title": "Already exists",
        "status": 400,
        "detail": "Configuration already exists",
    }


def test_wrong_fields_are_listed() -> None:
    """Each wrong field is named with its place and what would be right."""
    problem = orjson.loads(
        problem_body(
            Invalid("two", [FieldError(("body", "key"), "is required"), FieldError(("body", 0), "no")])
        )
    )
    assert problem["errors"] == [
        {"loc": ["body", "key"], "msg": "is required"},
        {"loc": ["body", 0], "msg": "no"},
    ]


def test_further_members_stand_beside_the_problem() -> None:
    """`/ready` says its reasons in the problem itself."""
    problem = orjson.loads(problem_body(Unavailable("not ready"), {"ready": False, "reasons": ["disk full"]}))
    assert (problem["status"], problem["ready"], problem["reasons"]) == (503, False, ["disk full"])


def test_the_types_are_stable_and_distinct() -> None:
    """A client may switch on the type: each class has its own, and this list only grows."""
    assert sorted(problem_type(kind).removeprefix("urn:oscd:problem:") for kind in REFUSALS) == [
        "already-exists",
        "bad-request",
        "body-too-large",
        "conflict",
        "forbidden",
        "internal-error",
        "invalid",
        "method-not-allowed",
        "not-a-peer",
        "not-authorized",
        "not-found",
        "precondition-failed",
        "request-timeout",
        "service-unavailable",
        "too-many-requests",
        "unsupported-media-type",
    ]


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_refusal_is_an_uncached_problem(kind: type[RequestRefused]) -> None:
    """Whatever the refusal: the media type says problem, no cache keeps it, the body repeats its status."""
    headers = dict(problem_headers(kind("why")))
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"cache-control"] == b"no-store"
    assert orjson.loads(problem_body(kind("why")))["status"] == kind.status


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(TooManyRequests("later"), b"1"), (Unavailable("later", retry_after=2), b"2"), (NotFound("no"), None)],
)
def test_retry_after_is_sent_where_a_retry_helps(error: RequestRefused, seconds: bytes | None) -> None:
    """The published client sleeps what Retry-After says, so it is there exactly where waiting helps."""
    assert dict(problem_headers(error)).get(b"retry-after") == seconds


@pytest.mark.parametrize("kind", REFUSALS)
def test_only_a_401_carries_a_challenge(kind: type[RequestRefused]) -> None:
    """RFC 9110 §15.5.2: a 401 names a scheme; ours is one that no browser asks a password for."""
    challenge = dict(problem_headers(kind("why"))).get(b"www-authenticate")
    assert (challenge is not None) == (kind.status == 401)
    assert NotAuthorized.status == 401
