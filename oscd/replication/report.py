"""Owns what the steward knows of all peers, as a file that the other workers of the node read.

The steward's worker alone has links; every worker answers for the whole node. The file is in the directory of the
run: it tells of a moment, and nobody needs it after a restart. It is replaced whole, so a reader finds the one before
or the one after. Must not know how a link works, nor hold a secret: whoever holds an API key is shown all of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class PeerReport:
    """One peer, as this node sees it.

    Attributes:
        peer: As configured: `host:port` or a URL.
        node_id: Its name, once it has been met.
        state: Of the link; see `states.py`.
        is_healthy: Whether the link is live or catching up, and was heard of lately.
        last_seen: When it was last heard of, in µs since 1970.
        lag_events: How many events of its position this log lacks.
        lag_seconds: Since when it lacks some; 0.0 where it lacks none.
        skew_seconds: Its clock minus ours, half the round trip taken off.
        entries: Live entries there.
        is_synced: Whether both positions and both state digests were equal at the last look.
        has_diverged: Whether equal positions gave unequal digests: a fault of ours, or a changed file.
        last_error: Why the link failed last; None once it has been well for a while.
    """

    peer: str
    node_id: str | None = None
    state: str = "connecting"
    is_healthy: bool = False
    last_seen: int | None = None
    lag_events: int | None = None
    lag_seconds: float | None = None
    skew_seconds: float | None = None
    entries: int | None = None
    is_synced: bool | None = None
    has_diverged: bool = False
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """An origin that is not taken from a peer, from which seq on, and why.

    Attributes:
        node_id: Of the origin, as its events name it.
        peer: As configured: who showed it.
    """

    node_id: str
    incarnation: str
    seq: int
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """What the steward knew at one moment.

    Attributes:
        written_at: µs since 1970.
        not_ready: Sentences that say why this node may not serve yet; empty where it may.
    """

    written_at: int
    not_ready: tuple[str, ...] = ()
    peers: tuple[PeerReport, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()


def write_report(path: Path, report: ClusterReport) -> None:
    """Replace the report. Only one process may: the steward's.

    Raises:
        OSError: The directory does not take it; the one before stays.
        TypeError: Something in it cannot be written as JSON, likewise: a fault of ours.
    """
    draft = path.with_name(f"{path.name}.draft")
    # Not fsynced: after a crash of the machine there is no run left that it could tell of.
    draft.write_bytes(orjson.dumps(report))
    os.replace(draft, path)


def read_report(path: Path) -> ClusterReport | None:
    """The last report; None where there is none, or the file is not one."""
    try:
        document = orjson.loads(path.read_bytes())
        return ClusterReport(
            written_at=int(document["written_at"]),
            not_ready=tuple(map(str, document["not_ready"])),
            peers=tuple(PeerReport(**each) for each in _objects(document["peers"])),
            quarantined=tuple(Quarantine(**each) for each in _objects(document["quarantined"])),
        )
    except (OSError, ValueError, LookupError, TypeError):  # orjson.JSONDecodeError is a ValueError
        return None


def _objects(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TypeError("not a list of objects")
    return found
