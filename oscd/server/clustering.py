"""Owns what a worker has to do with other nodes: what it answers them, and the duty of whoever is the steward.

Its part of `worker.py`'s building. Must not hold a rule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from oscd.api.cluster import Membership
from oscd.events.salt import SaltSource
from oscd.events.sqlite.log import SqliteLog
from oscd.feed.bell import Bell
from oscd.feed.synced import Synced
from oscd.metrics.counters import Counters
from oscd.replication.members import Members
from oscd.replication.peers import peers_of
from oscd.replication.source import Source
from oscd.server.certificates import Certificates
from oscd.server.keys import Keys
from oscd.server.late_salt import LateSalt
from oscd.server.spec import WorkerSpec
from oscd.server.steward import Duty
from oscd.times import microseconds_now

REPORT: Final = "cluster.json"
"""In the directory of the run: what the steward knows of the peers."""

CLUSTER_RETRY_SECONDS: Final = 1.0
"""After which the links are built anew where that has failed as a whole."""


def membership_of(spec: WorkerSpec, log: SqliteLog, bell: Bell, salt: LateSalt) -> Membership:
    """Who the other nodes are, and what they are answered; a lone node answers them nothing."""
    settings = spec.settings
    if not settings.cluster_enabled:
        return Membership(spec.node_id, salt, spec.run)
    source = Source(log, bell, node_id=spec.node_id, run=spec.run, salt=salt)
    members = Members(settings.cluster_nodes, spec.runtime / REPORT)
    return Membership(spec.node_id, salt, spec.run, members, source)


def cluster_duty(
    spec: WorkerSpec,
    log: SqliteLog,
    salt: SaltSource,
    keys: Keys,
    certificates: Certificates,
    synced: Synced,
    counters: Counters,
) -> Duty:
    """To fetch what other nodes have, and to know how they do."""
    # Here, as it takes a tenth of a second that a lone node need not wait for.
    from oscd.replication.cluster import Cluster, Mandate
    from oscd.replication.writes import Bounds

    settings = spec.settings
    largest = max(settings.max_import_bytes, settings.max_body_bytes)
    mandate = Mandate(
        node_id=spec.node_id,
        run=spec.run,
        peers=peers_of(settings.cluster_nodes, tls=settings.https_enabled),
        key=lambda: keys.cluster_key,
        secrets=lambda: keys.guard.secrets,
        tls=certificates.peers,
        salt=salt,
        salt_path=settings.salt_file_path,
        # A value is a third larger when it is sealed; the largest write is an import.
        bounds=Bounds(largest * 4 // 3 + 8192, largest * 4),
        directory=settings.database_path.parent,
        sync_seconds=settings.cluster_sync_interval,
        report=spec.runtime / REPORT,
        tally=_Tally(synced, counters),
    )
    return Duty("cluster", CLUSTER_RETRY_SECONDS, Cluster(mandate, log, microseconds_now).run)


@dataclass(frozen=True, slots=True)
class _Tally:
    """What is counted of the events that came from peers."""

    synced: Synced
    counters: Counters

    def ingested(self, events: int) -> None:
        self.counters.ingested(events)

    def caught_up(self, events: int, seconds: float) -> None:
        self.synced.note(events)
        self.counters.caught_up(seconds)
