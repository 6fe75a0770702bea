"""What one worker counts: every answer once, under labels no client chooses, in files that outlive its process."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from oscd.errors import RequestRefused
from oscd.metrics.counters import EVENT_KINDS, UNMATCHED, Counters, route_of
from tests.metrics.conftest import StartWorker

READ = "/configs/{key}"


def value(counters: Counters, name: str, **labels: str) -> float | None:
    return counters.registry.get_sample_value(name, labels)


def series(registry: CollectorRegistry, name: str) -> int:
    return sum(sample.name == name for family in registry.collect() for sample in family.samples)


@pytest.mark.parametrize(
    ("method", "route", "status", "operation", "outcome"),
    [
        ("POST", "/configs", 201, "create", "success"),
        ("POST", "/configs", 400, "create", "error"),
        ("GET", "/configs", 200, "list", "success"),
        ("GET", "/configs", 422, "list", "error"),
        ("GET", READ, 200, "read", "success"),
        ("GET", READ, 304, "read", "success"),
        ("GET", READ, 404, "read", "not_found"),
        ("GET", READ, 401, "read", "error"),
        ("GET", READ, 499, "read", "error"),
        ("PUT", READ, 200, "update", "success"),
        ("PUT", READ, 201, "update", "success"),
        ("PUT", READ, 404, "update", "not_found"),
        ("PUT", READ, 412, "update", "error"),
        ("DELETE", READ, 200, "delete", "success"),
        ("DELETE", READ, 404, "delete", "not_found"),
        ("DELETE", READ, 503, "delete", "error"),
    ],
)
def test_an_answer_counts_as_the_operation_it_is(
    method: str, route: str, status: int, operation: str, outcome: str
) -> None:
    """Of the operation and its outcome, in the counter of all and in that of reads or of writes; lists in one."""
    counters = Counters()
    counters.request(method, route, status, 0.01, None)
    assert value(counters, "osc_config_operations_total", operation=operation, status=outcome) == 1
    reads = value(counters, "osc_config_read_operations_total", status=outcome)
    writes = value(counters, "osc_config_write_operations_total", operation=operation, status=outcome)
    assert (reads or 0, writes or 0) == (operation == "read", operation in {"create", "update", "delete"})
    assert total(counters, "osc_config_operations_total") == 1
    assert total(counters, "osc_config_read_operations_total") == (reads or 0)
    assert total(counters, "osc_config_write_operations_total") == (writes or 0)


def total(counters: Counters, name: str) -> float:
    return sum(
        sample.value
        for family in counters.registry.collect()
        for sample in family.samples
        if sample.name == name
    )


@pytest.mark.parametrize(
    ("method", "route"), [("HEAD", READ), ("HEAD", "/configs"), ("GET", "/health"), ("OPTIONS", "/configs")]
)
def test_what_asks_for_no_entry_is_no_operation(method: str, route: str) -> None:
    """`HEAD`, and every other route, counts as a request only."""
    counters = Counters()
    counters.request(method, route, 200, 0.01, None)
    assert total(counters, "osc_http_requests_total") == 1
    assert total(counters, "osc_config_operations_total") == 0


def test_the_endpoint_is_the_template_without_braces() -> None:
    """The label is `/configs/:key`, and gives the template back."""
    counters = Counters()
    counters.request("GET", READ, 404, 0.003, "not_found")
    labels = {"method": "GET", "endpoint": "/configs/:key"}
    assert value(counters, "osc_http_requests_total", **labels, status_code="404") == 1
    assert value(counters, "osc_http_request_duration_seconds_count", **labels) == 1
    assert value(counters, "osc_http_request_duration_seconds_sum", **labels) == 0.003
    assert value(counters, "osc_api_errors_total", endpoint="/configs/:key", error_type="not_found") == 1
    assert route_of("/configs/:key") == READ
    assert route_of("/stats/operations") == "/stats/operations"


def test_what_no_route_takes_is_one_series() -> None:
    """Whatever method a client makes up, and whatever it asks for, there is one series a status and no more."""
    counters = Counters()
    for number in range(1000):
        counters.request(f"METHOD{number}", UNMATCHED, 404, 0.001, "not_found")
        counters.request(f"METHOD{number}", READ, 404, 0.001, "not_found")
    assert series(counters.registry, "osc_http_requests_total") == 1
    assert series(counters.registry, "osc_api_errors_total") == 1
    labels = {"method": "other", "endpoint": "unmatched"}
    assert value(counters, "osc_http_requests_total", **labels, status_code="404") == 2000
    assert value(counters, "osc_http_request_duration_seconds_count", **labels) == 2000


def test_a_stream_has_no_request_duration() -> None:
    """What lasts as long as its client likes is counted, but not timed as a request."""
    counters = Counters()
    counters.request("GET", "/sse/subscribe", 200, None, None)
    assert total(counters, "osc_http_requests_total") == 1
    assert series(counters.registry, "osc_http_request_duration_seconds_count") == 0


def test_streams_are_counted_from_begin_to_end() -> None:
    """Opened, sent, kept alive, lagging, ended by whom and after how long."""
    counters = Counters()
    for _ in range(4):
        counters.subscribed()
    counters.unsubscribed(30.0, by_client=True)
    counters.unsubscribed(90.0, by_client=False)
    counters.abandoned(2)
    counters.sent("created")
    counters.sent("sync", 3)
    counters.kept_alive(5)
    counters.lagging(7)
    assert value(counters, "sse_subscriptions_total") == 4
    assert value(counters, "sse_subscriptions_closed_total") == 4
    assert value(counters, "sse_disconnections_total") == 1
    assert value(counters, "sse_subscription_duration_seconds_count") == 2
    assert value(counters, "sse_subscription_duration_seconds_sum") == 120
    assert value(counters, "sse_events_sent_total", event_type="created") == 1
    assert value(counters, "sse_events_sent_total", event_type="sync") == 3
    assert value(counters, "sse_keepalive_sent_total") == 5
    assert value(counters, "sse_queue_size") == 7


def test_frames_that_tell_of_no_change_are_no_events() -> None:
    """`connected` and whatever else frames are called adds neither a count nor a series."""
    counters = Counters()
    counters.sent("connected")
    counters.sent("snapshot", 3)
    assert series(counters.registry, "sse_events_sent_total") == len(EVENT_KINDS)
    assert total(counters, "sse_events_sent_total") == 0


def test_what_the_node_does_is_counted() -> None:
    """Values sealed and opened, keys stretched, events appended and how long their commits took."""
    counters = Counters()
    counters.sealed()
    counters.opened()
    counters.opened(4)
    counters.derived()
    counters.committed(3, 0.002)
    counters.ingested(2)
    counters.caught_up(0.2)
    assert value(counters, "osc_replication_events_ingested_total") == 2
    assert value(counters, "osc_cluster_sync_duration_seconds_sum") == 0.2
    assert value(counters, "osc_encryption_operations_total", operation="encrypt") == 1
    assert value(counters, "osc_encryption_operations_total", operation="decrypt") == 5
    assert value(counters, "osc_key_derivations_total") == 1
    assert value(counters, "osc_log_events_appended_total") == 3
    assert value(counters, "osc_log_commit_duration_seconds_count") == 1


def test_what_has_not_happened_is_seen_not_to_have() -> None:
    """Label sets that are known beforehand are there at 0, so that an alert on their rate works from the start."""
    counters = Counters()
    for name, labels in (
        ("osc_config_operations_total", {"operation": "list", "status": "success"}),
        ("osc_config_read_operations_total", {"status": "not_found"}),
        ("osc_config_write_operations_total", {"operation": "delete", "status": "error"}),
        ("osc_encryption_operations_total", {"operation": "encrypt"}),
        ("sse_events_sent_total", {"event_type": "deleted"}),
        ("sse_events_dropped_total", {}),
        ("osc_cluster_sync_duration_seconds_count", {}),
        ("osc_replication_events_ingested_total", {}),
    ):
        assert counters.registry.get_sample_value(name, labels) == 0


def test_counters_in_memory_share_nothing() -> None:
    """Two of them in one process, as in tests, do not see each other."""
    one, other = Counters(), Counters()
    one.derived()
    assert (value(one, "osc_key_derivations_total"), value(other, "osc_key_derivations_total")) == (1, 0)


def test_a_successor_goes_on_where_its_predecessor_was_killed(start_worker: StartWorker) -> None:
    """Whoever has the index next has all its counts, with labels and buckets; but nobody lags behind it yet."""
    killed = start_worker(2)
    killed.request("GET", READ, 200, 0.003, None)
    killed.committed(5, 0.002)
    killed.lagging(9)
    successor = start_worker(2)
    successor.request("GET", READ, 200, 0.004, None)
    labels = {"method": "GET", "endpoint": "/configs/:key"}
    assert value(successor, "osc_http_requests_total", **labels, status_code="200") == 2
    assert value(successor, "osc_http_request_duration_seconds_count", **labels) == 2
    assert value(successor, "osc_log_events_appended_total") == 5
    assert value(successor, "osc_config_read_operations_total", status="success") == 2
    assert value(successor, "sse_queue_size") == 0


def test_the_room_is_taken_at_the_start(start_worker: StartWorker, tmp_path: Path) -> None:
    """The files have all their bytes before anything is counted, and do not grow by whatever is counted then."""
    counters = start_worker(0)
    files = sorted(tmp_path.glob("*.db"))
    before = [(path.name, path.stat().st_size) for path in files]
    assert all(path.stat().st_blocks * 512 >= path.stat().st_size for path in files)
    refusals = [None, *(kind.kind for kind in _every(RequestRefused))]
    for route in (f"/a/route/{number}/{{key}}" for number in range(30)):
        for method in ("GET", "HEAD"):
            for status, error in enumerate(refusals, start=400):
                counters.request(method, route, status, 0.1, error)
    assert [(path.name, path.stat().st_size) for path in files] == before


def _every(kind: type[RequestRefused]) -> list[type[RequestRefused]]:
    return [found for child in kind.__subclasses__() for found in (child, *_every(child))]


def test_a_worker_without_room_does_not_start(start_worker: StartWorker, tmp_path: Path) -> None:
    """Where the files cannot be had whole there is an error now, and no signal that kills the process later."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            start_worker(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.environ.get("PROMETHEUS_MULTIPROC_DIR") != str(tmp_path)
