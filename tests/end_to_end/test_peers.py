"""The served half of a link, over real sockets: the cluster key is replaced, the node stops, and the peer is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from oscd.replication.source import KEY_REPLACED, SHUTDOWN
from oscd.replication.wire import Frame, Frames, Goodbye
from tests.conftest import StartNode
from tests.support.node import RunningNode
from tests.support.waiting import wait_until

API_KEY = "an-api-key-of-the-callers"
OLD, NEW = "the-first-cluster-key", "the-second-cluster-key"
PULLER = {"node": "puller", "run": "run-of-puller"}
STREAMS = 8
"""Over so many connections each of two workers gets some."""


@contextmanager
def pulling(node: RunningNode, cluster_key: str) -> Iterator[httpx.Response]:
    """`GET /cluster/events` on a connection of its own."""
    with (
        node.client(api_key=cluster_key) as client,
        client.stream("GET", "/cluster/events", params=PULLER) as answer,
    ):
        yield answer


def frames_of(answer: httpx.Response) -> Iterator[Frame]:
    frames = Frames(1024 * 1024)
    for data in answer.iter_raw():
        yield from frames.feed(data)


def answers(node: RunningNode, cluster_key: str) -> set[int]:
    """What is answered wherever a connection falls; a HEAD opens no stream."""
    found = set()
    for _ in range(STREAMS):
        with node.client(api_key=cluster_key) as client:
            found.add(client.head("/cluster/events", params=PULLER).status_code)
    return found


def goodbye_of(answer: httpx.Response) -> str:
    """Why a stream ends that was at the head; read to its end."""
    *_, last = frames_of(answer)
    assert isinstance(last, Goodbye)
    return last.reason


def test_the_end_of_a_cluster_key_and_of_a_node_is_told(start_node: StartNode, tmp_path: Path) -> None:
    """SIGHUP ends the streams of the old key on every worker, SIGTERM all that are left; each peer is told why."""
    key = tmp_path / "cluster-key"
    key.write_text(OLD)
    node = start_node(
        OSC_WORKERS="2",
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_CLUSTER_ENABLED="true",
        OSC_CLUSTER_KEY_FILE=str(key),
    )
    with ExitStack() as held:
        old = [held.enter_context(pulling(node, OLD)) for _ in range(STREAMS)]
        assert {answer.status_code for answer in old} == {200}
        assert answers(node, API_KEY) == {403}
        key.write_text(NEW)
        node.send(signal.SIGHUP)
        assert {goodbye_of(answer) for answer in old} == {KEY_REPLACED}
        wait_until(lambda: answers(node, NEW) == {200}, what="every worker to take the new key")
        assert answers(node, OLD) == {403}
        new = [held.enter_context(pulling(node, NEW)) for _ in range(STREAMS)]
        assert {answer.status_code for answer in new} == {200}
        node.send(signal.SIGTERM)
        assert {goodbye_of(answer) for answer in new} == {SHUTDOWN}
        assert node.wait() == 0
    assert not any(secret in node.output for secret in (OLD, NEW, API_KEY, PULLER["run"]))


def test_sighup_takes_good_keys_or_changes_nothing(start_node: StartNode, tmp_path: Path) -> None:
    """A key file that is empty or gone leaves the key in force, and no API key becomes the cluster's; clustering that
    was turned off in `.env` stays on until the next start. Each is said."""
    key, directory = tmp_path / "cluster-key", tmp_path / "member"
    key.write_text(OLD)
    directory.mkdir()
    (directory / ".env").write_text("OSC_CLUSTER_ENABLED=true\n")
    node = start_node(
        directory=directory,
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_CLUSTER_KEY_FILE=str(key),
        # Nobody: so each try of a link shows the key, or fails for want of one.
        OSC_CLUSTER_NODES="127.0.0.1:1",
    )

    def hang_up(said: str) -> None:
        before = len(node.output)
        node.send(signal.SIGHUP)
        wait_until(lambda: said in node.output[before:], what=said)
        assert (answers(node, OLD), answers(node, API_KEY)) == ({200}, {403})

    with pulling(node, OLD) as stream:
        assert stream.status_code == 200
        key.write_text("\n")
        hang_up("OSC_CLUSTER_KEY (OSC_CLUSTER_KEY_FILE): there is no key in it any more")
        key.unlink()
        hang_up(f"OSC_CLUSTER_KEY_FILE='{key}': No such file or directory")
        key.write_text(OLD)
        (directory / ".env").write_text("OSC_CLUSTER_ENABLED=false\n")
        hang_up("changed, but not before the node is started again: OSC_CLUSTER_ENABLED")
        assert node.terminate() == 0
        assert goodbye_of(stream) == SHUTDOWN
    assert "Traceback" not in node.output
    assert not any(secret in node.output for secret in (OLD, API_KEY))
