"""Requests per second of oscd beside the bare application, 16 connections each, alternating in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import fill, requests, servers
from bench.figures import Figure, ratios
from bench.load import TURN, Load, Outcome, run
from bench.scale import Scale
from bench.servers import Server

CONNECTIONS = 16
READ_AIM, WRITE_AIM = 0.6, 0.5
# Keys that reads and updates go round.
KEYS = 64
# The generator shares the cores with the workers, so nearly a whole one means that it was the limit.
GENERATOR_AIM = 0.8


@dataclass(slots=True)
class _Side:
    """One side of a comparison: what it is asked, and what came of it."""

    name: str
    server: Server
    load: Load
    status: int = 200
    outcomes: list[Outcome] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def run(self, turn: int) -> None:
        load = self.load if self.load.numbers else replace(self.load, first=turn * TURN)
        before = self.server.cpu_seconds()
        outcome = run(load, self.status)
        self.outcomes.append(outcome)
        self.cpu_us.append((self.server.cpu_seconds() - before) * 1e6 / sum(outcome.statuses.values()))

    @property
    def rates(self) -> list[float]:
        return [outcome.per_second for outcome in self.outcomes]


def measure(filled: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """Reads, updates and creates, with 1 and with 2 workers."""
    for workers in (1, 2):
        with ExitStack() as up:
            directory = fill.copy(filled, scratch / f"rates-{workers}")
            node = up.enter_context(servers.oscd(directory, workers))
            bare = up.enter_context(servers.bare(workers))
            listener = up.enter_context(servers.bare_on_listener(workers))
            group = f"{workers} worker{'s' * (workers > 1)}"
            for name, aim, sides in _comparisons(node, bare, listener, scale):
                yield from _compare(group, name, aim, sides, scale)


def _comparisons(
    node: Server, bare: Server, listener: Server, scale: Scale
) -> Iterator[tuple[str, float, list[_Side]]]:
    def side(name: str, server: Server, request: str) -> _Side:
        return _Side(name, server, Load(server.port, request, CONNECTIONS, scale.seconds, numbers=KEYS))

    def echo() -> _Side:
        return side("bare Quart", bare, requests.BARE_POST)

    create = side("oscd", node, requests.create("made"))
    create = replace(create, load=replace(create.load, numbers=None), status=201)
    reads = [side("oscd", node, requests.READ), side("bare Quart", bare, requests.BARE_GET)]
    reads.append(side("bare Quart on oscd's listener", listener, requests.BARE_GET))
    yield "GET", READ_AIM, reads
    yield "PUT", WRITE_AIM, [side("oscd", node, requests.UPDATE), echo()]
    yield "POST", WRITE_AIM, [create, echo()]


def _compare(group: str, name: str, aim: float, sides: Sequence[_Side], scale: Scale) -> Iterator[Figure]:
    for turn in range(scale.rounds):
        for side in sides:
            side.run(turn)
    node, bare, *others = sides
    yield ratios(group, f"{name}, {group}: oscd / bare Quart", node.rates, bare.rates, at_least=aim)
    for other in others:
        yield ratios(group, f"{name}, {group}: {other.name} / bare Quart", other.rates, bare.rates)
    for side in sides:
        label = f"{name}, {group}, {side.name}"
        yield Figure(group, label, "requests/s", tuple(side.rates))
        yield Figure(group, f"{label}: processor time", "µs/request", tuple(side.cpu_us))
        yield Figure(group, f"{label}: p50", "ms", tuple(one.p50_ms for one in side.outcomes))
        yield Figure(group, f"{label}: p99", "ms", tuple(one.p99_ms for one in side.outcomes))
    shares = tuple(outcome.generator_share for side in sides for outcome in side.outcomes)
    yield Figure(group, f"{name}, {group}: load generator", "cores", shares, at_most=GENERATOR_AIM)
