"""What Prometheus sees of a node of four workers: the sums of what was done, whoever did it, through crashes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import StartNode
from tests.support.node import NO_TLS, OTHER_USER_KEY, USER_KEY, RunningNode, key_headers
from tests.support.requirements import skip_unless_ci
from tests.support.waiting import PATIENCE, wait_until

API_KEY = "an-api-key-of-this-test"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Work:
    """Requests of which it is known what they must have been counted as.

    Each goes over a connection of its own, so that all workers get some.

    Attributes:
        done: What the requests so far add to each series.
    """

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self.done: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()

    def everything(self, name: str) -> None:
        """One of each kind of request, on keys that begin with `name`."""
        body = {"key": f"{name}/a", "value": 1, "environment": name}
        at, absent = f"/configs/{name}/a?environment={name}", f"/configs/{name}/b?environment={name}"
        self.ask("POST", "/configs", 201, operation="create", json=body, sealed=1)
        self.ask("POST", "/configs", 400, operation="create", json=body, error="already_exists")
        self.ask("GET", at, 200, operation="read", opened=1)
        self.ask("GET", absent, 404, operation="read", error="not_found")
        self.ask("GET", at, 401, operation="read", user_key=OTHER_USER_KEY, error="auth_error")
        self.ask("PUT", at, 200, operation="update", json={"value": 2}, sealed=1)
        self.ask("PUT", absent, 404, operation="update", json={"value": 2}, error="not_found")
        self.ask("PUT", at, 422, operation="update", json={}, error="validation_error")
        self.ask("GET", f"/configs?environment={name}", 200, operation="list", opened=1)
        self.ask("DELETE", absent, 404, operation="delete", error="not_found")
        self.ask("DELETE", at, 200, operation="delete")
        self.ask("GET", "/health", 200)
        self.ask("GET", "/configs", 403, api_key="a wrong one", error="auth_error", matched=False)
        self.ask("GET", f"/{name}", 404, error="not_found", matched=False)
        self.ask("BREW", "/configs", 405, error="method_not_allowed", matched=False)

    def ask(
        self,
        method: str,
        target: str,
        status: int,
        *,
        operation: str = "",
        user_key: str = USER_KEY,
        api_key: str = API_KEY,
        json: object = None,
        error: str | None = None,
        matched: bool = True,
        sealed: int = 0,
        opened: int = 0,
    ) -> None:
        """Send one request, check its status, and note what it must be counted as."""
        with httpx.Client(
            base_url=self._node.base_url, timeout=PATIENCE, trust_env=False, verify=NO_TLS
        ) as client:
            answer = client.request(method, target, json=json, headers=key_headers(user_key, api_key))
        assert answer.status_code == status, answer.text
        path = target.partition("?")[0]
        endpoint = "/configs/:key" if path.startswith("/configs/") else path
        method, endpoint = (method, endpoint) if matched else ("other", "unmatched")
        self._add("osc_http_requests_total", method=method, endpoint=endpoint, status_code=str(status))
        self._add("osc_http_request_duration_seconds_count", method=method, endpoint=endpoint)
        if error is not None:
            self._add("osc_api_errors_total", endpoint=endpoint, error_type=error)
        if operation:
            outcome = "success" if status < 300 else "not_found" if status == 404 else "error"
            self._add("osc_config_operations_total", operation=operation, status=outcome)
            if operation == "read":
                self._add("osc_config_read_operations_total", status=outcome)
            elif operation != "list":
                self._add("osc_config_write_operations_total", operation=operation, status=outcome)
                if outcome == "success":
                    self._add("osc_log_events_appended_total")
                    self._add("osc_log_head_offset")
        self._add("osc_encryption_operations_total", sealed, operation="encrypt")
        self._add("osc_encryption_operations_total", opened, operation="decrypt")

    def _add(self, name: str, count: int = 1, **labels: str) -> None:
        if count:
            self.done[name, frozenset(labels.items())] += count


COUNTED = (
    "osc_http_requests_total",
    "osc_http_request_duration_seconds_count",
    "osc_api_errors_total",
    "osc_config_operations_total",
    "osc_config_read_operations_total",
    "osc_config_write_operations_total",
    "osc_encryption_operations_total",
    "osc_log_events_appended_total",
    "osc_log_head_offset",
)


def as_counted(samples: Samples) -> Samples:
    """Of these samples what `Work` knows; how often somebody scraped it does not."""
    return {
        (name, labels): value
        for (name, labels), value in samples.items()
        if name in COUNTED and value and ("endpoint", "/metrics") not in labels
    }


def scrape(node: RunningNode) -> Samples:
    answer = httpx.get(f"{node.base_url}/metrics", timeout=PATIENCE, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def require_counted(node: RunningNode, work: Work) -> None:
    """Each worker counts when an answer has left, which its client may see before."""
    with suppress(AssertionError):
        wait_until(lambda: as_counted(scrape(node)) == work.done)
    assert as_counted(scrape(node)) == work.done


@pytest.fixture
def node(start_node: StartNode) -> RunningNode:
    return start_node(OSC_WORKERS="4", OSC_API_KEY_REQUIRED="true", OSC_API_KEY=API_KEY)


def test_the_counters_are_what_was_done(node: RunningNode) -> None:
    """Over all workers, by operation, outcome, endpoint and refusal; `/stats/operations` says the same."""
    work = Work(node)
    for number in range(8):
        work.everything(f"n{number}")
    require_counted(node, work)
    samples = scrape(node)
    assert samples["osc_config_entries_total", frozenset()] == samples["osc_config_entries", frozenset()] == 0
    assert samples["osc_key_derivations_total", frozenset()] >= 2
    with node.client(api_key=API_KEY) as client:
        statistics = client.get("/stats/operations").raise_for_status().json()
    assert statistics["read_operations"] == {"success": 8, "not_found": 8, "error": 8}
    assert statistics["write_operations"] == {
        "create_success": 8,
        "create_error": 8,
        "update_success": 8,
        "update_not_found": 8,
        "update_error": 8,
        "delete_success": 8,
        "delete_not_found": 8,
        "delete_error": 0,
    }
    assert statistics["encryption_operations"] == {"encrypt": 16, "decrypt": 16}
    assert statistics["total_http_requests"]["GET_/configs/{key}_401"] == 8


def test_what_clients_ask_for_adds_no_series(node: RunningNode) -> None:
    """After thousands of keys, environments, paths and methods that never were, the series are those from before."""
    work = Work(node)
    work.everything("first")
    require_counted(node, work)
    before = scrape(node).keys()
    scrape(node)

    def ask(client: httpx.Client, number: int) -> None:
        assert client.get(f"/configs/key-{number}?environment=e{number}").status_code == 404
        if number % 10 == 0:
            assert client.get(f"/path-{number}").status_code == 404
            assert client.request(f"BREW{number}", "/configs").status_code == 405

    with node.client(api_key=API_KEY) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: ask(client, number), range(2000)))
    after = scrape(node).keys()
    assert {series for series in after - before if ("endpoint", "/metrics") not in series[1]} == set()


def test_a_killed_worker_takes_no_counts_with_it(node: RunningNode) -> None:
    """After `kill -9` of one worker, then of all, nothing is forgotten or counted twice, and counting goes on."""
    work = Work(node)
    for number in range(4):
        work.everything(f"before-{number}")
    require_counted(node, work)
    for count in (1, 4):
        victims = node.worker_pids()[:count]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _replaced(node, victims), what="new workers")  # noqa: B023
        require_counted(node, work)
        for number in range(4):
            work.everything(f"after-{count}-{number}")
        require_counted(node, work)
    samples = scrape(node)
    starts = [samples["osc_worker_starts_total", frozenset({("worker", str(w))})] for w in range(4)]
    assert sorted(starts) == [2, 2, 2, 3], "each was killed once, one of them twice"
    ages = [samples["osc_worker_beat_age_seconds", frozenset({("worker", str(w))})] for w in range(4)]
    assert max(ages) < PATIENCE


def _replaced(node: RunningNode, victims: Sequence[int]) -> bool:
    pids = node.worker_pids()
    return len(pids) == 4 and not set(victims) & set(pids) and _each_serves(node)


def _each_serves(node: RunningNode) -> bool:
    """Whether connections are answered wherever they fall; a worker that is not yet up leaves them waiting."""
    for _ in range(16):
        scrape(node)
    return True


def test_counters_begin_anew_with_the_node(start_node: StartNode) -> None:
    """A restart begins at 0, which Prometheus knows for one; what is in the log stays."""
    node = start_node(OSC_WORKERS="2")
    with node.client() as client:
        assert client.post("/configs", json={"key": "k", "value": 1, "environment": "e"}).status_code == 201
    node.restart()
    samples = scrape(node)
    assert samples["osc_log_events_appended_total", frozenset()] == 0
    assert samples["osc_log_head_offset", frozenset()] == 1
    assert samples["osc_config_entries", frozenset()] == 1


def test_the_text_is_as_prometheus_wants_it(node: RunningNode) -> None:
    """`promtool check metrics` has nothing to say but the two gauges whose names the original fixed."""
    promtool = _program("promtool")
    work = Work(node)
    work.everything("checked")
    text = httpx.get(f"{node.base_url}/metrics", timeout=PATIENCE, trust_env=False, verify=NO_TLS).text
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = [line.partition(" ")[0] for line in (checked.stdout + checked.stderr).splitlines() if line]
    assert said == ["osc_cluster_nodes_total", "osc_config_entries_total"], checked.stdout + checked.stderr


def test_prometheus_stores_what_was_done(node: RunningNode, tmp_path: Path) -> None:
    """A real Prometheus scrapes the node while it works; in the end its series are what was done."""
    with _prometheus(node, tmp_path) as query:
        wait_until(lambda: query("up") == {("up", frozenset()): 1}, what="the first scrape")
        work = Work(node)
        for number in range(6):
            work.everything(f"n{number}")
        names = "|".join(COUNTED)
        wait_until(
            lambda: as_counted(query(f'{{__name__=~"{names}"}}')) == work.done,
            what="Prometheus to have it all",
        )
        # From the first scrape on, when all of them were 0.
        grown = query("sum(increase(osc_log_events_appended_total[1h]))")
        assert sum(grown.values()) > 0
        assert list(query("osc_build_info").values()) == [1]


@contextmanager
def _prometheus(node: RunningNode, directory: Path) -> Iterator[Callable[[str], Samples]]:
    """Run Prometheus on a node while the block runs; gives what answers a query."""
    program = _program("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: oscd, static_configs: [{{targets: ['127.0.0.1:{node.port}']}}]}}]\n"
    )
    port = _free_port()
    output = directory / "prometheus.output"
    with output.open("wb") as said:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'series'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )

    def query(expression: str) -> Samples:
        assert process.poll() is None, output.read_text()
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/query?query={quote(expression)}",
                timeout=PATIENCE,
                trust_env=False,
                verify=NO_TLS,
            )
        except httpx.ConnectError:
            return {}
        if answer.status_code == 503:
            return {}  # It is starting.
        found: Samples = {}
        for result in answer.raise_for_status().json()["data"]["result"]:
            labels = dict(result["metric"])
            name = labels.pop("__name__", "")
            own = frozenset(labels.items() - {("job", "oscd"), ("instance", f"127.0.0.1:{node.port}")})
            found[name, own] = float(result["value"][1])
        return found

    try:
        yield query
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        skip_unless_ci(f"{name} is not installed (`make test` installs it where it may)")
    return program


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
