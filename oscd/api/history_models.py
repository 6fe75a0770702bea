"""What clients may ask of the past and what they get; see `models.py`."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, Field

from oscd.api.models import (
    MAX_LIMIT,
    Category,
    Count,
    EnvironmentQuery,
    Key,
    RequestModel,
    StreamFilterQuery,
    Time,
    Value,
    boolean_if_word,
    number_if_decimal,
)

DEFAULT_EVENTS: Final = 100
"""Events on one page, where the caller does not say."""

PositionText = Annotated[str, Field(max_length=4096, description="Opaque; valid on every node")]
_Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
_AtLeastOne = Annotated[int, Field(ge=1, le=2**63 - 1)]


class HistoryQuery(EnvironmentQuery):
    """Query of `GET /history/{key}`."""

    values: Annotated[
        bool, BeforeValidator(boolean_if_word), Field(description="With the values that X-User-Key opens")
    ] = False
    limit: Annotated[
        _Limit | None,
        BeforeValidator(number_if_decimal),
        Field(description="Only so many, the newest; without it the answer has all"),
    ] = None
    cursor: Annotated[
        PositionText | None, Field(description="Where the page before ended, from its `Link`")
    ] = None


class RollbackRequest(RequestModel):
    """Body of `POST /rollback/{key}`: which version, by one of the two."""

    version: Annotated[_AtLeastOne | None, Field(description="The newest of this number")] = None
    position: Annotated[PositionText | None, Field(description="As `/history` gave it")] = None


class EventsQuery(StreamFilterQuery):
    """Query of `GET /events`."""

    after: Annotated[PositionText | None, Field(description="Where the page before ended: its `next`")] = None
    limit: Annotated[_Limit, BeforeValidator(number_if_decimal)] = DEFAULT_EVENTS


class VersionAnswer(BaseModel):
    """What one event left of an entry."""

    version: Count
    type: Annotated[str, Field(examples=["updated"])]
    timestamp: Annotated[Time, Field(description="When it was appended, by the clock of the log")]
    created_at: Time
    updated_at: Time
    category: Category | None
    node_id: Annotated[str, Field(description="Of the node that wrote it")]
    position: PositionText
    actor: Annotated[str | None, Field(description="Who the caller said to be")]
    superseded: Annotated[bool, Field(description="Whether it lost to a concurrent write")]
    value: Annotated[Value, Field(description="Only where it was asked for and the key opens it")] = None


class HistoryAnswer(BaseModel):
    """The versions of an entry, oldest first, deletes and earlier lives included."""

    key: Key
    environment: str
    versions: list[VersionAnswer]


class EventAnswer(BaseModel):
    """One event of the log; key, environment and category are null where it is not about an entry."""

    position: PositionText
    offset: Annotated[Count, Field(description="Its place in the log of this node")]
    type: str
    key: str | None
    environment: str | None
    category: str | None
    version: Count
    timestamp: Time
    updated_at: Time
    node_id: str
    incarnation: str
    seq: Count
    actor: str | None
    digest: Annotated[str, Field(description="Of the chain up to and including it, hexadecimal")]
    body_digest: Annotated[
        str | None, Field(description="SHA-256 of what was sealed with it, hexadecimal; null in a delete")
    ]


class EventsAnswer(BaseModel):
    """A page of the log. It may be empty and not the last; the last one has the `next` it was asked for."""

    events: list[EventAnswer]
    next: PositionText
