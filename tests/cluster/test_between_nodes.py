"""HTTPS and mutual TLS between nodes, and what nodes do that do not trust each other."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.certificates import Authority, mutual_tls
from tests.support.cluster import MakeCluster, RunningCluster
from tests.support.tally import tally
from tests.support.waiting import wait_until

SALT = bytes(range(64))
WATCHED_SECONDS = 6.0
MOST_LINES = 2
"""Of one node about one other, in that time: one for each way, if it is just then that they are due."""
MOST_CPU_SECONDS = 0.6
"""A busy loop takes all of it; an idle node with two links takes a tenth of this."""


def test_nodes_meet_over_mutual_tls(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """With certificates required on both sides nodes share their salt and their writes; a bare `host:port` of a node
    that serves HTTPS itself is asked over HTTPS.
    """
    authority = Authority(tmp_path / "authority")
    shown = authority.client("nodes")
    settings = mutual_tls(authority, authority.server("nodes-server"), shown)
    cluster = make_cluster(2, settings=settings, tls=authority.trusting(shown))
    cluster.start()
    cluster.await_ready()
    for writer, reader in ((0, 1), (1, 0)):
        with cluster.client(writer) as there, cluster.client(reader) as here:
            written = there.post("/configs", json={"key": f"k{writer}", "environment": "e", "value": writer})
            assert written.status_code == 201, written.text
            after = {"X-OSC-After": written.headers["X-OSC-Position"]}
            read = here.get(f"/configs/k{writer}?environment=e", headers=after)
            assert (read.status_code, read.json()["value"]) == (200, writer)
    cluster.await_synced()


def test_who_is_not_trusted_is_told_so_once(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """A wrong cluster key and a certificate of another authority: both sides say one clear line, seldom again, rest
    in between, and get on with everybody else.
    """
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    good = mutual_tls(ours, ours.server("server"), ours.client("client"))
    bad = mutual_tls(theirs, theirs.server("server"), theirs.client("client"))
    each = {0: good, 1: good, 2: good | {"OSC_CLUSTER_KEY": "a-key-of-another-cluster"}, 3: bad}
    cluster = make_cluster(4, each=each, tls=ours.trusting(ours.client("caller")))
    cluster.give_salt(SALT)
    cluster.start()
    wait_until(lambda: is_live(cluster, 0, "n1"), what="the good ones to meet")
    for number in (2, 3):
        await_refused(cluster, 0, number)
    nodes = [cluster.nodes[number] for number in cluster.numbers]
    for node in nodes:
        wait_until(lambda: troubles(node.output), what="a line about it")  # noqa: B023
    for node, watched in zip(nodes, tally(nodes, WATCHED_SECONDS), strict=True):
        print(node.directory.name, f"{watched.cpu_seconds:.2f} s", *troubles(node.output), sep="\n  ")
        assert len(troubles("\n".join(watched.lines))) <= MOST_LINES * (len(nodes) - 1)
        assert watched.cpu_seconds < MOST_CPU_SECONDS
        assert "a-key-of" not in node.output
    with cluster.client(0) as client:
        assert client.post("/configs", json={"key": "k", "environment": "e", "value": 1}).status_code == 201
    wait_until(lambda: is_live(cluster, 0, "n1"))


def test_a_client_certificate_that_will_not_do_is_told_on_both_sides(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """Who shows none, or another authority's, is refused only after the handshake: it says which setting that may be,
    and the other side why; one line each, and no busy loop. Links the other way are unharmed.
    """
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    good = mutual_tls(ours, ours.server("server"), ours.client("client"))
    wrong = theirs.client("client")
    none = {"OSC_CLUSTER_CERTFILE": "", "OSC_CLUSTER_KEYFILE": ""}
    other = {"OSC_CLUSTER_CERTFILE": str(wrong.certificate), "OSC_CLUSTER_KEYFILE": str(wrong.keyfile)}
    each = {0: good, 1: good | none, 2: good | other}
    cluster = make_cluster(3, each=each, tls=ours.trusting(ours.client("caller")))
    cluster.give_salt(SALT)
    cluster.start()
    told = "{}: no answer; if it verifies nodes, OSC_CLUSTER_CERTFILE is what this node shows it"
    advice = {number: told.format(cluster.peer_names(number)[0]) for number in (1, 2)}
    for number, line in advice.items():
        wait_until(lambda: is_live(cluster, 0, f"n{number}"), what="a link of the good one")  # noqa: B023
        wait_until(lambda: said(cluster, number, line), what=line)  # noqa: B023
    # Both come from one address.
    refused = "127.0.0.1 is refused: it"
    wait_until(lambda: said(cluster, 0, refused), what=refused)
    for watched in tally([cluster.nodes[number] for number in cluster.numbers], WATCHED_SECONDS / 2):
        assert watched.cpu_seconds < MOST_CPU_SECONDS
    assert len(said(cluster, 0, refused)) == 1
    for number, line in advice.items():
        assert len(said(cluster, number, line)) == 1
        assert is_live(cluster, 0, f"n{number}")


def said(cluster: RunningCluster, number: int, line: str) -> list[str]:
    """The troubles of a node that begin so."""
    return [trouble for trouble in troubles(cluster.nodes[number].output) if trouble.startswith(line)]


def await_refused(cluster: RunningCluster, here: int, there: int) -> None:
    """Wait until a node says that it and another one will not have each other."""
    name = f"127.0.0.1:{cluster.links[here, there].port}"
    wait_until(
        lambda: cluster.peer_status(here, name)["state"] == "refused", what=f"n{here} and n{there} to refuse"
    )


def is_live(cluster: RunningCluster, number: int, node_id: str) -> bool:
    """Whether a node has a live link to another one."""
    return any(
        peer["node_id"] == node_id and peer["state"] == "live" for peer in cluster.status(number)["nodes"]
    )


def troubles(output: str) -> list[str]:
    """What was logged as a warning or worse."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["level"] in {"warning", "error", "critical"}]
