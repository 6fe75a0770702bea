"""What clients may send and what they get: each request and answer declared once.

Owns: fields, their rules, and the words for each broken rule. The OpenAPI document is generated from these
declarations. Must not: look at HTTP, decide anything about an entry, or repeat input in an error or a repr.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_LIMIT: Final = 1000
"""Entries on one page of a list."""

DEFAULT_TICKET_SECONDS: Final = 3600
MAX_TICKET_SECONDS: Final = 24 * 3600
"""How long a ticket may open streams."""

# Unicode category Cc: C0, DEL and C1. It has no other members, and never will (Unicode stability policy).
_NO_CONTROL: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"


def none_if_empty(text: object) -> object:
    """Take an empty text for none."""
    return None if text == "" else text


def number_if_decimal(text: object) -> object:
    """Turn a query parameter into its number; text that is none stays text, and the type refuses it."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    return text


def boolean_if_word(text: object) -> object:
    """Turn a query parameter into its truth; text that is neither word stays text, and the type refuses it."""
    return {"true": True, "false": False}.get(text, text) if isinstance(text, str) else text


# Lengths are in code points.
Key = Annotated[str, Field(min_length=1, max_length=255, pattern=_NO_CONTROL, examples=["database/host"])]
Environment = Annotated[
    str, Field(min_length=1, max_length=100, pattern=_NO_CONTROL, examples=["production"])
]
Category = Annotated[str, Field(max_length=100, pattern=_NO_CONTROL, examples=["database"])]
Prefix = Annotated[str, Field(max_length=255, pattern=_NO_CONTROL, examples=["database/"])]
Mode = Literal["short", "full"]
# Never in a repr: it is the secret. `Any`, because only what `strict_json` has read comes here.
Value = Annotated[Any, Field(repr=False, description="Any JSON value, null too")]
Time = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-31T12:00:00.000000Z"])
]
Count = Annotated[int, Field(ge=0)]


class RequestModel(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)


class EntryCreate(RequestModel):
    """Body of `POST /configs`. No category: absent, null or empty."""

    key: Key
    value: Value
    environment: Environment
    category: Annotated[Category | None, AfterValidator(none_if_empty)] = None


class EntryUpdate(RequestModel):
    """Body of `PUT /configs/{key}`. Category: None (absent or null) keeps the old one, empty removes it."""

    value: Value
    category: Category | None = None


ValueBody = EntryCreate | EntryUpdate
"""The bodies that hold a value."""


class KeyPath(RequestModel):
    """The end of a path that names an entry."""

    key: Key


At = Annotated[
    Annotated[str, Field(max_length=4096)] | None,
    Field(
        description="As of then: a position, which always means the same events, or a time in RFC 3339",
        examples=["2026-01-31T12:00:00Z"],
    ),
]


class EnvironmentQuery(RequestModel):
    """Query of a call on one entry."""

    environment: Environment


class EntryQuery(EnvironmentQuery):
    """Query of `GET /configs/{key}`."""

    mode: Mode = "short"
    at: At = None


class ListQuery(RequestModel):
    """Query of `GET /configs`; what is absent matches everything."""

    category: Category | None = None
    environment: Environment | None = None
    prefix: Annotated[Prefix | None, Field(description="Literal beginning of the key")] = None
    mode: Mode = "short"
    at: At = None
    limit: Annotated[
        Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None,
        BeforeValidator(number_if_decimal),
        Field(description="Entries on this page; without it the answer has all"),
    ] = None
    cursor: Annotated[
        Annotated[str, Field(max_length=4096)] | None,
        Field(description="Where the page before ended, from its `Link`"),
    ] = None


class StreamFilterQuery(RequestModel):
    """What a stream is to be told of; what is absent matches everything."""

    key: Annotated[Key | None, BeforeValidator(none_if_empty)] = None
    environment: Annotated[Environment | None, BeforeValidator(none_if_empty)] = None
    category: Annotated[Category | None, BeforeValidator(none_if_empty)] = None


class StreamQuery(StreamFilterQuery):
    """Query of `GET /sse/subscribe`."""

    after: Annotated[str | None, Field(description="A position to go on from; `Last-Event-ID` beats it")] = (
        None
    )
    begin: Annotated[
        Literal["snapshot"] | None,
        Field(alias="from", description="`snapshot`: first the matching entries as they stand"),
    ] = None
    values: Annotated[
        bool, BeforeValidator(boolean_if_word), Field(description="With the values that X-User-Key opens")
    ] = False
    ticket: Annotated[
        str | None, Field(description="From `POST /sse/tickets`; stands for X-API-Key here, and only here")
    ] = None


class TicketQuery(StreamFilterQuery):
    """Query of `POST /sse/tickets`: the filters, where the body does not say them."""


class TicketRequest(StreamFilterQuery):
    """Body of `POST /sse/tickets`: the filters the ticket is bound to, and how long it opens streams."""

    expires_in: Annotated[int, Field(ge=1, le=MAX_TICKET_SECONDS, description="Seconds")] = (
        DEFAULT_TICKET_SECONDS
    )


class EntryShort(BaseModel):
    """An entry without its times."""

    id: Annotated[int, Field(ge=1)]
    key: Key
    category: Category | None
    environment: Environment
    value: Value


class EntryFull(EntryShort):
    """An entry with its times and version."""

    created_at: Time
    updated_at: Time
    version: Annotated[int, Field(ge=1)]


class DeleteAnswer(BaseModel):
    """Says what was deleted."""

    message: str


class ClusterInfo(BaseModel):
    """How the cluster is, as anybody may know; counts include this node."""

    enabled: Literal[True]
    mode: Literal["replica"]
    node_id: str
    total_nodes: Count
    healthy_nodes: Count


class ServiceInfo(BaseModel):
    """What serves here."""

    name: str
    service: str
    version: str
    description: str
    status: Literal["operational"]
    features: list[str]
    cluster_enabled: bool
    cluster: ClusterInfo | None


class Health(BaseModel):
    """The process serves."""

    status: Literal["healthy"]


class Ready(BaseModel):
    """The log can be written."""

    ready: Literal[True]


class Statistics(BaseModel):
    """What the node holds, whoever can open it; entries without a category count as "uncategorized"."""

    total_keys: Count
    total_categories: Count
    total_environments: Count
    keys_by_category: dict[str, Count]
    keys_by_environment: dict[str, Count]


class TicketAnswer(BaseModel):
    """A ticket, and when it and the streams it opened end."""

    ticket: str
    expires_at: Time


class StreamHealth(BaseModel):
    """Streams are served."""

    status: Literal["healthy"]
    active_subscriptions: Count
    total_events_sent: Count


class StreamFilters(BaseModel):
    """What a stream is told of."""

    key: str | None
    environment: str | None
    category: str | None


class StreamSeen(BaseModel):
    """A stream that is open."""

    subscription_id: str
    filters: StreamFilters
    created_at: Time
    duration_seconds: float
    queue_size: Annotated[Count, Field(description="Events of the log it has not passed yet")]
    queue_max_size: None


class StreamCounts(BaseModel):
    """How many streams there were and are."""

    total_created: Count
    active: Count
    closed: Count
    wildcard: Count
    by_key: dict[str, Count]
    by_environment: dict[str, Count]
    by_category: dict[str, Count]
    last_created_at: Time | None


class StreamEvents(BaseModel):
    """What they were sent."""

    total_sent: Count
    by_type: dict[str, Count]
    dropped_queue_full: Count
    last_sent_at: Time | None


class StreamConnections(BaseModel):
    """How their connections fared."""

    keepalive_sent: Count
    disconnections_detected: Count


class StreamPerformance(BaseModel):
    """How long they lasted, and how far one ever was behind."""

    average_subscription_duration_seconds: float
    max_queue_size_reached: Count


class StreamStatistics(BaseModel):
    """What the streams of the node have done, all workers together."""

    subscriptions: StreamCounts
    events: StreamEvents
    connection_health: StreamConnections
    performance: StreamPerformance


class ReadOperations(BaseModel):
    """Reads of one entry, by how they ended."""

    success: Count
    not_found: Count
    error: Count


class WriteOperations(BaseModel):
    """Writes of one entry, by what they were and how they ended."""

    create_success: Count
    create_error: Count
    update_success: Count
    update_not_found: Count
    update_error: Count
    delete_success: Count
    delete_not_found: Count
    delete_error: Count


class EncryptionOperations(BaseModel):
    """Values sealed and opened for callers."""

    encrypt: Count
    decrypt: Count


class OperationStatistics(BaseModel):
    """What the node has done since it was started."""

    read_operations: ReadOperations
    write_operations: WriteOperations
    encryption_operations: EncryptionOperations
    total_http_requests: Annotated[dict[str, Count], Field(examples=[{"GET_/configs/{key}_200": 1}])]


class ProblemField(BaseModel):
    """One wrong field."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="A sentence a person can act on")]
    errors: Annotated[list[ProblemField], Field(default_factory=list, min_length=1)]


class NotReady(Problem):
    """Why the node cannot take writes."""

    ready: Literal[False]
    reasons: list[str]
