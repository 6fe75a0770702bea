"""Owns the start of a node: everything that must be true before a worker may serve, checked in one process.

Ports first, then the claim on the log, then its file, then the salt, which a new node of a cluster may have to ask
its peers for later. What is refused has changed no entry and no salt; the files of an empty log may be there already,
and a renamed or restored node may have begun its new origin.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from oscd import __version__
from oscd.errors import StartRefused
from oscd.events.salt import ensure_salt, salt_digest, salt_warning
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.file import LogFile
from oscd.events.sqlite.prepare import PreparedLog, keep_open, note_salt, prepare
from oscd.feed.bell import Bells
from oscd.projections.sqlite import SqliteProjections
from oscd.server.binding import bind_listeners
from oscd.server.in_force import InForce
from oscd.server.logs import configure_logging, get_logger
from oscd.server.notify import ServiceManager, taken_from
from oscd.server.process import harden_process
from oscd.server.runtime import RuntimeDirectory
from oscd.server.settings import Settings
from oscd.server.spawned import LOG_CLOSE_SECONDS, worker_main
from oscd.server.spec import WorkerSpec
from oscd.server.supervisor import run_supervisor
from oscd.server.tls import peer_tls_context, tls_context, validity_warning

CLAIM_SECONDS: Final = 2.0
"""How long a start waits for its log: `oscd release` on a log that no node serves holds it for some milliseconds."""


_RUN_BYTES: Final = 8


def start(settings: Settings, warnings: Sequence[str], directory: Path) -> int:
    """Serve until told to stop; gives the exit status.

    Args:
        warnings: What the settings' reader noticed; logged first.
        directory: Where `.env` is, for the reload of keys.

    Raises:
        StartRefused: The node must not start. One line says why.
    """
    harden_process()
    # A caller's key in the shell the node was started from: no process of a node shall inherit it.
    os.environ.pop("OSC_USER_KEY", None)
    manager = taken_from(os.environ, os.getpid())
    warnings = [*warnings, *_tls_warnings(settings)]
    listeners = bind_listeners(settings.host, settings.host_port, settings.workers)
    settings = replace(
        settings,
        host_port=listeners[0].getsockname()[1],
        # SQLite keeps its other files beside the target of a link; so do we.
        database_path=settings.database_path.resolve(),
    )
    sink = configure_logging(
        settings.log_level, settings.log_format, settings.log_file, settings.node_id, settings.log_rotation
    )
    try:
        return _serve(settings, warnings, directory, listeners, manager)
    finally:
        for listener in listeners:
            listener.close()
        sink.close(LOG_CLOSE_SECONDS)


def _serve(
    settings: Settings,
    warnings: Sequence[str],
    directory: Path,
    listeners: Sequence[socket.socket],
    manager: ServiceManager,
) -> int:
    logger = get_logger()
    for warning in warnings:
        logger.warning(warning)
    with ExitStack() as held:
        claim = NodeClaim(settings.database_path, wait_seconds=CLAIM_SECONDS)
        held.callback(claim.release)
        prepared = prepare(
            settings.database_path,
            node_id=settings.node_id,
            projections=SqliteProjections(),
            asks=settings.cluster_enabled,
        )
        salt = _salt(settings, prepared)
        if salt is not None and (loose := salt_warning(settings.salt_file_path)) is not None:
            logger.warning(loose)
        runtime, bells, in_force = _shared(settings.workers)
        held.callback(runtime.close)
        held.callback(bells.close)
        for memory in in_force:
            held.callback(memory.close)
        kept = keep_open(prepared.file)
        held.callback(kept.close)
        _note(claim, kept.file)
        spec = WorkerSpec(
            settings,
            directory,
            settings.node_id,
            secrets.token_hex(_RUN_BYTES),
            kept.file,
            salt,
            runtime.path,
            bells,
            in_force,
        )
        status = run_supervisor(
            worker_main,
            spec,
            listeners,
            on_ready=lambda: logger.info(serving_line(settings)),
            manager=manager,
        )
    logger.info("oscd has stopped")
    return status


def _note(claim: NodeClaim, file: LogFile) -> None:
    """Let commands that write beside this node know its files."""
    try:
        claim.note(file)
    except OSError as error:
        raise StartRefused(f"OSC_DATABASE_PATH: its directory cannot be used: {error.strerror}.") from error


def _tls_warnings(settings: Settings) -> Iterator[str]:
    """Check the files of TLS, before anything is made."""
    if settings.cluster_enabled:
        peer_tls_context(settings)
    context = tls_context(settings)
    if context is not None:
        warning = validity_warning(context, settings.ssl_certfile, datetime.now(UTC))
        if warning is not None:
            yield warning


def _shared(workers: int) -> tuple[RuntimeDirectory, Bells, tuple[InForce, ...]]:
    """What the workers share besides the log, and what each leaves to its successor."""
    try:
        bells = Bells.make(workers)
        in_force = tuple(InForce() for _ in range(workers))
        return RuntimeDirectory(), bells, in_force
    except OSError as error:
        raise StartRefused(f"what {workers} workers share cannot be made: {error.strerror}") from error


def _salt(settings: Settings, prepared: PreparedLog) -> bytes | None:
    """The salt of the log; None where the steward is to ask the cluster for it."""
    if settings.cluster_enabled and prepared.is_empty and not os.path.lexists(settings.salt_file_path):
        return None
    salt = ensure_salt(settings.salt_file_path, prepared.salt_digest, prepared.is_empty)
    if prepared.salt_digest != salt_digest(salt):
        note_salt(prepared.file, salt_digest(salt))
    return salt


def serving_line(settings: Settings) -> str:
    """The one line that says where the node serves."""
    scheme = "https" if settings.https_enabled else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return f"oscd {__version__} is serving on {scheme}://{host}:{settings.host_port} with {workers}"
