"""Whether a read and a create cost with many entries what they cost with few: without HTTP, and over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import uvloop

from bench import fill, requests, servers
from bench.figures import Figure, ratios
from bench.load import TURN, Load, run
from bench.scale import Scale
from oscd.commands import Caller
from oscd.events.derivation_slot import DerivationSlot
from oscd.events.keyring import KeyRing
from oscd.events.salt import load_salt
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.prepare import prepare
from oscd.feed.bell import Bell
from oscd.node import Node
from oscd.projections.sqlite import SqliteProjections
from oscd.times import microseconds_now

GROUP = "flat cost"
AIM = 1.15
CALLERS = 16

Call = Callable[[int], Awaitable[object]]


def measure(few: Path, many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """The cost with many entries over the cost with few, in turns."""
    few, many = fill.copy(few, scratch / "flat-few"), fill.copy(many, scratch / "flat-many")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_through_node(few, many, scale))
    yield from _through_http(few, many, scale)


@asynccontextmanager
async def node_over(directory: Path) -> AsyncIterator[Node]:
    """A node's use cases over a log, in this process."""
    prepared = prepare(directory / fill.DATABASE, node_id=fill.NODE_ID, projections=SqliteProjections())
    log = SqliteLog(
        prepared.file,
        projections=SqliteProjections(),
        clock=microseconds_now,
    )
    salt = load_salt(directory / fill.SALT)
    keyring = KeyRing(lambda: salt, slot=DerivationSlot(directory / "derivation-lock"))
    log.start()
    try:
        yield Node(log, keyring, Bell())
    finally:
        await keyring.close()
        await log.close()


async def microseconds(call: Call, first: int, calls: int, callers: int) -> float:
    """Microseconds per call, made by so many callers at once, one call after the other each."""
    numbers = iter(range(first, first + calls))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.perf_counter() - begun) * 1e6 / calls


async def _through_node(few: Path, many: Path, scale: Scale) -> list[Figure]:
    costs: dict[tuple[str, str], list[float]] = {}
    async with node_over(few) as small, node_over(many) as large:
        sides = [("few", small, scale.few), ("many", large, scale.many)]
        for _, node, _ in sides:
            await node.read(fill.ENVIRONMENT, fill.key(0), fill.USER_KEY)  # derives the key
        for turn in range(scale.rounds):
            for what, make_call in (("read", _reader), ("create", _creator)):
                for side, node, entries in sides:
                    call = make_call(node, entries)
                    cost = await microseconds(call, turn * scale.calls, scale.calls, CALLERS)
                    costs.setdefault((what, side), []).append(cost)
    return [figure for what in ("read", "create") for figure in _figures(what, costs, scale)]


def _figures(what: str, costs: dict[tuple[str, str], list[float]], scale: Scale) -> Iterator[Figure]:
    few, many = costs[what, "few"], costs[what, "many"]
    label = f"{what}, {CALLERS} callers, no HTTP"
    yield Figure(GROUP, f"{label}, {scale.few} entries", "µs", tuple(few))
    yield Figure(GROUP, f"{label}, {scale.many} entries", "µs", tuple(many))
    yield ratios(GROUP, f"{label}: {scale.many} / {scale.few} entries", many, few, at_most=AIM)


def _reader(node: Node, entries: int) -> Call:
    # A stride that shares no factor with the number of entries visits all of them, in no order of theirs.
    return lambda number: node.read(fill.ENVIRONMENT, fill.key(number * 7919 % entries), fill.USER_KEY)


def _creator(node: Node, entries: int) -> Call:
    value = orjson.dumps(fill.VALUE)
    return lambda number: node.create(
        fill.ENVIRONMENT, f"made-{number}", "c", value, fill.USER_KEY, Caller(None, "127.0.0.1")
    )


def _through_http(few: Path, many: Path, scale: Scale) -> Iterator[Figure]:
    with servers.oscd(few, 1) as small, servers.oscd(many, 1) as large:
        sides = ((small.port, scale.few), (large.port, scale.many))
        reads: list[list[float]] = [[], []]
        creates: list[list[float]] = [[], []]
        for turn in range(scale.rounds):
            for index, (port, entries) in enumerate(sides):
                read = Load(port, requests.READ, CALLERS, scale.seconds, numbers=entries)
                create = replace(read, request=requests.create("http"), first=turn * TURN, numbers=None)
                reads[index].append(1e6 / run(read, 200).per_second)
                creates[index].append(1e6 / run(create, 201).per_second)
    for what, costs in (("GET", reads), ("POST", creates)):
        name = f"{what}, {CALLERS} connections: {scale.many} / {scale.few} entries"
        yield ratios(GROUP, name, costs[1], costs[0], at_most=AIM)
