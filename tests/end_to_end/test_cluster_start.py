"""Two real nodes become a cluster: one salt, one log, and a restart that goes on with its own numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from oscd.events.position import decode_position
from tests.conftest import StartNode
from tests.support import silent_resolver
from tests.support.node import RunningNode
from tests.support.waiting import wait_until

API_KEY = "an-api-key-of-the-cluster"
SETTINGS = {
    "OSC_API_KEY_REQUIRED": "true",
    "OSC_API_KEY": API_KEY,
    "OSC_CLUSTER_ENABLED": "true",
    "OSC_CLUSTER_KEY": "a-key-that-only-nodes-have",
}
StartMember = Callable[..., RunningNode]


@pytest.fixture
def start_member(start_node: StartNode) -> StartMember:
    """Start a node of a cluster as `start_member("a", *peers)`."""

    def start(name: str, *peers: RunningNode, **settings: str) -> RunningNode:
        nodes = ",".join(f"127.0.0.1:{peer.port}" for peer in peers)
        named = {"OSC_CLUSTER_NODE_ID": name, "OSC_CLUSTER_NODES": nodes}
        return start_node(**(SETTINGS | named | settings))

    return start


def client_of(node: RunningNode) -> httpx.Client:
    return node.client(api_key=API_KEY)


def until_ready(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/ready").status_code == 200, what="a node to be ready")


def put(client: httpx.Client, value: str) -> str:
    """Write the one entry of these tests; gives the position."""
    answer = client.put("/configs/key?environment=prod", json={"value": value})
    assert answer.status_code == 200, answer.text
    return answer.headers["X-OSC-Position"]


def value_at(client: httpx.Client, position: str) -> object:
    answer = client.get("/configs/key?environment=prod", headers={"X-OSC-After": position})
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


def states_at(client: httpx.Client) -> list[tuple[str, str, bool]]:
    nodes = client.get("/cluster/status").json()["nodes"]
    return [(node["node_id"], node["state"], node["is_healthy"]) for node in nodes]


def test_two_nodes_share_salt_and_log_and_go_on_after_a_restart(start_member: StartMember) -> None:
    """The second takes the first one's salt and all it wrote; the first, started anew, asks the second where it was
    and goes on there (invariant 9); then each reads at once what the other has written."""
    first = start_member("a")
    with client_of(first) as client:
        until_ready(client)
        created = client.post("/configs", json={"key": "key", "environment": "prod", "value": "of a"})
        assert created.status_code == 201, created.text
    # By two names, which is not as it should be, and does no harm.
    names = f"127.0.0.1:{first.port}", f"localhost:{first.port}"
    second = start_member("b", OSC_WORKERS="2", OSC_CLUSTER_NODES=",".join(names))
    with client_of(second) as b:
        until_ready(b)
        assert value_at(b, created.headers["X-OSC-Position"]) == "of a"
        salts = [(node.directory / "encryption.salt").read_bytes() for node in (first, second)]
        assert salts[0] == salts[1]
        first.settings |= {"OSC_HOST_PORT": str(first.port), "OSC_CLUSTER_NODES": f"127.0.0.1:{second.port}"}
        first.restart()
        with client_of(first) as a:
            until_ready(a)
            assert value_at(a, put(b, "of b")) == "of b"
            position = put(a, "of a again")
            assert value_at(b, position) == "of a again"
            status = b.get("/cluster/status").json()
            assert (status["total_nodes"], len(status["nodes"])) == (2, 2)
            assert f"{names[0]} and {names[1]} are one node, a, which counts once" in second.output
            # Two origins, one of each node: the restart has begun no other one.
            assert len(decode_position(position).marks) == 2
            wait_until(lambda: states_at(a) == [("b", "live", True)], what="the link of a to be seen live")
    for node in (first, second):
        assert SETTINGS["OSC_CLUSTER_KEY"] not in node.output


@pytest.mark.parametrize("loop", [{}, {"WITHOUT_UVLOOP": "1"}], ids=["uvloop", "asyncio"])
def test_a_node_stops_in_time_while_no_name_is_answered(tmp_path: Path, loop: dict[str, str]) -> None:
    """In an outage of DNS a look-up cannot be interrupted; no end of a process waits for it, none is killed."""
    names = ",".join(f"node-{number}.hangs.invalid:9000" for number in range(5))
    settings = SETTINGS | loop | {"OSC_WORKERS": "1", "OSC_CLUSTER_NODES": names}
    node = RunningNode(tmp_path / "node", settings, [silent_resolver.__file__])
    try:
        hangs = [f"the look-up of node-{number}.hangs.invalid hangs" for number in range(5)]
        wait_until(lambda: all(line in node.output for line in hangs), what="every look-up to hang")
        # By now the link has given up, and waits for no look-up itself.
        wait_until(lambda: "no connection in time" in node.output, what="a peer to be given up")
        assert node.terminate() == 0
    finally:
        if node.processes():
            node.kill_all()
    assert "killing it" not in node.output
    assert all(node.output.count(line) == 1 for line in hangs)
