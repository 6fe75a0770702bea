"""Trouble with the disk: said clearly, nothing acknowledged is lost, and service returns when the trouble ends."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from tests.conftest import StartNode
from tests.support.node import RunningNode, run_oscd
from tests.support.strace import traced
from tests.support.waiting import wait_until

PARAMETERS = {"environment": "e"}
LARGE = "x" * 30_000
MANY = 1000
"""Writes after which a limit that should have been met long ago was not."""


class Tenant:
    """A client that remembers what was acknowledged to it, and so knows what must be there."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.kept: dict[str, object] = {}

    def create(self, key: str, value: object) -> httpx.Response:
        answer = self.client.post("/configs", json=PARAMETERS | {"key": key, "value": value})
        if answer.is_success:
            self.kept[key] = value
        return answer

    def update(self, key: str, value: object) -> httpx.Response:
        answer = self.client.put(f"/configs/{key}", params=PARAMETERS, json={"value": value})
        if answer.is_success:
            self.kept[key] = value
        return answer

    def delete(self, key: str) -> httpx.Response:
        answer = self.client.delete(f"/configs/{key}", params=PARAMETERS)
        if answer.is_success:
            del self.kept[key]
        return answer

    def require_refused(self, words: str) -> None:
        """Every write gets 503 for the reason `words`, `/ready` gives it too, and nothing has changed."""
        for answer in (self.create("new", "new"), self.update("kept", "new"), self.delete("kept")):
            _require_unavailable(answer, words)
        self.require_not_ready(words)

    def require_not_ready(self, words: str) -> None:
        """`/ready` says why; `/health` is of the process and stays as it was."""
        ready = wait_until(lambda: _if_not_ready(self.client), what="/ready to tell")
        assert any(words in reason for reason in ready.json()["reasons"])
        assert ready.headers["Retry-After"] in {"1", "2"}
        assert self.client.get("/health").status_code == 200

    def require_recovered(self) -> None:
        """Without a restart, writes succeed again and `/ready` says so."""
        wait_until(lambda: self.update("kept", "after the trouble").is_success, what="service to return")
        wait_until(lambda: self.client.get("/ready").status_code == 200, what="the node to be ready")
        assert self.create(f"later-{len(self.kept)}", "after the trouble").status_code == 201
        self.require_kept()

    def require_kept(self) -> None:
        """What was acknowledged is there, and nothing else."""
        listed = self.client.get("/configs").raise_for_status().json()
        assert {entry["key"]: entry["value"] for entry in listed} == self.kept


@contextmanager
def tenant_of(node: RunningNode) -> Iterator[Tenant]:
    """Somebody with the entry `kept`; at the end the log has to verify, and to have everything after a restart."""
    with node.client() as client:
        tenant = Tenant(client)
        assert tenant.create("kept", "before the trouble").status_code == 201
        yield tenant
    assert node.terminate() == 0
    verified = run_oscd("verify", directory=node.directory, settings=node.settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    node.restart()
    with node.client() as client:
        tenant.client = client
        tenant.require_kept()


def test_a_full_disk(start_node: StartNode, small_disk: Path) -> None:
    """When the disk is full writes are refused, reads go on; once there is room again, writes do too."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 * 1024 * 1024))
    node = start_node(directory=small_disk / "node", OSC_MIN_FREE_BYTES="0", OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        _fill(tenant, "disk of the log is full")
        tenant.require_not_ready("disk of the log is full")
        tenant.require_kept()
        filler.unlink()
        tenant.require_recovered()


def test_a_disk_that_refuses_to_write(start_node: StartNode, tmp_path: Path) -> None:
    """Full, broken, read-only, forbidden: whatever the kernel answers, writes are refused until it stops."""
    node = start_node()
    with tenant_of(node) as tenant:
        (worker,) = node.worker_pids()
        for error, words in (
            ("ENOSPC", "disk of the log is full"),
            ("EIO", "disk of the log reports errors"),
            ("EROFS", "disk of the log reports errors"),
            ("EACCES", "disk of the log reports errors"),
        ):
            trace = tmp_path / error
            with traced(worker, trace, "trace=pwrite64", f"inject=pwrite64:error={error}"):
                tenant.require_refused(words)
                tenant.require_kept()
            assert f"{error} " in trace.read_text()
            tenant.require_recovered()


def test_a_log_that_is_moved_away_and_put_back(start_node: StartNode) -> None:
    """Nothing is acknowledged into a file that is elsewhere; back in its place, it is served as before."""
    node = start_node(OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        elsewhere = node.directory.with_name("moved.db")
        node.database.rename(elsewhere)
        tenant.require_refused("moved, deleted or replaced")
        assert not node.database.exists()
        elsewhere.rename(node.database)
        tenant.require_recovered()


def test_a_log_that_is_deleted_and_put_back(start_node: StartNode) -> None:
    """Nothing is acknowledged into an unlinked file; no empty one is made in its place; the same file, when it
    is back, is served as before.
    """
    node = start_node(OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        files = [node.database, Path(f"{node.database}-wal")]
        links = [path.with_name(f"{path.name}.link") for path in files]
        for path, link in zip(files, links, strict=True):
            os.link(path, link)
            path.unlink()
        tenant.require_refused("moved, deleted or replaced")
        assert not any(path.exists() for path in files)
        for path, link in zip(files, links, strict=True):
            link.rename(path)
        tenant.require_recovered()


def test_a_log_that_is_replaced_by_a_copy(start_node: StartNode) -> None:
    """A copy in the place of the log is another file: it is not written, not even by a worker that starts then."""
    node = start_node(OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        original = node.database.with_name("original.db")
        node.database.rename(original)
        shutil.copyfile(original, node.database)
        copied = node.database.read_bytes()
        tenant.require_refused("moved, deleted or replaced")
        assert node.database.read_bytes() == copied
        original.rename(node.database)
        tenant.require_recovered()


def test_a_write_ahead_log_that_is_deleted_and_put_back(start_node: StartNode) -> None:
    """The commits of the last second are in the `-wal` file: nothing is acknowledged into an unlinked one."""
    node = start_node(OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        wal, link = Path(f"{node.database}-wal"), node.database.with_name("link")
        os.link(wal, link)
        wal.unlink()
        tenant.require_refused("moved, deleted or replaced")
        link.rename(wal)
        tenant.require_recovered()


def test_a_log_that_another_program_has_locked(start_node: StartNode) -> None:
    """While somebody else holds SQLite's lock writes are refused and reads go on; then writes do too."""
    node = start_node(OSC_WORKERS="2")
    with tenant_of(node) as tenant, closing(sqlite3.connect(node.database, isolation_level=None)) as stranger:
        for mode in ("IMMEDIATE", "EXCLUSIVE"):
            stranger.execute(f"BEGIN {mode}")
            tenant.require_refused("locked by another program")
            tenant.require_kept()
            stranger.execute("ROLLBACK")
            tenant.require_recovered()


def test_a_disk_with_less_room_than_is_to_stay_free(start_node: StartNode) -> None:
    """Past OSC_MIN_FREE_BYTES creates and updates are refused by that name, deletes and reads are not."""
    node = start_node()
    with tenant_of(node) as tenant:
        assert tenant.create("superfluous", LARGE).status_code == 201
        node.settings["OSC_MIN_FREE_BYTES"] = "1000TiB"
        node.restart()
        with node.client() as client:
            tenant.client = client
            _require_only_deletes(tenant, "OSC_MIN_FREE_BYTES")
        del node.settings["OSC_MIN_FREE_BYTES"]
        node.restart()
        with node.client() as client:
            tenant.client = client
            tenant.require_recovered()


def test_a_log_that_has_reached_its_largest_size(start_node: StartNode) -> None:
    """Past OSC_MAX_LOG_BYTES creates and updates are refused by that name, deletes and reads are not."""
    node = start_node(OSC_MAX_LOG_BYTES="1000000", OSC_WORKERS="2")
    with tenant_of(node) as tenant:
        assert tenant.create("superfluous", LARGE).status_code == 201
        _fill(tenant, "OSC_MAX_LOG_BYTES")
        _require_only_deletes(tenant, "OSC_MAX_LOG_BYTES")


def _fill(tenant: Tenant, words: str) -> None:
    """Create entries until one is refused."""
    for number in range(MANY):
        answer = tenant.create(f"filler-{number}", LARGE)
        if not answer.is_success:
            _require_unavailable(answer, words)
            return
    raise AssertionError(f"{MANY} writes of {len(LARGE)} bytes, and nothing is full")


def _require_only_deletes(tenant: Tenant, words: str) -> None:
    _require_unavailable(tenant.create("new", "new"), words)
    _require_unavailable(tenant.update("kept", "new"), words)
    tenant.require_not_ready(words)
    assert tenant.delete("superfluous").status_code == 200
    tenant.require_kept()


def _require_unavailable(answer: httpx.Response, words: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] in {"1", "2"}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def _if_not_ready(client: httpx.Client) -> httpx.Response | None:
    """`/ready` looks at the log once a second; until it has seen the trouble it gives the answer before."""
    answer = client.get("/ready")
    return answer if answer.status_code == 503 else None
