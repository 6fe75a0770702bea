"""Owns real clusters for tests: nodes that know each other by links of their own, so that any of them can be cut.

A node is told the port of a link for each peer, never the peer's own, so what a test does to a link is what that
node meets. Clients use the nodes' own ports. Must not know what a test asks of the nodes.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx

from tests.support.links import Link, Links
from tests.support.log_file import Standing, standing_of
from tests.support.node import NO_TLS, USER_KEY, RunningNode
from tests.support.ports import lasting_ports
from tests.support.waiting import PATIENCE, wait_until

API_KEY = "an-api-key-of-the-cluster"
CLUSTER_KEY = "a-key-that-only-nodes-have"

SETTINGS = {
    "OSC_WORKERS": "1",
    "OSC_API_KEY_REQUIRED": "true",
    "OSC_API_KEY": API_KEY,
    "OSC_CLUSTER_ENABLED": "true",
    "OSC_CLUSTER_KEY": CLUSTER_KEY,
    # With each keep-alive comes where a stream stands.
    "OSC_SSE_KEEPALIVE_INTERVAL": "1",
    "OSC_CLUSTER_SYNC_INTERVAL": "1",
}

Way = tuple[int, int]
"""Who pulls, and from whom."""


class RunningCluster:
    """Nodes `n0`, `n1`, … in directories beside each other; none runs until it is started.

    Args:
        links: Carries what they say to each other.
        size: How many.
        settings: `OSC_*` variables of all of them, besides those that make them a cluster.
        each: Further ones of single nodes, by number.
        scheme: How peers are named: "" as `host:port`, or `https://`.
        program: What the interpreter runs of single nodes, by number.
        tls: What clients trust and show, where the nodes serve HTTPS.

    Attributes:
        nodes: Those that were started, by number and in that order.
        ports: Where each serves, for all its lives.
        links: The way of each node to each other one.
        more_peers: Further peers of single nodes, as `OSC_CLUSTER_NODES` names them.
    """

    def __init__(
        self,
        directory: Path,
        links: Links,
        size: int,
        *,
        settings: Mapping[str, str] | None = None,
        each: Mapping[int, Mapping[str, str]] | None = None,
        scheme: str = "",
        program: Mapping[int, Sequence[str]] | None = None,
        tls: ssl.SSLContext = NO_TLS,
    ) -> None:
        self.directory = directory
        self.numbers = range(size)
        self.ports = lasting_ports(size)
        self.nodes: dict[int, RunningNode] = {}
        self.links: dict[Way, Link] = {
            (puller, source): links.to(self.ports[source]) for puller, source in permutations(self.numbers, 2)
        }
        self._settings = SETTINGS | dict(settings or {})
        self._each = {number: dict((each or {}).get(number, {})) for number in self.numbers}
        self._scheme = scheme
        self._tls = tls
        self._program = dict(program or {})
        self.more_peers: dict[int, list[str]] = {number: [] for number in self.numbers}

    def start(self, *numbers: int) -> None:
        """Start these nodes side by side, all if none is named; one that ran before goes on where it was."""
        chosen = numbers or tuple(self.numbers)
        with ThreadPoolExecutor(len(chosen)) as pool:
            for started in [pool.submit(self._start, number) for number in chosen]:
                started.result()
        # Whichever was up first: the first of them is n0.
        self.nodes = dict(sorted(self.nodes.items()))

    def give_salt(self, salt: bytes, *numbers: int) -> None:
        """Put a salt beside the empty logs of these nodes, all if none is named, before they are started."""
        for number in numbers or tuple(self.numbers):
            self.directory_of(number).mkdir(exist_ok=True)
            path = self.directory_of(number) / "encryption.salt"
            path.write_bytes(salt)
            path.chmod(0o600)

    def kill(self, *numbers: int) -> None:
        """End these nodes as a power cut does."""
        for number in numbers:
            self.nodes[number].kill_all()

    def directory_of(self, number: int) -> Path:
        """Where a node keeps its files."""
        return self.directory / f"n{number}"

    def peer_names(self, number: int) -> list[str]:
        """What a node is told of its peers."""
        ways = [self.links[number, other] for other in self.numbers if other != number]
        return [f"{self._scheme}127.0.0.1:{way.port}" for way in ways] + self.more_peers[number]

    def settings_of(self, number: int) -> dict[str, str]:
        """All settings of a node."""
        own = {
            "OSC_HOST_PORT": str(self.ports[number]),
            "OSC_CLUSTER_NODE_ID": f"n{number}",
            "OSC_CLUSTER_NODES": ",".join(self.peer_names(number)),
        }
        return self._settings | own | self._each[number]

    def ways_of(self, number: int) -> list[Link]:
        """Every way to a node and from it."""
        return [link for way, link in self.links.items() if number in way]

    def heal(self) -> None:
        """Let everything pass everywhere."""
        for link in self.links.values():
            link.heal()

    def client(self, number: int, user_key: str = USER_KEY) -> httpx.Client:
        """A client of a node; the caller closes it."""
        return self.nodes[number].client(user_key, api_key=API_KEY, tls=self._tls)

    def trust(self, tls: ssl.SSLContext) -> None:
        """Have clients trust and show something else from now on."""
        self._tls = tls

    def await_ready(self, *numbers: int, seconds: float = PATIENCE) -> None:
        """Wait until these nodes, all if none is named, say that they are ready."""
        for number in numbers or tuple(self.nodes):
            wait_until(lambda: self._is_ready(number), seconds, what=f"n{number} to be ready")  # noqa: B023

    def standings(self) -> dict[int, Standing]:
        """How the log of each node that was started stands, as the disk has it."""
        return {number: standing_of(node.database) for number, node in self.nodes.items()}

    def await_equal(self, seconds: float = PATIENCE) -> Standing:
        """Wait until all logs hold the same events and make the same state; gives it."""

        def equal() -> Standing | None:
            first, *others = self.standings().values()
            return first if all(other == first for other in others) else None

        try:
            return wait_until(equal, seconds)
        except AssertionError as late:
            raise AssertionError(
                f"not equal within {seconds:g} s: {_differences(self.standings())}"
            ) from late

    def status(self, number: int) -> dict[str, Any]:
        """What a node says of the cluster."""
        with self.client(number) as client:
            document: dict[str, Any] = client.get("/cluster/status").raise_for_status().json()
        return document

    def distribution(self, number: int) -> dict[str, Any]:
        """What a node says of the entries of all."""
        with self.client(number) as client:
            document: dict[str, Any] = client.get("/cluster/distribution").raise_for_status().json()
        return document

    def peer_status(self, number: int, peer: str) -> dict[str, Any]:
        """What a node says of the peer with this id or configured name."""
        peers: list[dict[str, Any]] = self.status(number)["nodes"]
        found = [one for one in peers if peer in (one["node_id"], one["peer"])]
        assert len(found) == 1, f"{peer} is named {len(found)} times"
        return found[0]

    def await_synced(self, *numbers: int, seconds: float = PATIENCE) -> None:
        """Wait until these nodes, all if none is named, say themselves that all nodes are equal and healthy."""
        for number in numbers or tuple(self.nodes):
            try:
                wait_until(lambda: self._says_synced(number), seconds)  # noqa: B023
            except AssertionError as late:
                said = [self.status(number), self.distribution(number)]
                raise AssertionError(
                    f"n{number} does not say within {seconds:g} s that all is equal: {said}"
                ) from late

    def close(self) -> None:
        """End every process."""
        for node in self.nodes.values():
            with suppress(ProcessLookupError):
                node.kill_all()

    def _start(self, number: int) -> None:
        node = self.nodes.get(number)
        if node is not None:
            node.restart()
            return
        program = self._program.get(number, ("-m", "oscd"))
        self.nodes[number] = RunningNode(self.directory_of(number), self.settings_of(number), program)

    def _is_ready(self, number: int) -> bool:
        try:
            with self.client(number) as client:
                return client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _says_synced(self, number: int) -> bool:
        status = self.status(number)
        return (
            status["healthy_nodes"] == status["total_nodes"] == len(self.nodes)
            and all(peer["lag_events"] == 0 for peer in status["nodes"])
            and self.distribution(number)["all_nodes_synced"] is True
        )


def _differences(standings: Mapping[int, Standing]) -> str:
    origins = {origin for standing in standings.values() for origin in standing.ends}
    parts = []
    for origin in sorted(origins):
        ends = {number: standing.ends.get(origin, (0, b"")) for number, standing in standings.items()}
        if len(set(ends.values())) > 1:
            parts.append(f"{origin} at " + ", ".join(f"n{n}: {seq}" for n, (seq, _) in ends.items()))
    states = {number: standing.state.hex()[:8] for number, standing in standings.items()}
    return "; ".join([*parts, f"states {states}"])


MakeCluster = Callable[..., RunningCluster]


@contextmanager
def clusters(directory: Path) -> Iterator[MakeCluster]:
    """Make clusters as `make(3, settings=…)`, each in a directory of its own; all end with the block."""
    made: list[RunningCluster] = []
    with Links() as links:

        def make(size: int, **options: Any) -> RunningCluster:  # noqa: ANN401 - as the constructor takes them
            own = directory / f"cluster-{len(made)}"
            own.mkdir()
            made.append(RunningCluster(own, links, size, **options))
            return made[-1]

        try:
            yield make
        finally:
            for cluster in made:
                cluster.close()
