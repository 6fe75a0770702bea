"""Owns the bytes of a stream: server-sent events as the HTML standard has them (§9.2.6).

Every named event has one `data` line, a JSON object: the published client stops on anything else. Must not decide
what is sent, nor to whom.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from oscd.feed.frame import Frame, StreamFilter
from oscd.feed.tail import Told
from oscd.projections.entry import Entry
from oscd.times import rfc3339

# The standard ends a line at CR and LF only. JSON has them outside strings alone, where they are white space: values
# as the original stored them. The published client, and others, end a line at these three characters, too. JSON has
# them in strings alone: a name with one in it would let whoever chose it write frames of their own.
_LINE_ENDS = (
    (b"\r", b" "),
    (b"\n", b" "),
    ("\u0085".encode(), rb"\u0085"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)

CONTENT_TYPE = "text/event-stream; charset=utf-8"

SYNC = "sync"
"""The event that says that a peer's backlog was merged."""


def opening(retry_milliseconds: int) -> bytes:
    """What comes first: a comment, so that proxies pass the head on, and when to reconnect."""
    return b": oscd\nretry: %d\n\n" % retry_milliseconds


def event(kind: str, data: Mapping[str, object], at: str | None = None) -> bytes:
    """One named event.

    Args:
        at: The position a reader may resume from once it has it; None: the one before still counts.
    """
    place = b"" if at is None else b"id: %b\n" % at.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (place, kind.encode(), _one_line(orjson.dumps(data)))


def connected(subscription_id: str, wanted: StreamFilter, now: int, at: str | None) -> bytes:
    """The first event.

    Args:
        now: µs since 1970.
    """
    data = {"subscription_id": subscription_id, "filters": filters(wanted), "server_time": rfc3339(now)}
    return event("connected", data, at)


def filters(wanted: StreamFilter) -> dict[str, str | None]:
    """What a subscriber wants, as it is shown."""
    return {"key": wanted.key, "environment": wanted.environment, "category": wanted.category}


def keep_alive(now: int, at: str | None) -> bytes:
    """A comment and, for a subscriber whose filter matches nothing, where it stands.

    Args:
        now: µs since 1970.
        at: None before a bookmark: who is cut off there must start over.
    """
    return b": keep-alive %b\n%b" % (rfc3339(now).encode(), b"\n" if at is None else moved(at))


def moved(at: str) -> bytes:
    """An `id` alone: nothing happened for this reader up to there."""
    return b"id: %b\n\n" % at.encode()


def change(told: Told) -> bytes:
    """What an event changes, without its value; written down once for all readers."""
    if told.text is None:
        assert told.frame is not None
        told.text = _change(told.frame, told.at, None)
    return told.text


def change_with_value(told: Told, value_json: bytes) -> bytes:
    """The same with the value, for the one reader whose key opens it."""
    assert told.frame is not None
    return _change(told.frame, told.at, {"value": orjson.Fragment(value_json)})


def sync(events: int, now: int, node_id: str) -> bytes:
    """A peer's backlog of so many events was merged; of no entry, and nothing to resume from.

    Args:
        now: µs since 1970.
        node_id: This node.
    """
    data = {
        "key": None,
        "environment": None,
        "category": None,
        "timestamp": rfc3339(now),
        "node_id": node_id,
        "version": None,
        "data": {"events": events},
    }
    return event(SYNC, data)


def snapshot(entry: Entry, value_json: bytes | None) -> bytes:
    """An entry as it stands at the cut; shaped like a change that created it."""
    data = {
        "key": entry.key,
        "environment": entry.environment,
        "category": entry.category,
        "timestamp": rfc3339(entry.stamp),
        "node_id": entry.winner.origin.node_id,
        "version": entry.version,
        "data": None if value_json is None else {"value": orjson.Fragment(value_json)},
    }
    return event("snapshot", data)


def _change(frame: Frame, at: str, data: Mapping[str, object] | None) -> bytes:
    changed = frame.event
    document = {
        "key": changed.key,
        "environment": changed.environment,
        "category": changed.category,
        "timestamp": rfc3339(changed.stamp),
        "node_id": changed.origin.node_id,
        "version": changed.version,
        "data": data,
    }
    return event(frame.effect, document, at)


def _one_line(document: bytes) -> bytes:
    """A JSON document without anything that some reader takes for the end of a line."""
    for line_end, written in _LINE_ENDS:
        document = document.replace(line_end, written)
    return document
