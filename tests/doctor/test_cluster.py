"""What the doctor of one node says of its peers, which all speak TLS both ways: sound, and with one thing wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oscd.doctor import peers
from oscd.events.cipher import SALT_BYTES
from oscd.times import microseconds_now
from tests.doctor.conftest import CLUSTER_KEY, Doctor
from tests.support.certificates import Authority, mutual_tls
from tests.support.cluster import MakeCluster, RunningCluster

YEAR = datetime.now(UTC) + timedelta(days=365)


@pytest.fixture(scope="module")
def cluster(make_module_cluster: MakeCluster, authority: Authority) -> RunningCluster:
    """Three nodes that are ready."""
    server = authority.server("of-the-cluster", valid_until=YEAR)
    client = authority.client("of-the-nodes", valid_until=YEAR)
    settings = {
        "OSC_CLUSTER_KEY": CLUSTER_KEY,
        "OSC_MAX_CONNECTIONS": "1000",  # of one worker, as much as any machine allows
    } | mutual_tls(authority, server, client)
    cluster = make_module_cluster(3, settings=settings, tls=authority.trusting(client))
    cluster.start()
    cluster.await_ready()
    return cluster


@pytest.fixture
def names(cluster: RunningCluster) -> list[str]:
    """The peers of the first node, as it knows them."""
    return cluster.peer_names(0)


def test_a_sound_cluster(doctor: Doctor, cluster: RunningCluster, names: list[str]) -> None:
    """Each peer is reached, takes the key, is called what it is called and has the same salt; clocks are together."""
    examined = doctor(cluster.directory_of(0), cluster.settings_of(0))
    assert examined.bad() == {}
    for number, name in enumerate(names, start=1):
        assert examined.words(f"peer {name}").startswith(
            f"n{number} answers and takes the cluster key; the same salt"
        )
        assert examined.levels(f"clock {name}") == ["ok"]
    assert examined.levels("cluster certificate") == ["ok"]
    assert examined.levels("cluster authority") == ["ok"]


@pytest.fixture
def one_down(cluster: RunningCluster) -> Iterator[None]:
    """The third node is not running."""
    cluster.kill(2)
    yield
    cluster.start(2)
    cluster.await_ready(2)


@pytest.mark.usefixtures("one_down")
def test_a_peer_that_is_down(doctor: Doctor, cluster: RunningCluster, names: list[str]) -> None:
    """Who does not answer fails; the others are asked all the same."""
    examined = doctor(cluster.directory_of(0), cluster.settings_of(0))
    assert examined.bad()[f"peer {names[1]}"] == "fail"
    assert examined.levels(f"peer {names[0]}") == ["ok"]


def test_another_cluster_key(doctor: Doctor, cluster: RunningCluster, names: list[str]) -> None:
    """A key that peers do not take fails with what they answer."""
    examined = doctor(
        cluster.directory_of(0), cluster.settings_of(0) | {"OSC_CLUSTER_KEY": "not-the-key-of-the-others"}
    )
    assert examined.bad() == dict.fromkeys((f"peer {name}" for name in names), "fail")
    assert "403" in examined.words(f"peer {names[0]}")


def test_another_salt(doctor: Doctor, cluster: RunningCluster, names: list[str], tmp_path: Path) -> None:
    """A salt that is not the cluster's fails with what to do about it."""
    other = tmp_path / "salt"
    other.write_bytes(os.urandom(SALT_BYTES))
    other.chmod(0o600)
    examined = doctor(cluster.directory_of(0), cluster.settings_of(0) | {"OSC_SALT_FILE_PATH": str(other)})
    for name in names:
        assert examined.words(f"peer {name}").startswith("it has another salt; ")


def test_an_authority_that_peers_are_not_of(
    doctor: Doctor, cluster: RunningCluster, names: list[str], tmp_path: Path
) -> None:
    """Peers whose certificates nobody here trusts fail, with the setting that says whom to trust."""
    stranger = Authority(tmp_path / "stranger", lasts_days=365)
    examined = doctor(
        cluster.directory_of(0), cluster.settings_of(0) | {"OSC_CLUSTER_CA_CERTS": str(stranger.bundle)}
    )
    assert examined.bad() == dict.fromkeys((f"peer {name}" for name in names), "fail")
    assert "OSC_CLUSTER_CA_CERTS" in examined.words(f"peer {names[0]}")


def test_a_namesake_and_this_node_itself(doctor: Doctor, cluster: RunningCluster, names: list[str]) -> None:
    """Another node of this one's name fails; this node itself among its peers is ignored, as it is by links."""
    itself = f"localhost:{cluster.ports[0]}"
    settings = cluster.settings_of(0)
    examined = doctor(cluster.directory_of(0), settings | {"OSC_CLUSTER_NODE_ID": "n1"})
    assert examined.bad() == {f"peer {names[0]}": "fail"}
    assert "another OSC_CLUSTER_NODE_ID" in examined.words(f"peer {names[0]}")
    examined = doctor(cluster.directory_of(0), settings | {"OSC_CLUSTER_NODES": itself})
    assert examined.bad() == {}
    assert examined.words(f"peer {itself}").startswith("it is this node itself")


def test_a_clock_that_is_behind(
    doctor: Doctor, cluster: RunningCluster, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks that are more than a second apart are warned about, with the direction."""
    monkeypatch.setattr(peers, "microseconds_now", lambda: microseconds_now() - 5_000_000)
    examined = doctor(cluster.directory_of(0), cluster.settings_of(0))
    assert examined.bad() == dict.fromkeys((f"clock {name}" for name in names), "warn")
    assert "s ahead of this one" in examined.words(f"clock {names[0]}")


def test_a_certificate_for_peers_that_expires(
    doctor: Doctor, cluster: RunningCluster, authority: Authority
) -> None:
    """What is shown to peers has its dates looked at like what is shown to clients, and its key."""
    now = datetime.now(UTC)
    for days, level in ((9, "warn"), (-0.5, "fail")):
        shown = authority.client(f"ends-{level}", valid_until=now + timedelta(days=days))
        files = {
            "OSC_CLUSTER_CERTFILE": str(shown.certificate),
            "OSC_CLUSTER_KEYFILE": str(shown.keyfile),
        }
        examined = doctor(cluster.directory_of(0), cluster.settings_of(0) | files)
        assert examined.levels("cluster certificate") == [level]
    other = authority.client("with-another-key")
    examined = doctor(
        cluster.directory_of(0), cluster.settings_of(0) | {"OSC_CLUSTER_KEYFILE": str(other.keyfile)}
    )
    assert "is not the key of the certificate in OSC_CLUSTER_CERTFILE" in examined.words(
        "cluster certificate"
    )
