"""Owns the machines of the runbook together: the ways between them, and what tests ask of their nodes besides.

Must not know a section of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Final

import httpx

from tests.operations.machine import USER_KEY, Machine
from tests.operations.runbook import block
from tests.support.links import Link, Links
from tests.support.node import NO_TLS, RunningNode, key_headers
from tests.support.ports import lasting_ports
from tests.support.sessions import Session
from tests.support.waiting import PATIENCE, wait_until

API_KEY: Final = "an-api-key-of-the-cluster"

_ALL_WELL: Final = re.compile(r"(\d) of \1 nodes healthy, one state\.")


class Machines:
    """Machines that know each other by links of their own, with one API key and one cluster key.

    Args:
        directory: Theirs.
        links: Carry what they say to each other.
        names: Of the machines.
        clustered: Those of them that know each other from the start.
    """

    def __init__(self, directory: Path, links: Links, names: Iterable[str], clustered: Iterable[str]) -> None:
        ports = dict(zip(names := list(names), lasting_ports(len(names)), strict=True))
        self.links: dict[tuple[str, str], Link] = {
            (here, there): links.to(ports[there]) for here, there in permutations(names, 2)
        }
        self._clustered = list(clustered)
        self.by_name: dict[str, Machine] = {}
        (directory / "backup").mkdir()
        for name, port in ports.items():
            own = f"127.0.0.1:{port}"
            ways = {there: f"127.0.0.1:{self.links[name, there].port}" for there in names if there != name}
            known = {f"{there}:9000": address for there, address in (ways | {name: own}).items()}
            settings = {"OSC_CLUSTER_SYNC_INTERVAL": "1"}
            machine = Machine(name, directory / name, port, known | {"127.0.0.1:9000": own}, settings)
            self.by_name[name] = machine
        for name in self._clustered:
            machine = self.by_name[name]
            machine.configure(block("ini", "OSC_CLUSTER_NODE_ID=node1").replace("ID=node1", f"ID={name}"))
            machine.write("etc/oscd/api-keys", API_KEY)
            machine.write("etc/oscd/cluster-key", "a-key-that-only-nodes-have")

    def __getitem__(self, name: str) -> Machine:
        return self.by_name[name]

    def type(self, session: Session) -> None:
        """Type a session of the page, each command at the machine of its prompt."""
        for step in session:
            if step.shown and (found := _ALL_WELL.fullmatch(step.shown[-1])):
                # Asking costs less than typing the command until it shows so.
                self._await_well(step.machine, int(found[1]))
            self.by_name[step.machine].type(step)

    def cut(self, name: str) -> None:
        """Let nothing pass to a machine, and nothing from it."""
        for way, link in self.links.items():
            if name in way:
                link.cut()

    def heal(self) -> None:
        """Let everything pass."""
        for link in self.links.values():
            link.heal()

    def client(self, name: str) -> httpx.Client:
        """A client of a machine's node; the caller closes it."""
        url = f"http://127.0.0.1:{self.by_name[name].port}"
        keys = self.by_name[name].root / "etc/oscd/api-keys"
        key = keys.read_text().splitlines()[0] if keys.exists() else None
        return httpx.Client(
            base_url=url, headers=key_headers(USER_KEY, key), timeout=PATIENCE, trust_env=False, verify=NO_TLS
        )

    def put(self, name: str, key: str, value: object) -> None:
        """Write an entry on a machine's node."""
        path = f"/configs/{key}?environment=production"
        with self.client(name) as client:
            answer = client.put(path, headers={"If-None-Match": "*"}, json={"value": value})
            if answer.status_code == 412:
                answer = client.put(path, json={"value": value})
            assert answer.is_success, answer.text

    def value_of(self, name: str, key: str) -> object:
        """What a machine's node answers for an entry; None where it has none."""
        with self.client(name) as client:
            answer = client.get(f"/configs/{key}?environment=production")
        return answer.json()["value"] if answer.is_success else None

    def await_value(self, name: str, key: str, value: object) -> None:
        """Wait until a machine's node has an entry so."""
        wait_until(lambda: self.value_of(name, key) == value, what=f"{key} on {name}")

    def node(self, name: str) -> RunningNode:
        """The node of a machine, which has been started."""
        node = self.by_name[name].node
        assert node is not None
        return node

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Have a machine's node out of its cluster while the block runs, and in it again afterwards."""
        machine = self.by_name[name]
        settings = (machine.root / "etc/oscd/oscd.env").read_text().rstrip("\n")
        machine.write("etc/oscd/oscd.env", settings.replace("ENABLED=true", "ENABLED=false"))
        machine.systemctl("start")
        try:
            yield
        finally:
            machine.systemctl("stop")
            machine.write("etc/oscd/oscd.env", settings)
            machine.systemctl("start")

    def await_well(self) -> None:
        """Wait until every node of the cluster says that all of them are well and equal."""
        for name in self._clustered:
            self._await_well(name, len(self._clustered))

    def _await_well(self, name: str, count: int) -> None:
        try:
            wait_until(lambda: self._is_well(name, count), what=f"{name} to find {count} nodes well")
        except AssertionError as error:
            with self.client(name) as client:
                raise AssertionError(f"{error}\n{client.get('/cluster/status').text}") from error

    def _is_well(self, name: str, count: int) -> bool:
        try:
            with self.client(name) as client:
                status, held = (
                    client.get("/cluster/status").json(),
                    client.get("/cluster/distribution").json(),
                )
        except httpx.TransportError:
            return False
        return bool(
            status["healthy_nodes"] == status["total_nodes"] == count
            and not status["quarantined"]
            and not status["not_ready"]
            and held["all_nodes_synced"]
        )

    def close(self) -> None:
        """End every node."""
        for machine in self.by_name.values():
            machine.close()
