"""Owns which checks there are, and their order: what the later ones rest on comes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from oscd.doctor import certificates, files, log, peers, room, serving
from oscd.doctor.examination import CHECK_SECONDS, Check
from oscd.doctor.finding import Finding, ok, warn
from oscd.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Patient:
    """The node that is looked at.

    Attributes:
        warnings: What the settings' reader noticed.
        environ: Where the settings came from, beside `.env` of …
        directory: … the working directory.
        open_log: Opens the log so that nothing can be changed.
        proof: What `--full` has the log prove; None for a quick look.
    """

    settings: Settings
    warnings: Sequence[str]
    environ: Mapping[str, str]
    directory: Path
    now: datetime
    open_log: log.OpenLog
    proof: log.Proof | None = None


def checks_of(patient: Patient) -> Iterator[Check]:
    """Everything there is to look at."""
    settings, now = patient.settings, patient.now
    yield Check("settings", partial(_settings, patient))
    yield Check("directory", partial(files.directory, settings))
    yield Check("database", partial(files.database, settings))
    yield Check("salt file", partial(files.salt_file, settings))
    yield Check("secret files", partial(files.secret_files, settings, patient.environ, patient.directory))
    yield Check("disk", partial(room.disk, settings))
    yield Check("open files", partial(room.open_files, settings))
    yield Check("clock", partial(room.clock, now))
    yield Check("certificate", partial(certificates.served, settings, now))
    yield Check("cluster certificate", partial(certificates.shown_to_peers, settings, now))
    if settings.database_path.exists():
        yield _proof(patient)
        yield Check("salt", partial(log.salt, patient.open_log, settings))
    yield Check("node", partial(serving.node, settings))
    yield Check("peers", partial(peers.peers, settings))


def _proof(patient: Patient) -> Check:
    if patient.proof is None:
        return Check("log", partial(log.quickly, patient.open_log), log.QUICK_SECONDS + CHECK_SECONDS)
    return Check("log", partial(log.fully, patient.open_log, patient.proof), None)


def _settings(patient: Patient) -> Iterator[Finding]:
    for warning in patient.warnings:
        yield warn("settings", warning)
    if not patient.warnings:
        yield ok("settings", f"{len(patient.settings.sources)} given, all understood")
