"""The cluster key is rotated, node after node, while nodes write and read from each other."""

from __future__ import annotations

import json
import secrets
import signal
from pathlib import Path

from oscd.replication.source import KEY_REPLACED
from tests.support.cluster import MakeCluster, RunningCluster
from tests.support.waiting import wait_until

OLD, NEW = "the-cluster-key-of-before", "the-cluster-key-from-now-on"


def test_a_cluster_key_is_rotated_under_live_links(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """The new key as a second line everywhere, then as the first, then alone: no link is ever refused, none ends in
    the first two steps, and in the third each ends once, with a goodbye, and is taken up again with the new key.
    """
    files = [tmp_path / f"key-{number}" for number in range(2)]
    for file in files:
        file.write_text(OLD)
    each = {number: {"OSC_CLUSTER_KEY_FILE": str(file)} for number, file in enumerate(files)}
    cluster = make_cluster(2, settings={"OSC_CLUSTER_KEY": ""}, each=each)
    cluster.start()
    cluster.await_ready()
    await_live(cluster)
    for keys in ([OLD, NEW], [NEW, OLD]):
        for number in cluster.numbers:
            renew(cluster, files, number, keys)
            require_written_everywhere(cluster)
            assert accepted(cluster, number) == [True, True]
        assert [troubles(cluster, number) for number in cluster.numbers] == [[], []]
    for number in cluster.numbers:
        renew(cluster, files, number, [NEW])
        require_written_everywhere(cluster)
    await_live(cluster)
    said = [troubles(cluster, number) for number in cluster.numbers]
    peers = [cluster.peer_names(number)[0] for number in cluster.numbers]
    assert said == [[f"{peer}: it says goodbye: {KEY_REPLACED}"] for peer in peers]
    assert [accepted(cluster, number) for number in cluster.numbers] == [[False, True]] * 2
    assert not any(key in node.output for key in (OLD, NEW) for node in cluster.nodes.values())


def renew(cluster: RunningCluster, files: list[Path], number: int, keys: list[str]) -> None:
    """Write the keys of a node into its file and have it read them."""
    node = cluster.nodes[number]
    before = len(node.output)
    files[number].write_text("\n".join(keys))
    node.send(signal.SIGHUP)
    read = f"1 API keys and {len(keys)} cluster keys are accepted now"
    wait_until(lambda: read in node.output[before:], what=read)


def require_written_everywhere(cluster: RunningCluster) -> None:
    """Write on each node and read it on the other; a link that is down for longer than a read waits is found here."""
    for writer, reader in ((0, 1), (1, 0)):
        with cluster.client(writer) as there, cluster.client(reader) as here:
            entry = {"key": secrets.token_hex(8), "environment": "e", "value": writer}
            written = there.post("/configs", json=entry)
            assert written.status_code == 201, written.text
            after = {"X-OSC-After": written.headers["X-OSC-Position"]}
            assert here.get(f"/configs/{entry['key']}?environment=e", headers=after).json()["value"] == writer


def accepted(cluster: RunningCluster, number: int) -> list[bool]:
    """Whether a node takes the old key, and whether the new one."""
    statuses = []
    for key in (OLD, NEW):
        with cluster.nodes[number].client(api_key=key) as client:
            statuses.append(client.get("/cluster/salt").status_code)
    assert set(statuses) <= {200, 403}
    return [status == 200 for status in statuses]


def await_live(cluster: RunningCluster) -> None:
    """Wait until each node has a live link to the other."""
    for number in cluster.numbers:
        wait_until(
            lambda: [peer["state"] for peer in cluster.status(number)["nodes"]] == ["live"],  # noqa: B023
            what="a live link",
        )


def troubles(cluster: RunningCluster, number: int) -> list[str]:
    """What a node has logged about its links, once each of them was live."""
    lines = [json.loads(line) for line in cluster.nodes[number].output.splitlines() if line.startswith("{")]
    live = next(at for at, line in enumerate(lines) if line["event"].endswith("is in step"))
    return [line["event"] for line in lines[live:] if line["level"] in {"warning", "error", "critical"}]
