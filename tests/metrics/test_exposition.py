"""Reading what all workers counted: complete, fresh, seldom, off the event loop, and whatever the log is doing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from oscd.errors import Unavailable
from oscd.metrics import exposition as exposition_module
from oscd.metrics.counters import Counters
from oscd.metrics.exposition import Exposition, Sources, Totals
from oscd.node import Extent
from oscd.replication.report import ClusterReport, PeerReport, Quarantine
from tests.metrics.conftest import StartWorker

PATIENCE = 20.0


async def some_extent() -> Extent:
    return Extent(head=12, entries=5, conflicts=2)


def exposition(
    counters: Counters | None = None,
    *,
    extent: Callable[[], Awaitable[Extent]] = some_extent,
    directory: Path | None = None,
    cluster: Callable[[], Awaitable[ClusterReport]] | None = None,
) -> Exposition:
    sources = Sources(extent, lambda: 3, "1.2.3", cluster)
    return Exposition(counters or Counters(), sources, directory, seconds_between=0)


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scraper understands of a text; each series once."""
    found = [
        ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    ]
    assert len(found) == len(dict(found))
    return dict(found)


async def test_all_workers_are_summed(start_worker: StartWorker, tmp_path: Path) -> None:
    """Counters and histograms are the sums over the workers; how far the slowest reader lags is the greatest."""
    workers = [start_worker(index) for index in range(3)]
    for lag, worker in enumerate(workers, start=1):
        worker.request("GET", "/configs/{key}", 200, 0.5, None)
        worker.committed(2, 0.002)
        worker.lagging(10 * lag)
    workers[2].lagging(0)
    found = samples(await exposition(workers[0], directory=tmp_path).text())
    labels = (("endpoint", "/configs/:key"), ("method", "GET"))
    assert found["osc_http_requests_total", (*labels, ("status_code", "200"))] == 3
    assert found["osc_http_request_duration_seconds_sum", labels] == 1.5
    assert found["osc_http_request_duration_seconds_count", labels] == 3
    assert found["osc_http_request_duration_seconds_bucket", (labels[0], ("le", "0.25"), labels[1])] == 0
    assert found["osc_http_request_duration_seconds_bucket", (labels[0], ("le", "+Inf"), labels[1])] == 3
    assert found["osc_log_events_appended_total", ()] == 6
    assert found["sse_queue_size", ()] == 20
    assert not [name for name, with_labels in found if dict(with_labels).keys() & {"pid", "worker"}]


async def test_both_ways_to_count_show_the_same(start_worker: StartWorker, tmp_path: Path) -> None:
    """In files or in memory: the same series with the same values."""

    def counted(counters: Counters) -> Counters:
        counters.request("PUT", "/configs/{key}", 200, 0.25, None)
        counters.unsubscribed(120, by_client=True)
        return counters

    in_memory = samples(await exposition(counted(Counters())).text())
    assert in_memory == samples(await exposition(counted(start_worker(0)), directory=tmp_path).text())


async def test_a_file_that_is_just_being_made_is_no_trouble(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker that starts makes its files empty first."""
    counters = start_worker(0)
    counters.derived()
    (tmp_path / "counter_1.db").touch()
    totals = await exposition(counters, directory=tmp_path).totals()
    assert totals.value("osc_key_derivations_total") == 1


async def test_what_is_so_now_stands_beside_what_was_counted() -> None:
    """Entries and nodes under the original's names and under clean ones, the head, streams, what runs."""
    found = samples(await exposition().text())
    for name, expected in (
        ("osc_config_entries", 5),
        ("osc_config_entries_total", 5),
        ("osc_log_head_offset", 12),
        ("sse_active_subscriptions", 3),
        ("osc_cluster_nodes", 0),
        ("osc_cluster_nodes_total", 0),
        ("osc_cluster_nodes_healthy", 0),
        ("osc_replication_conflicts_total", 2),
        ("osc_replication_quarantined", 0),
        ("osc_replication_diverged", 0),
    ):
        assert found[name, ()] == expected
    assert not [name for name, labels in found if "peer" in dict(labels)]
    (build,) = [dict(labels) for name, labels in found if name == "osc_build_info"]
    assert build["version"] == "1.2.3"
    assert build["python"].startswith("3.")


async def test_what_is_known_of_peers_is_there_under_the_operators_names() -> None:
    """One sample for each peer, and none where nothing is known; whatever they call themselves is in no label."""
    well = PeerReport("b:9000", 'evil"name', "live", True, 1, 3, 0.5, -0.25, 7, False, True, None)
    unmet = PeerReport("https://c:9000", last_error="down")
    fork = Quarantine("x", "00112233445566aa", 4, "b:9000", "why")

    async def report() -> ClusterReport:
        return ClusterReport(1, (), (well, unmet), (fork,))

    text = await exposition(cluster=report).text()
    assert b"evil" not in text
    found = samples(text)
    assert {
        (name, dict(labels).get("peer")): value
        for (name, labels), value in found.items()
        if name.startswith(("osc_cluster_nodes", "osc_replication"))
    } == {
        ("osc_cluster_nodes", None): 3,
        ("osc_cluster_nodes_total", None): 3,
        ("osc_cluster_nodes_healthy", None): 2,
        ("osc_replication_link_up", "b:9000"): 1,
        ("osc_replication_link_up", "https://c:9000"): 0,
        ("osc_replication_lag_events", "b:9000"): 3,
        ("osc_replication_lag_seconds", "b:9000"): 0.5,
        ("osc_replication_skew_seconds", "b:9000"): -0.25,
        ("osc_replication_quarantined", None): 1,
        ("osc_replication_diverged", None): 1,
        ("osc_replication_conflicts_total", None): 2,
        ("osc_replication_events_ingested_total", None): 0,
    }


async def _refused() -> Extent:
    raise Unavailable("The disk of the log is full.")


async def _hangs() -> Extent:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.parametrize("extent", [_refused, _hangs])
async def test_trouble_with_the_log_hides_nothing_else(
    extent: Callable[[], Awaitable[Extent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the log knows is left out, not told as 0; all else is answered, also while the log hangs."""
    monkeypatch.setattr(exposition_module, "LOG_SECONDS", 0.05)
    counters = Counters()
    counters.derived()
    found = samples(await exposition(counters, extent=extent).text())
    assert found["osc_key_derivations_total", ()] == 1
    assert found["sse_active_subscriptions", ()] == 3
    names = {name for name, _ in found}
    assert names.isdisjoint(
        {
            "osc_config_entries",
            "osc_config_entries_total",
            "osc_log_head_offset",
            "osc_replication_conflicts_total",
        }
    )


async def test_without_its_files_it_says_so(tmp_path: Path) -> None:
    """Somebody removed the directory: that is 503, and no exposition of nothing."""
    with pytest.raises(Unavailable):
        await exposition(directory=tmp_path / "gone").text()


class Gate:
    """A collector that says when a reading has come to it, and lets it go on when the test says so."""

    def __init__(self) -> None:
        self.readings = 0
        self.threads: set[int] = set()
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        self.readings += 1
        self.threads.add(threading.get_ident())
        self.reached.release()
        assert self.opened.wait(PATIENCE)
        return [GaugeMetricFamily("readings", "Readings so far", value=self.readings)]

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.acquire, timeout=PATIENCE)


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_many_who_ask_share_few_readings(gate: Gate) -> None:
    """Those who come while one reading runs share the next, which has all that was counted before they came."""
    counters = Counters()
    counters.registry.register(gate)
    shown = exposition(counters)
    first = asyncio.create_task(shown.totals())
    await gate.wait()
    counters.derived()
    late = [asyncio.create_task(shown.totals()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.opened.set()
    assert (await first).value("readings") == 1
    for one in await asyncio.gather(*late):
        assert one.value("readings") == 2
        assert one.value("osc_key_derivations_total") == 1
    assert threading.get_ident() not in gate.threads


async def test_one_who_leaves_takes_nothing_from_the_others(gate: Gate) -> None:
    """The client whose question a reading was for goes away; whoever waits for the same gets a whole one."""
    counters = Counters()
    counters.registry.register(gate)
    shown = exposition(counters)
    impatient = asyncio.create_task(shown.text())
    await gate.wait()
    patient = [asyncio.create_task(shown.totals()) for _ in range(3)]
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    gate.opened.set()
    assert {one.value("readings") for one in await asyncio.gather(*patient)} == {2}


async def test_readings_keep_their_distance() -> None:
    """However fast somebody asks, one reading begins so long after the one before."""
    shown = Exposition(Counters(), Sources(some_extent, lambda: 0, "0"), seconds_between=0.05)
    before = time.monotonic()
    for _ in range(4):
        await shown.text()
    # A machine that is slow takes longer, and none takes less.
    assert time.monotonic() - before >= 3 * 0.05


def test_totals_add_up_what_is_asked_for() -> None:
    """By name and some labels, or for each value of one label; what was never counted is 0."""
    totals = Totals(
        {
            "n": [
                ({"a": "1", "b": "x"}, 1.0),
                ({"a": "1", "b": "y"}, 2.0),
                ({"a": "2", "b": "x"}, 4.0),
            ]
        }
    )
    assert totals.value("n") == 7
    assert totals.value("n", a="1") == 3
    assert totals.value("n", a="1", b="y") == 2
    assert totals.value("n", a="3") == 0
    assert totals.value("m") == 0
    assert totals.by_label("n", "b") == {"x": 5, "y": 2}
    assert totals.by_label("m", "b") == {}
