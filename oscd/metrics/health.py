"""Owns how a node itself is now, as gauges: its log and the room for it, its certificates, its workers.

What is not known has no sample. Must not look at anything: it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class Space:
    """The disk that the log is on, in bytes.

    Attributes:
        log: The database and its write-ahead log.
        free: What the file system has left for this process.
        room: By how much the log may still grow before writes are refused; 0 once they are.
    """

    log: int
    free: int
    room: int


@dataclass(frozen=True, slots=True)
class Health:
    """What one worker knows of its node at one moment.

    Attributes:
        is_log_writable: None where nobody has looked.
        space: None where the file system does not say.
        certificates: By use, `serving` or `peers`: when the certificate ends, in seconds since 1970.
        beat_ages: By worker index: for how long its event loop has not turned, in seconds.
    """

    is_log_writable: bool | None = None
    space: Space | None = None
    certificates: Mapping[str, float] = field(default_factory=dict)
    beat_ages: Mapping[int, float] = field(default_factory=dict)


def health_gauges(health: Health) -> Iterator[Metric]:
    """All of them; without a sample for what is not known."""
    space, writable = health.space, health.is_log_writable
    yield _gauge(
        "osc_log_writable", "Whether the log takes writes", None if writable is None else int(writable)
    )
    yield _gauge("osc_log_size_bytes", "Bytes of the log on disk", None if space is None else space.log)
    yield _gauge(
        "osc_log_free_bytes", "Bytes left on the disk of the log", None if space is None else space.free
    )
    yield _gauge(
        "osc_log_room_bytes",
        "Bytes the log may grow by before writes are refused",
        None if space is None else space.room,
    )
    yield _labelled(
        "osc_certificate_expiry_timestamp_seconds",
        "When a certificate of this node ends",
        "use",
        health.certificates,
    )
    yield _labelled(
        "osc_worker_beat_age_seconds",
        "For how long the event loop of a worker has not turned",
        "worker",
        {str(index): age for index, age in health.beat_ages.items()},
    )


def _gauge(name: str, help_text: str, value: int | None) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _labelled(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
