"""What a reader with a known key feels of a flood of random user keys, each of which asks for a derivation.

The flood comes from many addresses, so that slowing one down does not help against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import fill, requests, servers
from bench.figures import Figure, ratios
from bench.load import TURN, Load, LoadProcess, Outcome, run
from bench.scale import Scale

GROUP = "flood of user keys"
AIM = 3.0
WORKERS = 2
READERS = 8
FLOODERS = 32
# The flood begins before the readers do and ends after them.
_MARGIN_SECONDS = 1.5


def measure(few: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """The readers' p99 with the flood over that without it."""
    quiet: list[Outcome] = []
    flooded: list[Outcome] = []
    floods: list[Outcome] = []
    with servers.oscd(fill.copy(few, scratch / "flood"), WORKERS) as node:
        read = Load(node.port, requests.READ, READERS, scale.seconds, numbers=scale.few)
        for turn in range(scale.rounds):
            quiet.append(run(read, 200))
            flood = LoadProcess(_flood(node.port, turn, scale))
            flooded.append(run(read, 200))
            floods.append(flood.outcome())
    refused = tuple(outcome.statuses.get("429", 0) / sum(outcome.statuses.values()) for outcome in floods)
    label = f"{READERS} readers with a known key, {WORKERS} workers"
    yield Figure(GROUP, f"{label}: p99 alone", "ms", tuple(one.p99_ms for one in quiet))
    yield Figure(GROUP, f"{label}: p99 in the flood", "ms", tuple(one.p99_ms for one in flooded))
    p99 = [one.p99_ms for one in flooded], [one.p99_ms for one in quiet]
    yield ratios(GROUP, f"{label}: p99 in the flood / alone", *p99, at_most=AIM)
    yield Figure(
        GROUP, f"flood, {FLOODERS} connections", "requests/s", tuple(one.per_second for one in floods)
    )
    yield Figure(GROUP, "flood: share that was answered 429", "", refused)


def _flood(port: int, turn: int, scale: Scale) -> Load:
    seconds = scale.seconds + _MARGIN_SECONDS
    return Load(port, requests.FLOOD, FLOODERS, seconds, first=turn * TURN, sources=FLOODERS)
