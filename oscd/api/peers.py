"""Owns the calls that nodes make on each other (contract §8): the salt, and the log as it is written.

Must not let a key that is not the cluster's near either, whatever the guard thought of the path, nor let anybody set
anything: a node takes in what it has asked its configured peers for.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass

import orjson
from quart import Response

from oscd.api.answers import NO_STORE, json_answer
from oscd.api.call import Call, Handler
from oscd.api.cluster import Membership
from oscd.api.cluster_models import PullQuery, SaltCompared
from oscd.api.guard import EVENTS_PATH, SALT_PATH
from oscd.api.openapi import Answer, Operation
from oscd.errors import BadRequest, BodyTooLarge, Conflict, Invalid, NotAPeer, NotFound, Unavailable
from oscd.events.cipher import SALT_BYTES
from oscd.events.position import Position, PositionUnreadable, decode_position
from oscd.replication.peers import NODE_HEADER, RUN_HEADER, holds_key
from oscd.replication.ship import Pull
from oscd.replication.wire import CONTENT_TYPE
from oscd.streams.ticket import credential

OCTETS = "application/octet-stream"

_HEADERS = ("X-Request-ID",)
SALT = Operation(
    "GET",
    SALT_PATH,
    "The salt of the cluster, for its nodes",
    {
        200: Answer("The salt", None, _HEADERS, media_type=OCTETS),
        204: Answer("This node has none yet", None, _HEADERS),
    },
    refusals=(BadRequest, NotAPeer, NotFound),
    cluster_key=True,
)
COMPARE_SALT = Operation(
    "POST",
    SALT_PATH,
    "Whether a salt is that of this node; never changes it",
    {200: Answer("It is", SaltCompared, _HEADERS)},
    refusals=(BadRequest, NotAPeer, NotFound, BodyTooLarge, Conflict),
    takes_bytes=True,
    cluster_key=True,
)
EVENTS = Operation(
    "GET",
    EVENTS_PATH,
    "The log from a position on, for its nodes, as it is written",
    {200: Answer("The stream, until it ends", media_type=CONTENT_TYPE)},
    query=PullQuery,
    refusals=(BadRequest, NotAPeer, NotFound, Conflict, Invalid, Unavailable),
    cluster_key=True,
)


@dataclass(frozen=True, slots=True)
class Peers:
    """The handlers, over what one worker ships.

    Attributes:
        cluster_keys: Those accepted now …
        secrets: … and every key of this node, by none of which a peer may call itself.
    """

    membership: Membership
    cluster_keys: Callable[[], Collection[bytes]]
    secrets: Callable[[], Collection[bytes]]

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [(SALT, self.salt), (COMPARE_SALT, self.compare_salt), (EVENTS, self.events)]

    async def salt(self, call: Call) -> Response:
        """`GET /cluster/salt`."""
        _require_peer(call)
        salt = self.membership.known_salt()
        if salt is not None:
            return Response(salt, content_type=OCTETS, headers=dict([NO_STORE]))
        who = {NODE_HEADER: self.membership.node_id, RUN_HEADER: self.membership.run}
        none = Response(b"", 204, headers=dict([NO_STORE]) | who)
        for name in ("Content-Type", "Content-Length"):
            none.headers.pop(name, None)
        return none

    async def compare_salt(self, call: Call) -> Response:
        """`POST /cluster/salt`."""
        _require_peer(call)
        if len(call.octets) != SALT_BYTES:
            raise BadRequest(f"A salt is exactly {SALT_BYTES} bytes; send them as they are.")
        salt = self.membership.known_salt()
        if salt is None:
            raise Conflict("This node has no salt yet; it takes one from its configured peers only.")
        if not hmac.compare_digest(call.octets, salt):
            raise Conflict("This node has another salt, and keeps it.")
        compared = SaltCompared(status="ok", message="This node has the same salt.")
        return json_answer(orjson.dumps(compared.model_dump()), store=False)

    async def events(self, call: Call) -> Response:
        """`GET /cluster/events`."""
        shown = _require_peer(call)
        pull = _pull(call.query_as(PullQuery))
        headers = {"Content-Type": CONTENT_TYPE} | dict([NO_STORE])
        if call.method == "HEAD":
            head = Response(b"", 200, headers=headers)
            head.headers.pop("Content-Length")  # A GET has none.
            return head
        source = self.membership.source
        if source is None or shown not in self.cluster_keys():
            # Replaced since the guard looked: the streams that it had opened were ended without this one.
            raise _not_a_peer()
        for name, word in (("node", pull.node_id), ("run", pull.run)):
            if holds_key(word, self.secrets()):
                raise Invalid.field(
                    ("query", name), "it is, or holds, a key of the node that is asked; choose another"
                )
        call.exchange.forget_keys()
        stream = await source.open(pull, credential(shown))
        return Response(stream.parts(), 200, headers=headers)


def _pull(query: PullQuery) -> Pull:
    """What a puller says of itself.

    Raises:
        Invalid: Where it stands cannot be read.
    """
    try:
        after = Position({}) if query.after is None else decode_position(query.after)
    except PositionUnreadable as error:
        raise Invalid.field(("query", "after"), str(error)) from error
    return Pull(after, query.node, query.run, query.salt or "", query.skip, query.asks)


def _require_peer(call: Call) -> bytes:
    """The cluster key that was shown.

    Raises:
        NotAPeer: None was: the guard took the path for another one.
    """
    if call.exchange.cluster_key is None:
        raise _not_a_peer()
    return call.exchange.cluster_key


def _not_a_peer() -> NotAPeer:
    return NotAPeer("X-API-Key: this path takes the cluster key (OSC_CLUSTER_KEY), and no API key.")
