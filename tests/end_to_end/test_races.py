"""Many clients on several workers at once: one decides, and everybody sees what was decided."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import httpx
import pytest

from tests.conftest import StartNode
from tests.support.node import NO_TLS, RunningNode, key_headers
from tests.support.waiting import PATIENCE

Sent = TypeVar("Sent")

CLIENTS = 64
"""Each on a connection of its own; the kernel deals them out to the workers by a hash of their ports."""


LONGEST_PAUSE = 0.5
"""Seconds before whoever lost a race tries again, at most."""


@pytest.fixture(scope="module")
def node(start_module_node: StartNode) -> RunningNode:
    """A node with four workers."""
    return start_module_node(OSC_WORKERS="4")


@pytest.fixture
async def client(node: RunningNode) -> AsyncIterator[httpx.AsyncClient]:
    """A client with open connections for 64 requests at a time, so that what it sends arrives together."""
    async with httpx.AsyncClient(
        base_url=node.base_url,
        headers=key_headers(),
        timeout=PATIENCE,
        limits=httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS),
        trust_env=False,
        verify=NO_TLS,
    ) as client:
        await all_at_once(lambda _: client.get("/health"))
        yield client


async def all_at_once(send: Callable[[int], Coroutine[Any, Any, Sent]]) -> list[Sent]:
    """Send 64 requests, given their numbers, and give their answers in that order."""
    return await asyncio.gather(*map(send, range(CLIENTS)))


async def test_of_64_creates_one_succeeds(client: httpx.AsyncClient) -> None:
    """Of 64 concurrent creates of one key over four workers one gets 201, all others 400 "already exists"."""
    answers = await all_at_once(
        lambda number: client.post("/configs", json={"key": "one", "value": number, "environment": "race"})
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: CLIENTS - 1}
    assert all("already exists" in answer.json()["detail"] for answer in answers if answer.is_error)
    (winner,) = [number for number, answer in enumerate(answers) if answer.is_success]
    stored = (await client.get("/configs/one?environment=race")).json()
    assert stored["value"] == winner


async def test_64_compare_and_swap_increments_count_to_64(client: httpx.AsyncClient) -> None:
    """64 concurrent increments, each GET, PUT with If-Match, again after 412, end at exactly 64."""
    path = "/configs/counter?environment=race"
    entry = {"key": "counter", "value": 0, "environment": "race"}
    assert (await client.post("/configs", json=entry)).status_code == 201

    async def increment(number: int) -> int:
        """Gives how often it came too late."""
        pause = random.Random(number).uniform
        late = 0
        while True:
            read = await client.get(path)
            written = await client.put(
                path, json={"value": read.json()["value"] + 1}, headers={"If-Match": read.headers["ETag"]}
            )
            if written.status_code == 200:
                return late
            assert written.status_code == 412
            late += 1
            await asyncio.sleep(pause(0, LONGEST_PAUSE))

    late = await all_at_once(increment)
    full = (await client.get(f"{path}&mode=full")).json()
    assert (full["value"], full["version"]) == (CLIENTS, CLIENTS + 1)
    assert sum(late), "nobody was ever in anybody's way, so nothing was proven"


async def test_of_64_conditional_creates_one_creates(client: httpx.AsyncClient) -> None:
    """`If-None-Match: *` on PUT creates once, whoever else asks at the same time."""
    path, absent = "/configs/lock?environment=race", {"If-None-Match": "*"}
    answers = await all_at_once(lambda number: client.put(path, json={"value": number}, headers=absent))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 412: CLIENTS - 1}


async def test_of_64_deletes_one_succeeds(client: httpx.AsyncClient) -> None:
    """An entry is deleted once; for everybody else it is not there."""
    entry = {"key": "gone", "value": 1, "environment": "race"}
    assert (await client.post("/configs", json=entry)).status_code == 201
    answers = await all_at_once(lambda _: client.delete("/configs/gone?environment=race"))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 404: CLIENTS - 1}


async def test_reads_after_an_acknowledged_write_see_it(client: httpx.AsyncClient) -> None:
    """Whichever worker answers, what was acknowledged before a read was sent is in the answer."""
    path = "/configs/seen?environment=race"
    entry = {"key": "seen", "value": 0, "environment": "race"}
    assert (await client.post("/configs", json=entry)).status_code == 201
    for number in range(1, 11):
        assert (await client.put(path, json={"value": number})).status_code == 200
        answers = await all_at_once(lambda _: client.get(path))
        assert {answer.json()["value"] for answer in answers} == {number}
    assert (await client.delete(path)).status_code == 200
    answers = await all_at_once(lambda _: client.get(path))
    assert {answer.status_code for answer in answers} == {404}


async def test_lists_and_statistics_after_an_acknowledged_write_see_it(
    client: httpx.AsyncClient,
) -> None:
    """What is true of a read is true of lists and of the statistics."""
    for number in range(1, 6):
        entry = {"key": f"k{number}", "value": number, "environment": "listed"}
        assert (await client.post("/configs", json=entry)).status_code == 201
        lists = await all_at_once(lambda _: client.get("/configs?environment=listed"))
        assert {len(answer.json()) for answer in lists} == {number}
        statistics = await all_at_once(lambda _: client.get("/stats"))
        assert {answer.json()["keys_by_environment"]["listed"] for answer in statistics} == {number}


async def test_a_position_can_be_waited_for(client: httpx.AsyncClient) -> None:
    """Invariant 1: a read sent with the position of a write has that write, on every worker."""
    path = "/configs/awaited?environment=race"
    entry = {"key": "awaited", "value": "there", "environment": "race"}
    written = await client.post("/configs", json=entry)
    after = {"X-OSC-After": written.headers["X-OSC-Position"]}
    answers = await all_at_once(lambda _: client.get(path, headers=after))
    assert {answer.json()["value"] for answer in answers} == {"there"}


async def test_a_position_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    """A position no node ever gave is 422, and says which header is wrong."""
    answer = await client.get("/configs", headers={"X-OSC-After": "not-a-position"})
    assert answer.status_code == 422
    assert "X-OSC-After" in answer.json()["detail"]


async def test_a_position_ahead_of_the_node_is_waited_for_and_then_refused(
    client: httpx.AsyncClient, start_node: StartNode
) -> None:
    """A position of a log this node has never seen: 503 with Retry-After, after a bounded wait."""
    stranger = start_node(OSC_CLUSTER_NODE_ID="stranger")
    with stranger.client() as other:
        written = other.post("/configs", json={"key": "k", "value": 1, "environment": "race"})
    answer = await client.get("/configs", headers={"X-OSC-After": written.headers["X-OSC-Position"]})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] in {"1", "2"}
