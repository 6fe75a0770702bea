"""The published client's `SSEClient`, unmodified, against real processes: it filters, counts, and comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opensecureconf_client import (  # type: ignore[import-untyped]
    OpenSecureConfClient,
    SSEClient,
    SSEEventData,
)

from tests.conftest import StartNode
from tests.support.node import USER_KEY, RunningNode
from tests.support.waiting import PATIENCE

API_KEY = "an-api-key-for-tests"
_PAUSE = 0.02


class Listener:
    """What a client's user does: keeps what the callback was given."""

    def __init__(self) -> None:
        self.events: list[SSEEventData] = []

    async def on_event(self, event: SSEEventData) -> None:
        self.events.append(event)

    def changes(self) -> list[tuple[str, str | None]]:
        return [(event.event_type, event.key) for event in self.events if event.event_type != "connected"]

    def connections(self) -> int:
        return sum(event.event_type == "connected" for event in self.events)


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the client offers nothing to await
            await asyncio.sleep(_PAUSE)
    assert condition(), what


@asynccontextmanager
async def listening(
    client: OpenSecureConfClient, listener: Listener, **filters: str
) -> AsyncIterator[SSEClient]:
    """The client's stream, connected."""
    # Without a log level that client raises.
    sse = client.create_sse_client(on_event=listener.on_event, log_level="ERROR", **filters)
    async with sse:
        await sse.connect()
        await until(lambda: listener.connections(), "the stream to open")
        yield sse


@pytest.fixture(scope="module", params=["1", "4"], ids=["1-worker", "4-workers"])
def node(request: pytest.FixtureRequest, start_module_node: StartNode) -> RunningNode:
    """A guarded node with one worker and with four."""
    return start_module_node(OSC_WORKERS=request.param, OSC_API_KEY_REQUIRED="true", OSC_API_KEY=API_KEY)


async def test_it_is_told_of_what_it_filters_and_counts_by_type(node: RunningNode) -> None:
    """Each of its listeners gets exactly the changes that match, with key, environment, category and no value."""
    everything, one_key, red = Listener(), Listener(), Listener()
    with OpenSecureConfClient(node.base_url, USER_KEY, api_key=API_KEY) as client:
        async with (
            listening(client, everything, environment="told") as sse,
            listening(client, one_key, key="a", environment="told"),
            listening(client, red, category="red", environment="told"),
        ):
            await asyncio.to_thread(_change, client)
            await until(lambda: ("deleted", "b") in everything.changes(), "the last change")
            await until(lambda: ("updated", "a") in red.changes(), "the move out of the category")
            await until(lambda: ("deleted", "a") in one_key.changes(), "the delete")
            statistics: dict[str, Any] = sse.get_statistics()
            assert sse.get_subscription_id() == everything.events[0].subscription_id
    assert everything.changes() == [
        ("created", "a"),
        ("created", "b"),
        ("updated", "a"),
        ("deleted", "a"),
        ("deleted", "b"),
    ]
    assert one_key.changes() == [("created", "a"), ("updated", "a"), ("deleted", "a")]
    assert red.changes() == [("created", "a"), ("updated", "a")]
    created = everything.events[1]
    assert (created.environment, created.category, created.data) == ("told", "red", None)
    assert created.timestamp.endswith("Z")
    assert created.node_id == "tested"
    counted = statistics["events_by_type"]
    assert {kind: counted[kind] for kind in ("connected", "created", "updated", "deleted", "sync")} == {
        "connected": 1,
        "created": 2,
        "updated": 1,
        "deleted": 2,
        "sync": 0,
    }


async def test_no_name_can_break_its_stream(node: RunningNode) -> None:
    """Names and values with what it takes for the end of a line reach it whole, and nobody can forge an event."""
    names = [
        "a\u2028b",
        "\u2028event: forged\u2028data: {}\u2028",
        "\u2029data: 1\u2029",
        "ünï\U0001f512",
    ]
    listener = Listener()
    with OpenSecureConfClient(node.base_url, USER_KEY, api_key=API_KEY) as client:
        async with listening(client, listener, environment="odd") as sse:
            for name in names:
                await asyncio.to_thread(client.create, name, "v\u2028\x85", "odd", name)
            await until(lambda: len(listener.changes()) == len(names), "every change")
            assert sse.get_statistics()["errors"] == 0
    assert listener.changes() == [("created", name) for name in names]
    assert [event.category for event in listener.events[1:]] == names


async def test_keep_alives_reach_it(start_node: StartNode) -> None:
    """A stream on which nothing happens shows that it lives, in a form the client counts."""
    node = start_node(OSC_SSE_KEEPALIVE_INTERVAL="0.2")
    listener = Listener()
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        async with listening(client, listener) as sse:
            await until(lambda: sse.get_statistics()["keepalives_received"] >= 3, "three keep-alives")
            assert sse.get_statistics()["errors"] == 0
    assert listener.changes() == []


async def test_it_survives_a_restart_and_makes_no_storm(start_node: StartNode) -> None:
    """After a restart on the same port it connects again by itself and is told of what happens then.

    It reconnects without any delay after a clean end, so what it meets meanwhile must make it wait.
    """
    port = _free_port()
    node = start_node(OSC_WORKERS="2", OSC_HOST_PORT=str(port))
    listeners = [Listener() for _ in range(5)]
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        streams = [
            SSEClient(node.base_url, on_event=listener.on_event, log_level="CRITICAL", reconnect_delay=0.2)
            for listener in listeners
        ]
        for stream in streams:
            await stream.connect()
        await until(lambda: all(listener.connections() for listener in listeners), "the streams to open")
        await asyncio.to_thread(node.restart)
        await until(lambda: all(listener.connections() == 2 for listener in listeners), "them to be back")
        await asyncio.to_thread(client.create, "k", 1, "after-restart")
        await until(lambda: all(("created", "k") in one.changes() for one in listeners), "the change")
        for stream in streams:
            await stream.disconnect()
    assert [listener.connections() for listener in listeners] == [2] * 5
    assert all(("goodbye", None) in listener.changes() for listener in listeners)
    # Two connections each were wanted, and a few may have met a node that was just leaving.
    assert node.output.count('"route":"/sse/subscribe"') <= 3 * len(streams)


def _change(client: OpenSecureConfClient) -> None:
    client.create("a", 1, "told", "red")
    client.create("b", 2, "told", "blue")
    client.update("a", "told", 3, "green")
    client.delete("a", "told")
    client.delete("b", "told")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
