"""How a cluster gets its one salt, and who does not belong together."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.support.cluster import MakeCluster, RunningCluster
from tests.support.waiting import wait_until

SALTS = (bytes(range(64)), bytes(range(64, 128)))


def salt_of(cluster: RunningCluster, number: int) -> bytes | None:
    """The salt a node has."""
    path = cluster.directory_of(number) / "encryption.salt"
    return path.read_bytes() if path.exists() else None


def require_one_salt(cluster: RunningCluster) -> None:
    """All nodes have the same one, for their eyes only, and open what the others wrote."""
    salts = {salt_of(cluster, number) for number in cluster.numbers}
    assert len(salts) == 1
    assert len(salts.pop() or b"") == 64
    for number in cluster.numbers:
        path = cluster.directory_of(number) / "encryption.salt"
        assert path.stat().st_mode & 0o777 == 0o600
    with cluster.client(0) as client:
        body = {"key": "shared", "environment": "e", "value": "v"}
        written = client.post("/configs", json=body)
        assert written.status_code == 201, written.text
    for number in cluster.numbers:
        with cluster.client(number) as client:
            after = {"X-OSC-After": written.headers["X-OSC-Position"]}
            assert client.get("/configs/shared?environment=e", headers=after).json()["value"] == "v"


def test_nodes_that_start_together_agree_on_a_salt(make_cluster: MakeCluster) -> None:
    """Three empty nodes at once, with nothing prepared: ready within seconds, with one salt."""
    cluster = make_cluster(3)
    cluster.start()
    cluster.await_ready()
    require_one_salt(cluster)


@pytest.mark.parametrize("late", [0, 2], ids=["the-first-is-late", "the-last-is-late"])
def test_nobody_makes_a_salt_before_all_were_asked(make_cluster: MakeCluster, late: int) -> None:
    """While one is missing the others wait, and say for whom, in `/ready` and in one line of their logs."""
    cluster = make_cluster(3)
    early = [number for number in cluster.numbers if number != late]
    cluster.start(*early)
    for number in early:
        name = f"127.0.0.1:{cluster.links[number, late].port}"
        wait_until(lambda: name in waiting_for(cluster, number), what=f"n{number} to say whom it waits for")  # noqa: B023
        wait_until(lambda: name in cluster.nodes[number].output, what="its log to say so")  # noqa: B023
        assert salt_of(cluster, number) is None
    cluster.start(late)
    cluster.await_ready()
    require_one_salt(cluster)


def waiting_for(cluster: RunningCluster, number: int) -> str:
    """Why a node says that it is not ready."""
    with cluster.client(number) as client:
        answer = client.get("/ready")
    assert answer.status_code == 503
    return " ".join(answer.json()["reasons"])


def test_a_node_that_comes_later_gets_the_salt_and_everything(make_cluster: MakeCluster) -> None:
    """Two nodes serve; a third, empty one starts and has it all."""
    cluster = make_cluster(3)
    cluster.give_salt(SALTS[0], 0, 1)
    cluster.start(0, 1)
    with cluster.client(0) as client:
        body = {"key": "early", "environment": "e", "value": "v"}
        wait_until(lambda: client.post("/configs", json=body).status_code in {201, 400})
    cluster.start(2)
    cluster.await_ready()
    cluster.await_equal()
    require_one_salt(cluster)


def test_nodes_with_different_salts_and_data_refuse_each_other(make_cluster: MakeCluster) -> None:
    """Both say what to do, neither takes an event of the other, and both go on alone."""
    cluster = make_cluster(2)
    for number in cluster.numbers:
        cluster.give_salt(SALTS[number], number)
    cluster.start()
    for number in cluster.numbers:
        with cluster.client(number) as client:
            body = {"key": f"own-{number}", "environment": "e", "value": number}
            wait_until(lambda: client.post("/configs", json=body).status_code in {201, 400})  # noqa: B023
    require_refused(cluster, "salt")
    for number in cluster.numbers:
        with cluster.client(number) as client:
            assert [entry["key"] for entry in client.get("/configs").json()] == [f"own-{number}"]


def test_two_nodes_with_one_id_refuse_each_other(make_cluster: MakeCluster) -> None:
    """Both say that there are two of that name."""
    cluster = make_cluster(2, each={1: {"OSC_CLUSTER_NODE_ID": "n0"}})
    cluster.give_salt(SALTS[0])
    cluster.start()
    require_refused(cluster, "n0")


def require_refused(cluster: RunningCluster, word: str) -> None:
    """Each of two nodes refuses the other, and says a word of the reason in its status and its log."""
    for here, there in permutations(cluster.numbers, 2):
        name = f"127.0.0.1:{cluster.links[here, there].port}"
        wait_until(lambda: cluster.peer_status(here, name)["state"] == "refused", what=f"n{here} to refuse")  # noqa: B023
        reason = cluster.peer_status(here, name)["last_error"]
        print(reason)
        assert word in reason
        wait_until(lambda: reason in cluster.nodes[here].output or word in cluster.nodes[here].output)  # noqa: B023


def test_an_entry_that_is_this_node_is_ignored(make_cluster: MakeCluster) -> None:
    """One list for all nodes serves: who finds itself in it goes on without a word of trouble."""
    cluster = make_cluster(2)
    cluster.give_salt(SALTS[0])
    cluster.more_peers[0].append(f"127.0.0.1:{cluster.ports[0]}")
    cluster.start()
    cluster.await_ready()
    cluster.await_synced()
    status = cluster.status(0)
    assert [peer["node_id"] for peer in status["nodes"]] == ["n1"]
    assert (status["total_nodes"], status["healthy_nodes"]) == (2, 2)
