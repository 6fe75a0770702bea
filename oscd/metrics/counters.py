"""Owns what one worker counts: every metric object, and which label sets it may have.

Must not read what other workers counted (`exposition.py` does), nor make a label of anything a client chose: a route
counts by its template, and what no route takes counts as one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

UNMATCHED: Final = "unmatched"
OTHER: Final = "other"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OPERATIONS: Final = {
    ("POST", "/configs"): "create",
    ("GET", "/configs"): "list",
    ("GET", "/configs/{key}"): "read",
    ("PUT", "/configs/{key}"): "update",
    ("DELETE", "/configs/{key}"): "delete",
}
WRITE_OUTCOMES: Final = {
    "create": ("success", "error"),
    "update": ("success", "not_found", "error"),
    "delete": ("success", "not_found", "error"),
}
READ_OUTCOMES: Final = ("success", "not_found", "error")
# A list of nothing is a list.
_LIST_OUTCOMES: Final = ("success", "error")
EVENT_KINDS: Final = ("created", "updated", "deleted", "sync")

# Upper bounds, in seconds. A read takes under one millisecond; a new key waits up to 5 s for its derivation, a
# command as long for its turn.
_REQUEST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SYNC_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STREAM_SECONDS: Final = (
    *(1, 10, _MINUTE, 5 * _MINUTE, 15 * _MINUTE),
    *(_HOUR, 4 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY),
)

# Bytes of a worker's files, named as prometheus_client does. All series oscd can have fit in; see `_reserve`.
_FILES: Final = {"counter": 256 * 1024, "histogram": 256 * 1024, "gauge_max": 4 * 1024}


def install(directory: Path, index: int) -> None:
    """Have all `Counters` that this process makes from now on count in files of `directory`.

    The files are named by the worker's index and outlive the process: whoever replaces a worker goes on counting
    where it was killed.

    Args:
        directory: The same for all workers of a node, and empty when the node starts.
        index: Which worker this is; no two may have one index at one time.

    Raises:
        OSError: There is no room for the files.
    """
    _reserve(directory, index)
    # The library chooses the kind of its values when it is imported; it looks both of these up with each value.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: index)  # type: ignore[no-untyped-call]


def _reserve(directory: Path, index: int) -> None:
    """Take the room for the files now: a mapped page that cannot be had later kills the process (SIGBUS)."""
    for kind, size in _FILES.items():
        descriptor = os.open(
            directory / f"{kind}_{index}.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600
        )
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)


class Counters:
    """What one worker counts. Without `install` it counts in memory, for itself alone.

    `request` and what belongs to a stream are called on the event loop; `derived` may be called on any thread.

    Attributes:
        registry: Holds this worker's metrics and no others.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter(
            "osc_http_requests", "HTTP requests answered", ("method", "endpoint", "status_code")
        )
        self._request_seconds = self._histogram(
            "osc_http_request_duration_seconds",
            "Duration of HTTP requests, streams aside",
            _REQUEST_SECONDS,
            ("method", "endpoint"),
        )
        self._errors = self._counter(
            "osc_api_errors", "Requests refused or failed", ("endpoint", "error_type")
        )
        self._operations = self._counter(
            "osc_config_operations", "Operations on entries", ("operation", "status")
        )
        self._reads = self._counter("osc_config_read_operations", "Reads of an entry", ("status",))
        self._writes = self._counter(
            "osc_config_write_operations", "Writes of an entry", ("operation", "status")
        )
        values_handled = self._counter(
            "osc_encryption_operations", "Values sealed or opened for callers", ("operation",)
        )
        self._sealed = values_handled.labels("encrypt")
        self._opened = values_handled.labels("decrypt")
        self._derived = self._counter("osc_key_derivations", "User keys stretched")
        self._starts = self._counter("osc_worker_starts", "Starts of a worker", ("worker",))
        self._appended = self._counter("osc_log_events_appended", "Events appended to the log")
        self._commit_seconds = self._histogram(
            "osc_log_commit_duration_seconds", "Duration of commits that appended events", _COMMIT_SECONDS
        )
        self._subscribed = self._counter("sse_subscriptions", "Streams opened")
        self._closed = self._counter("sse_subscriptions_closed", "Streams ended")
        self._stream_seconds = self._histogram(
            "sse_subscription_duration_seconds", "Duration of streams that ended", _STREAM_SECONDS
        )
        sent = self._counter("sse_events_sent", "Events sent to subscribers", ("event_type",))
        self._sent = {kind: sent.labels(kind) for kind in EVENT_KINDS}
        self._kept_alive = self._counter("sse_keepalive_sent", "Keep-alives sent")
        self._disconnections = self._counter("sse_disconnections", "Streams ended by their client")
        self._lagging = Gauge(
            "sse_queue_size",
            "Log events the slowest subscriber is behind",
            registry=self.registry,
            multiprocess_mode="max",
        )
        # A worker that replaces another starts with no subscriber.
        self._lagging.set(0)
        # A slow reader re-reads the log instead, so none is ever dropped; the original's name stays, at 0.
        self._counter("sse_events_dropped", "Events dropped")
        self._sync_seconds = self._histogram(
            "osc_cluster_sync_duration_seconds", "Duration of catch-ups with peers", _SYNC_SECONDS
        )
        self._ingested = self._counter("osc_replication_events_ingested", "Events taken in from peers")
        # One entry per label set that was seen. Every part of the key is of a small set: see `request`.
        self._by_request: dict[tuple[str, str, int, str | None], tuple[Callable[[], None], ...]] = {}
        self._by_route: dict[tuple[str, str], Callable[[float], None]] = {}
        self._show_zeros()

    def started(self, index: int) -> None:
        """The worker of that index was started; what takes its place after a crash has the same index."""
        self._starts.labels(str(index)).inc()

    def request(self, method: str, route: str, status: int, seconds: float | None, error: str | None) -> None:
        """Count one answer.

        Args:
            method: As the client sent it; it counts only where the route takes it.
            route: Template of the route that took the request, or `UNMATCHED`.
            seconds: None for what lasts as long as its client likes.
            error: `kind` of the refusal it was answered with.
        """
        if route == UNMATCHED or method not in _METHODS:
            method, route = OTHER, UNMATCHED
        counted = self._by_request.get((method, route, status, error))
        if counted is None:
            counted = self._by_request[method, route, status, error] = self._counted(
                method, route, status, error
            )
        for count in counted:
            count()
        if seconds is not None:
            observe = self._by_route.get((method, route))
            if observe is None:
                observe = self._request_seconds.labels(method, _endpoint(route)).observe
                self._by_route[method, route] = observe
            observe(seconds)

    def sealed(self, count: int = 1) -> None:
        """So many values were encrypted for a caller and appended."""
        self._sealed.inc(count)

    def opened(self, count: int = 1) -> None:
        """So many values were decrypted for a caller."""
        self._opened.inc(count)

    def derived(self) -> None:
        """A user key was stretched."""
        self._derived.inc()

    def committed(self, events: int, seconds: float) -> None:
        """One commit appended so many events."""
        self._appended.inc(events)
        self._commit_seconds.observe(seconds)

    def ingested(self, events: int) -> None:
        """So many events of other nodes were taken in; `committed` has counted them, too."""
        self._ingested.inc(events)

    def caught_up(self, seconds: float) -> None:
        """A peer's backlog is taken in, so many seconds after its stream had begun."""
        self._sync_seconds.observe(seconds)

    def subscribed(self) -> None:
        """A stream was opened."""
        self._subscribed.inc()

    def unsubscribed(self, seconds: float, *, by_client: bool) -> None:
        """A stream has ended after so long.

        Args:
            by_client: Its client went away, as opposed to a goodbye of ours.
        """
        self._closed.inc()
        self._stream_seconds.observe(seconds)
        if by_client:
            self._disconnections.inc()

    def abandoned(self, count: int) -> None:
        """So many streams ended with the crash of the worker before this one; nobody knows how long they were."""
        self._closed.inc(count)

    def sent(self, kind: str, count: int = 1) -> None:
        """So many events of a kind went out; what is none of `EVENT_KINDS` tells of no change and is not counted."""
        counter = self._sent.get(kind)
        if counter is not None:
            counter.inc(count)

    def kept_alive(self, count: int = 1) -> None:
        """So many keep-alives went out."""
        self._kept_alive.inc(count)

    def lagging(self, events: int) -> None:
        """The slowest subscriber of this worker is so many log events behind."""
        self._lagging.set(events)

    def _counted(
        self, method: str, route: str, status: int, error: str | None
    ) -> tuple[Callable[[], None], ...]:
        """What one answer counts in."""
        endpoint = _endpoint(route)
        counters = [self._requests.labels(method, endpoint, str(status))]
        if error is not None:
            counters.append(self._errors.labels(endpoint, error))
        operation = _OPERATIONS.get((method, route))
        if operation is not None:
            outcome = _outcome(status)
            counters.append(self._operations.labels(operation, outcome))
            if operation == "read":
                counters.append(self._reads.labels(outcome))
            elif operation in WRITE_OUTCOMES:
                counters.append(self._writes.labels(operation, outcome))
        return tuple(counter.inc for counter in counters)

    def _show_zeros(self) -> None:
        """Make the label sets that are known, so that what has not happened yet is seen not to have."""
        for operation, outcomes in WRITE_OUTCOMES.items():
            for outcome in outcomes:
                self._operations.labels(operation, outcome)
                self._writes.labels(operation, outcome)
        for outcome in READ_OUTCOMES:
            self._operations.labels("read", outcome)
            self._reads.labels(outcome)
        for outcome in _LIST_OUTCOMES:
            self._operations.labels("list", outcome)

    def _counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; the text adds `_total` to its name."""
        return Counter(name, help_text, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, help_text, labels, registry=self.registry, buckets=buckets)


def _endpoint(route: str) -> str:
    """A route template as the label has it: the original's GUI cannot parse a brace there."""
    return re.sub(r"\{(\w+)\}", r":\1", route)


def route_of(endpoint: str) -> str:
    """The route template that a label `endpoint` stands for."""
    return re.sub(r":(\w+)", r"{\1}", endpoint)


def _outcome(status: int) -> str:
    if 200 <= status < 300 or status == 304:
        return "success"
    return "not_found" if status == 404 else "error"
