"""A list of all entries: time to its first byte, and to its last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import fill, servers
from bench.figures import Figure
from bench.scale import Scale
from bench.start import list_all

GROUP = "list"


def measure(many: Path, scratch: Path, scale: Scale) -> Iterator[Figure]:
    """One client, one worker, no `limit`."""
    with servers.oscd(fill.copy(many, scratch / "list"), 1) as node:
        list_all(node.port)  # derives the key
        taken = [list_all(node.port) for _ in range(scale.rounds)]
    label = f"list of {scale.many} entries"
    yield Figure(GROUP, f"{label}: first byte", "ms", tuple(first * 1000 for first, _, _ in taken))
    yield Figure(GROUP, f"{label}: last byte", "s", tuple(last for _, last, _ in taken))
    yield Figure(GROUP, f"{label}: entries", "entries/s", tuple(scale.many / last for _, last, _ in taken))
    yield Figure(GROUP, f"{label}: size", "MB", tuple(size / 1e6 for _, _, size in taken))
