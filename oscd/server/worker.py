"""Owns the work of one worker: builds log, key ring and edge from settings, serves, takes all down again.

One of the two bootstraps that see every folder (the other is `cli/`). Must not hold a rule of its own.
"""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

from oscd import __version__
from oscd.api.app import EdgeRules, Parts, create_app
from oscd.api.call import Limits as RequestLimits
from oscd.api.cluster import Membership
from oscd.api.service import Readiness
from oscd.backup.backups import Backups
from oscd.events import cipher
from oscd.events.cipher import BackupKey, Cipher
from oscd.events.derivation_slot import DerivationSlot
from oscd.events.keyring import KeyRing
from oscd.events.salt import SaltSource
from oscd.events.sqlite.checkpoint import INTERVAL_SECONDS as CHECKPOINT_SECONDS
from oscd.events.sqlite.file import Room
from oscd.events.sqlite.log import SqliteLog
from oscd.events.sqlite.noted import noted_digest
from oscd.feed.bell import Bell
from oscd.feed.board import Board
from oscd.feed.synced import Synced
from oscd.feed.tail import Tail
from oscd.metrics.counters import Counters, install
from oscd.metrics.exposition import Exposition, Sources
from oscd.node import Node
from oscd.projections.sqlite import SqliteProjections
from oscd.replication.source import Source
from oscd.server.certificates import Certificates
from oscd.server.clustering import cluster_duty, membership_of
from oscd.server.connection import Limits as ConnectionLimits
from oscd.server.control import WorkerControl
from oscd.server.health import NodeHealth
from oscd.server.keys import Keys
from oscd.server.late_salt import LateSalt
from oscd.server.listener import hypercorn_config, serve
from oscd.server.logs import LogSink
from oscd.server.process import exempt_from_collection
from oscd.server.settings import Settings
from oscd.server.spec import WorkerSpec
from oscd.server.steward import Duty, Steward
from oscd.streams.registry import Registry
from oscd.streams.subscription import Feed
from oscd.streams.ticket import Tickets
from oscd.times import microseconds_now


async def serve_node(
    spec: WorkerSpec, index: int, listener: socket.socket, sink: LogSink, control: WorkerControl
) -> None:
    """Serve until the control says to stop, then close everything.

    Args:
        index: Which worker of the node this is, from 0.
    """
    settings = spec.settings
    install(spec.runtime, index)
    counters = Counters()
    counters.started(index)
    bell = Bell(spec.bells, index, Board(spec.runtime / "ears", settings.workers, index))
    log = _log_of(spec, counters, bell)
    salt = LateSalt(settings.salt_file_path, spec.salt, partial(log.read, noted_digest))
    keyring = _keyring_of(spec, counters, salt)
    node = Node(log, keyring, bell, counts=counters)
    synced = Synced(Board(spec.runtime / "synced", settings.workers, index, goes_on=True), bell)
    tail = Tail(log, bell, synced=synced.total)
    board = Board(spec.runtime / "subscriptions", settings.workers, index)
    feed = Feed(log, tail, settings.sse_keepalive_interval, counters.opened, spec.node_id)
    registry = _registry_of(spec, index, feed, counters, board)
    membership = membership_of(spec, log, bell, salt)
    keys = Keys(spec, index, registry, membership.source)
    # The files may have changed since the start of the node.
    certificates = Certificates(keys.settings, index, spec.in_force[index])
    control.on_hangup = partial(_reload, keys, certificates)
    health = _health_of(spec, index, log, certificates)
    control.on_beat = health.beat
    health.beat()  # the first one of the loop was before
    app = create_app(
        Parts(
            node=node,
            backups=Backups(log, keyring, counters, clock=microseconds_now),
            keyring=keyring,
            registry=registry,
            tickets=Tickets(salt),
            counters=counters,
            exposition=_exposition_of(spec, counters, node, board, membership, health),
            probe=log.probe,
            membership=membership,
        ),
        rules=_rules_of(settings, keys),
        version=__version__,
        log=sink.prebound("request"),
    )
    duties = [Duty("checkpoint", CHECKPOINT_SECONDS, log.checkpoint)]
    if settings.cluster_enabled:
        duties.append(cluster_duty(spec, log, salt, keys, certificates, synced, counters))
    steward = Steward(sidecar(settings.database_path, "steward-lock"), duties)
    bell.open()
    log.start()
    salt.start()
    tail.start()
    steward.start()
    try:
        exempt_from_collection()
        control.ready()
        await serve(
            app,  # type: ignore[arg-type]
            socket=listener,
            config=hypercorn_config(),
            shutdown=control.shutdown,
            limits=ConnectionLimits(max_connections=-(-settings.max_connections // settings.workers)),
            tls=certificates.serving if certificates.serves_tls else None,
            on_closed=partial(_end_streams, registry, membership.source),
        )
    finally:
        await steward.close()
        await salt.close()
        await keyring.close()
        await tail.close()
        registry.report()
        await log.close()
        bell.close()


async def _reload(keys: Keys, certificates: Certificates) -> None:
    """What SIGHUP asks for."""
    keys.reload()
    await certificates.reload(keys.settings)


def _log_of(spec: WorkerSpec, counters: Counters, bell: Bell) -> SqliteLog:
    def committed(events: int, seconds: float) -> None:
        bell.ring()
        counters.committed(events, seconds)

    settings = spec.settings
    return SqliteLog(
        spec.file,
        projections=SqliteProjections(),
        clock=microseconds_now,
        room=_room_of(settings),
        committed=committed,
    )


def _room_of(settings: Settings) -> Room:
    return Room(settings.min_free_bytes, settings.max_log_bytes)


def _health_of(spec: WorkerSpec, index: int, log: SqliteLog, certificates: Certificates) -> NodeHealth:
    settings = spec.settings
    # It goes on, so that a worker which does not come back is seen to be late.
    beats = Board(spec.runtime / "beats", settings.workers, index, goes_on=True)
    return NodeHealth(
        Readiness(log.probe), spec.file, _room_of(settings), beats, settings.workers, certificates.ends
    )


def _end_streams(registry: Registry, source: Source | None) -> None:
    registry.end_all()
    if source is not None:
        source.end_all()


def _exposition_of(
    spec: WorkerSpec,
    counters: Counters,
    node: Node,
    streams: Board,
    membership: Membership,
    health: NodeHealth,
) -> Exposition:
    members = membership.members
    sources = Sources(
        node.extent,
        streams.total,
        __version__,
        cluster=None if members is None else members.report,
        health=health.look,
    )
    return Exposition(counters, sources, spec.runtime)


def _registry_of(spec: WorkerSpec, index: int, feed: Feed, counters: Counters, board: Board) -> Registry:
    return Registry(
        feed,
        counters=counters,
        board=board,
        most=spec.settings.sse_max_subscriptions,
        reports=spec.runtime,
        index=index,
    )


def _rules_of(settings: Settings, keys: Keys) -> EdgeRules:
    return EdgeRules(
        guard=lambda: keys.guard,
        limits=RequestLimits(
            settings.min_user_key_length, settings.max_body_bytes, settings.max_import_bytes
        ),
        trusted_proxies=settings.trusted_proxies,
    )


def _keyring_of(spec: WorkerSpec, counters: Counters, salt: SaltSource) -> KeyRing:
    def derive(user_key: str, salt: bytes) -> Cipher:
        derived = cipher.derive(user_key, salt)
        counters.derived()
        return derived

    def derive_backup_key(password: str, salt: bytes) -> BackupKey:
        derived = cipher.derive_backup_key(password, salt)
        counters.derived()
        return derived

    slot = DerivationSlot(sidecar(spec.settings.database_path, "derivation-lock"))
    return KeyRing(salt, slot=slot, derive=derive, derive_backup_key=derive_backup_key)


def sidecar(database: Path, name: str) -> Path:
    """A file that stands beside the log and only serves as a lock."""
    return Path(f"{database}-{name}")
