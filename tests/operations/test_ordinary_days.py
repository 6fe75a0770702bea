"""What docs/operations.md says of ordinary days works as it is written: copies, upgrades, members, keys."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.operations.conftest import CLUSTER, section
from tests.operations.machines import API_KEY, Machines
from tests.support.certificates import Authority
from tests.support.waiting import wait_until


def test_a_backup_restores_what_it_was_taken_of(lone: Machines) -> None:
    """What was written before the snapshot is there after the restore, what came later is not."""
    node = lone["node1"]
    node.systemctl("start")
    lone.put("node1", "kept", "before")
    (backup,) = section("Backup")
    lone.type(backup)
    lone.put("node1", "lost", "after")
    (restore,) = section("Restore")
    lone.type(restore)
    assert lone.value_of("node1", "kept") == "before"
    assert lone.value_of("node1", "lost") is None
    assert (node.data / "broken/configurations.db").exists()


def test_entries_nodes_and_a_cluster_as_they_were(cluster: Machines) -> None:
    """A version comes back, many entries from an export of then, a node and the whole cluster from a snapshot."""
    for value in (100, 0):
        cluster.put("node1", "app/limit", value)
    version, entries, whole, everywhere = section("Point in time")
    cluster.type(version)
    assert cluster.value_of("node1", "app/limit") == 100
    cluster.put("node1", "app/other", "right")
    (export, *imports) = entries
    cluster.type((export,))
    cluster.put("node1", "app/limit", "wrong")
    cluster.type(tuple(imports))
    assert cluster.value_of("node1", "app/limit") == 100
    assert cluster.value_of("node1", "app/other") == "right", "an import deleted something"
    cluster.type(whole)
    assert (cluster["node1"].root / "srv/then/configurations.db").exists()
    cluster.put("node2", "app/limit", "later")
    cluster.type(everywhere)
    for number, name in enumerate(CLUSTER):
        assert cluster.value_of(name, "app/limit") == 100
        cluster.put(name, "app/after", number)


def test_an_upgrade_of_one_node(cluster: Machines) -> None:
    """While it is stopped the others serve, and it has what they took when it is ready."""
    stop, start = section("Upgrade")
    cluster.type(stop)
    assert not cluster["node1"].is_running
    cluster.put("node2", "app/meanwhile", 1)
    cluster.type(start)
    assert cluster.value_of("node1", "app/meanwhile") == 1


def test_a_node_joins_and_another_day_is_gone(cluster: Machines) -> None:
    """A new node has all and is called a member; one that is lost is forgotten."""
    cluster.put("node1", "app/old", "there")
    join, tell = section("Add a node")
    cluster.type(join)
    assert cluster.value_of("node4", "app/old") == "there"
    cluster.put("node4", "app/new", "from the new one")
    cluster.type(tell)
    wait_until(lambda: cluster.value_of("node1", "app/new") == "from the new one", what="what it wrote")
    cluster["node4"].close()
    (lose,) = section("Lose a node")
    cluster.type(lose)
    assert cluster.value_of("node1", "app/new") == "from the new one"


def test_a_node_is_replaced(cluster: Machines) -> None:
    """An empty one under the same name has everything again, what it had written itself included."""
    cluster.put("node3", "app/own", "of node3")
    cluster.await_well()
    (session,) = section("Replace a node")
    cluster.type(session)
    assert cluster.value_of("node3", "app/own") == "of node3"
    cluster.put("node3", "app/own", "again")
    wait_until(lambda: cluster.value_of("node1", "app/own") == "again", what="what the new one writes")


def test_a_node_is_renamed(cluster: Machines) -> None:
    """It is known under its new name, and goes on."""
    (session,) = section("Rename a node")
    cluster.type(session)
    cluster.put("node3", "app/renamed", 1)
    node = cluster["node3"]
    settings = (node.root / "etc/oscd/oscd.env").read_text().replace("=berlin", "=node3")
    node.write("etc/oscd/oscd.env", settings.rstrip("\n"))
    node.systemctl("restart")


def test_api_keys_are_rotated_while_all_serve(cluster: Machines) -> None:
    """The new key is taken before the old one is not, on every node, and no process was replaced."""
    before = [process for name in CLUSTER for process in cluster.node(name).processes()]
    also, only = section("Rotate API keys")
    cluster.type(also)
    new = (cluster["node1"].root / "root/new-api-key").read_text().strip()
    for name in CLUSTER:
        wait_until(lambda: status_with(cluster, name, new) == 200, what=f"{name} to take the new key")  # noqa: B023
        assert status_with(cluster, name, API_KEY) == 200
    cluster.type(only)
    for name in CLUSTER:
        wait_until(lambda: status_with(cluster, name, API_KEY) == 403, what=f"{name} to refuse the old key")  # noqa: B023
        assert status_with(cluster, name, new) == 200
    assert [process for name in CLUSTER for process in cluster.node(name).processes()] == before
    for name in CLUSTER:
        cluster[name].write("etc/oscd/api-keys", API_KEY)
        cluster[name].systemctl("reload")
        wait_until(lambda: status_with(cluster, name, API_KEY) == 200, what=f"{name} to be as before")  # noqa: B023


def status_with(machines: Machines, name: str, api_key: str) -> int:
    """How a node answers to an API key."""
    with machines.client(name) as client:
        return client.get("/stats", headers={"X-API-Key": api_key}).status_code


def test_the_cluster_key_is_rotated_while_events_flow(cluster: Machines) -> None:
    """In three steps, during all of which what is written on one node reaches the others."""
    (session,) = section("Rotate the cluster key")
    reloads = [number for number, step in enumerate(session) if step.command == "systemctl reload oscd"]
    assert len(reloads) == 3 * len(CLUSTER)
    begun = 0
    for number, end in enumerate(reloads):
        cluster.type(session[begun : end + 1])
        begun = end + 1
        cluster.put("node1", "app/rotated", number)
        with ThreadPoolExecutor() as pool:
            arrive = [pool.submit(cluster.await_value, name, "app/rotated", number) for name in CLUSTER]
        for one in arrive:
            one.result()
    cluster.type(session[begun:])
    keys = {(cluster[name].root / "etc/oscd/cluster-key").read_text() for name in CLUSTER}
    assert keys == {(cluster["node1"].root / "root/new-cluster-key").read_text()}


def test_certificates_are_rotated_while_a_node_serves(lone: Machines, tmp_path: Path) -> None:
    """After a reload new connections get the new certificate, from the same processes; its end is told before too."""
    authority = Authority(tmp_path / "certificates")
    node = lone["node1"]
    node.write("root/ca.pem", authority.bundle.read_text())
    (node.root / "root/new").mkdir()
    old, new = authority.server("old"), authority.server("new")
    for identity, directory in ((old, "etc/oscd"), (new, "root/new")):
        node.write(f"{directory}/cert.pem", identity.certificate.read_text())
        node.write(f"{directory}/key.pem", identity.keyfile.read_text())
    node.configure(
        "OSC_HTTPS_ENABLED=true\nOSC_SSL_CERTFILE=/etc/oscd/cert.pem\nOSC_SSL_KEYFILE=/etc/oscd/key.pem"
    )
    node.systemctl("start")
    (look,) = section("Certificate expiry")
    lone.type(look)
    before = lone.node("node1").processes()
    (rotate,) = section("Rotate certificates")
    lone.type(rotate)
    served = shown_certificate(node.port)
    assert served == new.certificate.read_text()
    assert lone.node("node1").processes() == before


def shown_certificate(port: int) -> str:
    """What a node shows a new connection."""
    return ssl.get_server_certificate(("127.0.0.1", port))
