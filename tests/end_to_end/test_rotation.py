"""Keys and certificates are rotated while a node serves: no request fails, no stream ends, no bad file is taken."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartNode
from tests.support.certificates import Authority, Identity
from tests.support.cluster import MakeCluster, RunningCluster, clusters
from tests.support.manager import Manager, manager_at
from tests.support.node import RunningNode
from tests.support.raw_http import connect
from tests.support.steady_load import steady_load
from tests.support.waiting import wait_until

LOOKS = 8
"""So many connections that every worker takes one."""

IN_A_WEEK = (datetime.now(UTC) + timedelta(days=7)).replace(microsecond=0)

OLD_KEY, NEW_KEY = "the-old-api-key", "the-new-api-key"


def digest(identity: Identity) -> bytes:
    """Of a certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())).digest()


def shown(node: RunningNode, tls: ssl.SSLContext) -> set[bytes]:
    """The digests of the certificates that the workers of a node show to new connections."""
    found = set()
    for _ in range(LOOKS):
        with (
            closing(connect(node.port)) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            found.add(hashlib.sha256(client.getpeercert(binary_form=True) or b"").digest())
    return found


def said(node: RunningNode, words: str) -> list[str]:
    """The lines of a node's log that hold these words."""
    lines = [json.loads(line) for line in node.output.splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if words in line["event"]]


@contextmanager
def stream(node: RunningNode, tls: ssl.SSLContext) -> Iterator[Callable[[str], None]]:
    """A stream of changes; gives what waits for one of an entry, and fails if the stream has ended."""
    with (
        node.client(tls=tls) as client,
        client.stream("GET", "/sse/subscribe?environment=watched") as answer,
    ):
        lines = answer.iter_lines()

        def await_line(words: str) -> None:
            assert any(words in line for line in lines), "the stream has ended"

        await_line("event: connected")
        yield await_line


def write(node: RunningNode, tls: ssl.SSLContext, key: str) -> None:
    """Create an entry that the stream is of."""
    with node.client(tls=tls) as client:
        entry = {"key": key, "environment": "watched", "value": 1}
        assert client.post("/configs", json=entry).status_code == 201


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters that end with the test."""
    with clusters(tmp_path) as make:
        yield make


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """As `systemctl reload` does, it waits for the end of a reload."""
    with manager_at(tmp_path / "notify") as listening:
        yield listening


def reload(node: RunningNode, manager: Manager) -> None:
    """SIGHUP, to its end: every worker has done what it asks for."""
    node.send(signal.SIGHUP)
    manager.read_until(lambda datagram: "RELOADING" in datagram)
    manager.read_until(lambda datagram: datagram.get("READY") == "1")


def accepted(node: RunningNode, api_key: str) -> set[int]:
    """What the workers answer to this key."""
    statuses = set()
    for _ in range(LOOKS):
        with node.client(api_key=api_key) as client:
            statuses.add(client.get("/stats").status_code)
    return statuses


def replace_workers(node: RunningNode) -> None:
    """Kill every worker, and wait until others serve."""
    before = node.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def are_replaced() -> bool:
        now = node.worker_pids()
        return len(now) == len(before) and not {*now} & {*before}

    wait_until(are_replaced, what="workers in the place of those that were killed")


def test_an_api_key_is_rotated_under_load(start_node: StartNode, tmp_path: Path, manager: Manager) -> None:
    """Add the new key, SIGHUP, move the callers, remove the old key, SIGHUP: no request with either fails; and once a
    reload has ended, every worker goes by it, also one that takes a dead one's place while the file is empty.
    """
    keys = tmp_path / "keys"
    keys.write_text(f"{OLD_KEY}\n")
    node = start_node(
        OSC_WORKERS="2",
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY_FILE=str(keys),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    with ExitStack() as movers, ExitStack() as moved:
        old = movers.enter_context(steady_load(node.base_url, api_key=OLD_KEY))
        old.await_more()
        keys.write_text(f"{OLD_KEY}\n{NEW_KEY}\n")
        reload(node, manager)
        assert accepted(node, NEW_KEY) == {200}
        new = moved.enter_context(steady_load(node.base_url, api_key=NEW_KEY))
        new.await_more()
        old.await_more()
        movers.close()
        keys.write_text(f"{NEW_KEY}\n")
        reload(node, manager)
        assert accepted(node, OLD_KEY) == {403}
        new.await_more()
    assert (old.failures, new.failures) == ([], [])
    keys.write_text("")
    replace_workers(node)
    assert accepted(node, OLD_KEY) == {403}, "those of the start are back"
    assert accepted(node, NEW_KEY) == {200}


class Files:
    """The files that settings name, and what an operator puts into them."""

    def __init__(self, directory: Path, prefix: str) -> None:
        directory.mkdir(exist_ok=True)
        self.certificate = directory / f"{prefix}.pem"
        self.key = directory / f"{prefix}.key.pem"

    def hold(self, identity: Identity, password: str | None = None) -> None:
        """Certificate and key, one after the other, as a script would write them."""
        self.certificate.write_bytes(identity.certificate.read_bytes())
        identity.write_key(self.key, password)


def test_a_certificate_is_renewed_under_load(start_node: StartNode, tmp_path: Path, manager: Manager) -> None:
    """New connections meet the new certificate on every worker; no request fails, a stream goes on; and its end on
    /metrics is that of the one in force.
    """
    authority = Authority(tmp_path / "authority", lasts_days=9)
    first, second = authority.server("first"), authority.server("second", valid_until=IN_A_WEEK)
    files = Files(tmp_path / "files", "server")
    files.hold(first, "a-password")
    password = tmp_path / "password"
    password.write_text("a-password\n")
    node = start_node(
        OSC_WORKERS="2",
        OSC_HTTPS_ENABLED="true",
        OSC_SSL_CERTFILE=str(files.certificate),
        OSC_SSL_KEYFILE=str(files.key),
        OSC_SSL_KEYFILE_PASSWORD_FILE=str(password),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    tls = authority.trusting()
    assert shown(node, tls) == {digest(first)}
    with stream(node, tls) as await_change, steady_load(node.base_url, tls=tls) as load:
        write(node, tls, "before")
        await_change("before")
        files.hold(second, "another-password")
        password.write_text("another-password\n")
        reload(node, manager)
        assert shown(node, tls) == {digest(second)}
        load.await_more()
        write(node, tls, "after")
        await_change("after")
        with node.client(tls=tls) as client:
            metrics = client.get("/metrics").text
        (end,) = re.findall(
            r'^osc_certificate_expiry_timestamp_seconds\{use="serving"\} (\S+)$', metrics, re.M
        )
        assert float(end) == IN_A_WEEK.timestamp()
    assert load.failures == []
    assert "a-password" not in node.output
    assert "another-password" not in node.output


def test_files_that_will_not_do_are_not_taken(
    start_node: StartNode, tmp_path: Path, manager: Manager
) -> None:
    """A broken certificate, another's key and a bundle without a certificate leave what was before in force, and are
    one line each that names setting and file; the right files are then taken. A worker that takes a dead one's place
    meanwhile shows what that one showed.
    """
    authority = Authority(tmp_path / "authority")
    first, second = authority.server("first"), authority.server("second")
    files = Files(tmp_path / "files", "server")
    files.hold(first)
    bundle = tmp_path / "files" / "bundle.pem"
    bundle.write_bytes(authority.bundle.read_bytes())
    node = start_node(
        OSC_WORKERS="2",
        OSC_HTTPS_ENABLED="true",
        OSC_SSL_CERTFILE=str(files.certificate),
        OSC_SSL_KEYFILE=str(files.key),
        OSC_SSL_CA_CERTS=str(bundle),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    tls = authority.trusting(authority.client())
    broken = {
        "OSC_SSL_CERTFILE": (files.certificate, b"broken"),
        "OSC_SSL_KEYFILE": (files.key, second.keyfile.read_bytes()),
        "OSC_SSL_CA_CERTS": (bundle, b""),
    }
    before = node.worker_pids()
    for setting, (path, content) in broken.items():
        right = path.read_bytes()
        path.write_bytes(content)
        reload(node, manager)
        assert shown(node, tls) == {digest(first)}
        wait_until(lambda: said(node, f"{setting}='{path}'"), what=f"the line on {setting}")  # noqa: B023
        assert len(said(node, f"stays the one before: {setting}='{path}'")) == 1
        if setting == "OSC_SSL_CERTFILE":
            replace_workers(node)
            assert shown(node, tls) == {digest(first)}
            assert len(said(node, f"is the one of the worker before: {setting}='{path}'")) == len(before)
        path.write_bytes(right)
    files.hold(second)
    reload(node, manager)
    assert shown(node, tls) == {digest(second)}


def test_an_authority_is_exchanged(start_node: StartNode, tmp_path: Path, manager: Manager) -> None:
    """Once an authority is out of the bundle its clients are let in no more; who is in stays to the end."""
    old, new = Authority(tmp_path / "old", "The old one"), Authority(tmp_path / "new", "The new one")
    server = old.server()
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.bundle.read_bytes() + new.bundle.read_bytes())
    node = start_node(
        OSC_WORKERS="2",
        OSC_HTTPS_ENABLED="true",
        OSC_SSL_CERTFILE=str(server.certificate),
        OSC_SSL_KEYFILE=str(server.keyfile),
        OSC_SSL_CA_CERTS=str(bundle),
        NOTIFY_SOCKET=str(tmp_path / "notify"),
    )
    of_old, of_new = (old.trusting(one.client()) for one in (old, new))
    with stream(node, of_old) as await_change:
        bundle.write_bytes(new.bundle.read_bytes())
        reload(node, manager)
        for _ in range(LOOKS):
            with node.client(tls=of_old) as client, pytest.raises(httpx.TransportError):
                client.get("/health")
        write(node, of_new, "after")
        await_change("after")


def test_nodes_change_their_certificates_and_authority(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """Both authorities into the bundles, SIGHUP; new certificates, SIGHUP; the old authority out, SIGHUP. Links go on
    under what they began with, a new one meets the new, and no write is lost. Files that will not do are not taken.
    """
    old, new = Authority(tmp_path / "old", "The old one"), Authority(tmp_path / "new", "The new one")
    server, client = Files(tmp_path / "files", "server"), Files(tmp_path / "files", "client")
    bundle = tmp_path / "files" / "bundle.pem"

    def show(authority: Authority) -> None:
        server.hold(authority.server("nodes-server"))
        client.hold(authority.client("nodes"))

    show(old)
    bundle.write_bytes(old.bundle.read_bytes())
    cluster = make_cluster(
        2,
        settings={
            "OSC_HTTPS_ENABLED": "true",
            "OSC_SSL_CERTFILE": str(server.certificate),
            "OSC_SSL_KEYFILE": str(server.key),
            "OSC_SSL_CA_CERTS": str(bundle),
            "OSC_CLUSTER_CA_CERTS": str(bundle),
            "OSC_CLUSTER_CERTFILE": str(client.certificate),
            "OSC_CLUSTER_KEYFILE": str(client.key),
        },
        tls=old.trusting(old.client("caller")),
    )
    cluster.start()
    cluster.await_ready()
    begun = [link.begun for link in cluster.links.values()]
    for step in (
        lambda: bundle.write_bytes(old.bundle.read_bytes() + new.bundle.read_bytes()),
        lambda: show(new),
        lambda: bundle.write_bytes(new.bundle.read_bytes()),
    ):
        step()
        _reload_all(cluster)
    assert [link.begun for link in cluster.links.values()] == begun, "links had to begin anew"
    cluster.trust(new.trusting(new.client("caller")))
    _write_on_all(cluster, "after-the-change")
    right = client.key.read_bytes()
    client.key.write_bytes(old.client("another").keyfile.read_bytes())
    _reload_all(cluster, "the certificate for peers stays the one before: OSC_CLUSTER_KEYFILE=")
    for link in cluster.links.values():
        link.cut()
    cluster.heal()
    _write_on_all(cluster, "over-new-links")
    client.key.write_bytes(right)
    _reload_all(cluster)


def _reload_all(cluster: RunningCluster, words: str = "the certificate for peers was read again") -> None:
    """SIGHUP to every node, and wait until it has said that."""
    before = {node: len(said(node, words)) for node in cluster.nodes.values()}
    for node, count in before.items():
        node.send(signal.SIGHUP)
        wait_until(lambda: len(said(node, words)) == count + 1, what=words)  # noqa: B023


def _write_on_all(cluster: RunningCluster, name: str) -> None:
    """A write on every node reaches all."""
    for number in cluster.numbers:
        with cluster.client(number) as client:
            entry = {"key": f"{name}-{number}", "environment": "e", "value": 1}
            assert client.post("/configs", json=entry).status_code == 201
    cluster.await_equal()
