"""Owns reading what all workers of a node counted: as the text Prometheus scrapes, and as totals.

Whoever asks gets everything that was counted before it asked. However many ask, few readings are made: one at a
time, `SECONDS_BETWEEN` apart, each for all who asked before it began. Must not count, nor touch a file on the event
loop.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from oscd.errors import OscdError, Unavailable
from oscd.metrics.cluster import cluster_gauges
from oscd.metrics.counters import Counters
from oscd.metrics.health import Health, health_gauges
from oscd.node import Extent
from oscd.replication.report import ClusterReport

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SECONDS_BETWEEN: Final = 0.2
"""From the begin of one reading to that of the next: a flood of scrapes takes a small part of one core."""

LOG_SECONDS: Final = 2.0
"""How long a scrape waits for the log; Prometheus gives up on all of it after 10 s by default."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an exposition asks for what is so now, as opposed to what was counted.

    Attributes:
        extent: What the log holds; may raise what a read of the log raises.
        subscriptions: Streams open on the whole node.
        version: oscd's.
        cluster: What is known of the peers; None where clustering is off.
        health: How the node itself is; bounds its own waits.
    """

    extent: Callable[[], Awaitable[Extent]]
    subscriptions: Callable[[], int]
    version: str
    cluster: Callable[[], Awaitable[ClusterReport]] | None = None
    health: Callable[[], Awaitable[Health]] | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a node has counted, at one time.

    Attributes:
        samples: By the name a sample has in the text (`…_total`, `…_sum`, `…_count`): its labels and its value.
    """

    samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 where there is none."""
        wanted = labels.items()
        return sum(value for given, value in self.samples.get(name, ()) if wanted <= given.items())

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The sums of the samples for each value of one label."""
        sums: dict[str, float] = {}
        for labels, value in self.samples.get(name, ()):
            sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sums


class Exposition:
    """What a node shows of its counters. All its methods belong to one event loop.

    Args:
        counters: This worker's.
        directory: Where all workers count (`install`); None: this worker's counters are all there are.
        seconds_between: As `SECONDS_BETWEEN`.
    """

    def __init__(
        self,
        counters: Counters,
        sources: Sources,
        directory: Path | None = None,
        *,
        seconds_between: float = SECONDS_BETWEEN,
    ) -> None:
        self._counters = counters
        self._sources = sources
        self._directory = directory
        self._seconds_between = seconds_between
        self._turn = asyncio.Lock()
        self._begun = 0
        self._due = 0.0
        self._last: _Reading | None = None

    async def text(self) -> bytes:
        """Everything, in the Prometheus text format 0.0.4.

        Raises:
            Unavailable: The counters cannot be read.
        """
        return (await self._reading()).text

    async def totals(self) -> Totals:
        """Everything, as numbers.

        Raises:
            Unavailable: The counters cannot be read.
        """
        return (await self._reading()).totals

    async def _reading(self) -> _Reading:
        """A reading that began after the call.

        Raises:
            Unavailable: The counters cannot be read.
        """
        begun = self._begun
        async with self._turn:
            # None where whoever began it failed, or left before it was done.
            if self._begun > begun and self._last is not None:
                return self._last
            await asyncio.sleep(self._due - time.monotonic())
            self._due = time.monotonic() + self._seconds_between
            self._begun += 1
            self._last = None
            now = await self._now()
            try:
                self._last = await asyncio.to_thread(self._read, now)
            except OSError:
                raise Unavailable("The counters cannot be read.") from None
            return self._last

    async def _now(self) -> _Now:
        cluster, health = self._sources.cluster, self._sources.health
        # Side by side, as each of the two waits for the log where that is in trouble.
        extent, well = await asyncio.gather(self._extent(), _unknown() if health is None else health())
        report = None if cluster is None else await cluster()
        return _Now(extent, self._sources.subscriptions(), report, well)

    async def _extent(self) -> Extent | None:
        """What the log holds; None where it does not say, as that must not hide what is known without it."""
        with suppress(OscdError, TimeoutError):
            async with asyncio.timeout(LOG_SECONDS):
                return await self._sources.extent()
        return None

    def _read(self, now: _Now) -> _Reading:
        """Runs on a thread.

        Raises:
            OSError: The files of the workers cannot be read.
        """
        counted = self._counters.registry.collect() if self._directory is None else _merged(self._directory)
        asked = _asked(now.extent, now.subscriptions, self._sources.version)
        gauges = (*asked, *cluster_gauges(now.report), *health_gauges(now.health))
        families = _Families(sorted((*map(_without_ages, counted), *gauges), key=lambda family: family.name))
        return _Reading(generate_latest(families), _totals(families.collect()))


async def _unknown() -> Health:
    return Health()


@dataclass(frozen=True, slots=True)
class _Now:
    """What is so at the time of a reading, as opposed to what was counted."""

    extent: Extent | None
    subscriptions: int
    report: ClusterReport | None
    health: Health


@dataclass(frozen=True, slots=True)
class _Reading:
    text: bytes
    totals: Totals


@dataclass(frozen=True, slots=True)
class _Families:
    """What the library takes for a registry."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self.families


def _merged(directory: Path) -> Iterable[Metric]:
    """The sums over all workers.

    Raises:
        OSError: They cannot be read.
    """
    # A file that its worker is just making is empty for a moment.
    files = [str(path) for path in directory.iterdir() if path.suffix == ".db" and path.stat().st_size]
    merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return merged


def _without_ages(family: Metric) -> Metric:
    """In memory the library notes when each series began, in files it does not: nobody shall lean on it."""
    family.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
    return family


def _asked(extent: Extent | None, subscriptions: int, version: str) -> Iterator[Metric]:
    entries, head = (None, None) if extent is None else (extent.entries, extent.head)
    # Kept with the log, and not counted by workers: a restart forgets none.
    conflicts = CounterMetricFamily(
        "osc_replication_conflicts", "Writes that met without knowing of each other"
    )
    if extent is not None:
        conflicts.add_metric([], extent.conflicts)
    yield conflicts
    yield _gauge("osc_config_entries", "Live entries", entries)
    # The original's name; a gauge should not end like a counter, so it has a twin that does not.
    yield _gauge("osc_config_entries_total", "Live entries; as osc_config_entries", entries)
    yield _gauge("osc_log_head_offset", "Offset of the last event in the log of this node", head)
    yield _gauge("sse_active_subscriptions", "Streams open now", subscriptions)
    build = GaugeMetricFamily("osc_build_info", "What runs here", labels=["version", "python"])
    build.add_metric([version, platform.python_version()], 1)
    yield build


def _gauge(name: str, help_text: str, value: int | None) -> Metric:
    """A gauge; without a sample where its value is not known."""
    return GaugeMetricFamily(name, help_text, value=value)


def _totals(families: Iterable[Metric]) -> Totals:
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Totals(samples)
