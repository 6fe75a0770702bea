"""Reads of the past in a long log: a read at a position and at a time beside a live one, and histories."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvloop

from bench import fill, servers
from bench.figures import Figure, ratios
from bench.flat import CALLERS, microseconds, node_over
from bench.scale import Scale
from oscd.events.position import Position
from oscd.node import Node

GROUP = "past"
AIM = 5.0
HISTORY_MILLISECONDS = 10.0
HOT = "hot"
HOT_VERSIONS = 1000

Read = Callable[[int], Awaitable[object]]


def measure(many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """The cost of the past in a log where every entry has been changed since, many times over."""
    directory = fill.copy(many, scratch / "past")
    middle = fill.rewrite(directory, scale.many, scale.events, HOT, HOT_VERSIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_reads(directory, middle, scale))
    yield from _histories(directory, scale)


async def _reads(directory: Path, middle: tuple[Position, int], scale: Scale) -> list[Figure]:
    costs: dict[tuple[str, int], list[float]] = {}
    async with node_over(directory) as node:
        await node.read(fill.ENVIRONMENT, fill.key(0), fill.USER_KEY)  # derives the key
        kinds: dict[str, Read] = {
            "live": _live(node, scale.many),
            "at a position": _at(node, scale.many, middle[0]),
            "at a time": _at(node, scale.many, middle[1]),
        }
        for _ in range(scale.rounds):
            for callers in (1, CALLERS):
                for kind, read in kinds.items():
                    cost = await microseconds(read, 0, scale.calls, callers)
                    costs.setdefault((kind, callers), []).append(cost)
    figures = []
    for (kind, callers), samples in sorted(costs.items(), key=lambda item: item[0][1]):
        label = f"read {kind}, {callers} caller{'s' * (callers > 1)}, no HTTP"
        figures.append(Figure(GROUP, f"{label}, {scale.events} events", "µs", tuple(samples)))
        if kind != "live":
            figures.append(ratios(GROUP, f"{label} / live", samples, costs["live", callers], at_most=AIM))
    return figures


def _live(node: Node, entries: int) -> Read:
    # A stride that shares no factor with the number of entries visits all of them, in no order of theirs.
    return lambda number: node.read(fill.ENVIRONMENT, fill.key(number * 7919 % entries), fill.USER_KEY)


def _at(node: Node, entries: int, moment: Position | int) -> Read:
    return lambda number: node.read_at(
        fill.ENVIRONMENT, fill.key(number * 7919 % entries), fill.USER_KEY, moment
    )


def _histories(directory: Path, scale: Scale) -> Iterator[Figure]:
    """One client, one worker, over HTTP."""
    label = f"among {scale.events} events, over HTTP"
    with servers.oscd(directory, 1) as node:
        connection = http.client.HTTPConnection("127.0.0.1", node.port)
        for values in ("", "&values=true"):
            _fetch(connection, fill.key(0), values)  # derives the key
            few = [_fetch(connection, fill.key(number * 7919 % scale.many), values) for number in range(50)]
            hot = [_fetch(connection, HOT, values) for _ in range(scale.rounds)]
            with_values = " with values" if values else ""
            yield Figure(
                GROUP,
                f"history of one key{with_values} {label}",
                "ms",
                tuple(few),
                at_most=HISTORY_MILLISECONDS,
            )
            yield Figure(GROUP, f"history of {HOT_VERSIONS} versions{with_values} {label}", "ms", tuple(hot))
        connection.close()


def _fetch(connection: http.client.HTTPConnection, key: str, values: str) -> float:
    """Milliseconds until the last byte."""
    begun = time.perf_counter()
    connection.request(
        "GET", f"/history/{key}?environment={fill.ENVIRONMENT}{values}", headers={"X-User-Key": fill.USER_KEY}
    )
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return (time.perf_counter() - begun) * 1000
