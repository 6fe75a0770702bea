"""The bytes of a stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opensecureconf_client import SSEClient, SSEEventData  # type: ignore[import-untyped]

from oscd.events.event import EventType
from oscd.events.position import Position
from oscd.feed.frame import Frame, StreamFilter
from oscd.feed.tail import Told
from oscd.projections.entry import Entry
from oscd.streams import sse
from oscd.times import rfc3339
from tests.feed.merging import event_of
from tests.streams.reading import SseEvent, parse

NOW = 1_700_000_000_123_456
AT = Position({}).encode()

# Line breaks of SSE and of Unicode, and what JSON and SSE give a meaning to.
names = st.text(st.sampled_from('ab:"\\ {}\u2028\u2029\x85é\U0001f511'), min_size=1, max_size=8)


def told(key: str = "k", category: str | None = None, effect: EventType = EventType.UPDATED) -> Told:
    event = event_of("updated", key, category or "", stamp=NOW)
    return Told(1, Frame(effect, event, (category,)), AT, True)


def test_a_stream_opens_with_a_comment_and_a_retry_hint() -> None:
    """The first bytes are a comment, so that a proxy passes the head on, and no event."""
    assert sse.opening(1234) == b": oscd\nretry: 1234\n\n"
    stream = parse(sse.opening(1234))
    assert (stream.events, stream.retry, stream.comments) == ([], 1234, ["oscd"])


@pytest.mark.parametrize("at", [None, AT])
def test_connected_says_who_and_what(at: str | None) -> None:
    """`connected` names the stream, its filters, the server's time, and where it starts from."""
    (event,) = parse(sse.connected("s-1", StreamFilter("k", None, "c"), NOW, at)).events
    assert event == SseEvent(
        "connected",
        at,
        {
            "subscription_id": "s-1",
            "filters": {"key": "k", "environment": None, "category": "c"},
            "server_time": "2023-11-14T22:13:20.123456Z",
        },
    )


async def test_a_sync_is_of_no_entry_and_the_published_client_takes_it() -> None:
    """Contract §6: no id, nulls, how many events; that client counts it and calls its user."""
    raw = sse.sync(3, NOW, "node-a")
    (event,) = parse(raw).events
    nothing = dict.fromkeys(("key", "environment", "category", "version"))
    data = {**nothing, "timestamp": rfc3339(NOW), "node_id": "node-a", "data": {"events": 3}}
    assert event == SseEvent("sync", None, data)
    got = []

    async def on_event(told: SSEEventData) -> None:
        got.append((told.event_type, told.key, told.node_id, told.data))

    client = SSEClient("http://node", on_event=on_event, log_level="ERROR")
    kind, line = (part.split(b": ", 1)[1].decode() for part in raw.splitlines()[:2])
    await client._handle_event_data(kind, line)
    assert got == [("sync", None, "node-a", {"events": 3})]
    assert client.stats.events_by_type["sync"] == 1


@given(names, names | st.none(), st.sampled_from(list(EventType)))
def test_a_change_is_one_line_of_json(key: str, category: str | None, effect: EventType) -> None:
    """Contract §6: whatever the names hold, a frame has one data line, a JSON object of exactly these members."""
    raw = sse.change(told(key, category, effect))
    assert [line.split(b":")[0] for line in raw.split(b"\n")] == [b"id", b"event", b"data", b"", b""]
    assert b"\r" not in raw
    (event,) = parse(raw).events
    assert event == SseEvent(
        effect.value,
        AT,
        {
            "key": key,
            "environment": "prod",
            "category": category,
            "timestamp": rfc3339(NOW),
            "node_id": "node-a",
            "version": 1,
            "data": None,
        },
    )


def test_a_change_is_written_down_once_for_all_readers() -> None:
    """Fan-out costs no serialising: the text is kept with the event, and one with a value never is."""
    one = told()
    with_value = sse.change_with_value(one, b'"secret"')
    assert one.text is None
    assert b"secret" not in sse.change(one)
    assert sse.change(one) is sse.change(one)
    assert parse(with_value).events[0].data["data"] == {"value": "secret"}


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (b"null", None),
        (b'{"a": [1, 2.50]}', {"a": [1, 2.5]}),
        (b'{\n  "a": 1,\r\n  "b": "x\\ny"\n}', {"a": 1, "b": "x\ny"}),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        ('"\u2028"'.encode(), "\u2028"),
    ],
)
def test_a_value_goes_out_as_it_was_stored(stored: bytes, value: object) -> None:
    """A value is not parsed on its way, and one the original wrote over several lines becomes one line."""
    entry = Entry(
        "prod", "k", 1, "c", 2, NOW, NOW, NOW, event_of("created").ref, 1, bytes(16), None, True, False
    )
    for raw in (sse.change_with_value(told(), stored), sse.snapshot(entry, stored)):
        assert raw.count(b"\n") == raw.count(b"\nevent:") + raw.count(b"\ndata:") + 2
        assert parse(raw).events[0].data["data"] == {"value": value}


def test_a_snapshot_is_shaped_like_what_created_it_and_has_no_id() -> None:
    """Who is cut off in a snapshot must start over, so nothing in it can be resumed from."""
    entry = Entry(
        "prod", "k", 7, None, 2, NOW, NOW, NOW, event_of("created").ref, 1, bytes(16), None, False, False
    )
    (event,) = parse(sse.snapshot(entry, None)).events
    assert (event.kind, event.at) == ("snapshot", None)
    assert event.data == parse(sse.change(told("k"))).events[0].data | {"version": 2}


def test_a_keep_alive_is_a_comment_and_maybe_a_place() -> None:
    """A comment wakes no handler; with it goes the position, which no `data` follows."""
    assert sse.keep_alive(NOW, None) == b": keep-alive 2023-11-14T22:13:20.123456Z\n\n"
    stream = parse(sse.keep_alive(NOW, AT))
    assert (stream.events, stream.last_id) == ([], AT)
    assert sse.moved(AT) == b"id: %b\n\n" % AT.encode()


def test_other_events_hold_what_they_are_given() -> None:
    """`reset`, `bookmark` and `goodbye` are objects on one line, too."""
    assert sse.event("bookmark", {}, AT) == b"id: %b\nevent: bookmark\ndata: {}\n\n" % AT.encode()
    assert json.loads(sse.event("goodbye", {"reason": "shutdown"}).split(b"data: ")[1]) == {
        "reason": "shutdown"
    }
