"""Owns the machines on which the runbook is typed: real nodes in directories laid out as the page says.

Names and paths of the page become those of this machine; systemd and what belongs to it are stand-ins that do to a
node what the real ones do. Must not know a section of the page.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Final

import httpx

from tests.operations.runbook import block
from tests.support.links import Link, Links
from tests.support.node import NO_TLS, RunningNode, key_headers
from tests.support.ports import lasting_ports
from tests.support.sessions import Session, Step, is_shown
from tests.support.waiting import PATIENCE, wait_until

API_KEY: Final = "an-api-key-of-the-cluster"
USER_KEY: Final = "only-the-owner-knows-this"

_PROGRAM: Final = Path(__file__).with_name("settable_clock.py")

_LOOKS: Final = ("oscd cluster ", "oscd get ", "oscd history ", "curl ")
"""Commands that change nothing: whoever types them looks again until what they wait for is there."""

_MAY_END_WITH_1: Final = ("oscd cluster status", "oscd verify", "oscd doctor")
"""Commands whose exit status tells what they have found."""

_ALL_WELL: Final = re.compile(r"(\d) of \1 nodes healthy, one state\.")

_STAND_INS: Final = """
scp() { cp -- "$@" && sed -i "s#$MACHINES/node[0-9]/#$ROOT/#g" "$ROOT/etc/oscd/oscd.env"; }
chown() { [ "$1 $2" = "-R oscd:" ] || [ "$1" = root:oscd ]; }
journalctl() {
    local lines=+1
    while [ $# -gt 0 ]; do [ "$1" = -n ] && lines=$2; shift; done
    tail -n "$lines" "$ROOT/var/lib/oscd.output"
}
"""
"""Another machine's files lie beside these, and what its settings name there is named here then."""


class Machine:
    """One machine of the page; its node does not run until `systemctl start oscd`.

    Args:
        name: As `node1`.
        root: Where its directories are.
        port: Of its node.
        names: What the page calls an address, and what it is here.
        settings: What its node is told besides `/etc/oscd/oscd.env`.
    """

    def __init__(
        self, name: str, root: Path, port: int, names: Mapping[str, str], settings: dict[str, str]
    ) -> None:
        self.name = name
        self.root = root
        self.port = port
        self.node: RunningNode | None = None
        self.clock = root / "clock"
        self._names = dict(names)
        self._settings = {"OSC_HOST": "127.0.0.1", "OSC_HOST_PORT": str(port), "OSC_WORKERS": "1"} | settings
        for directory in ("var/lib/oscd", "etc/oscd", "root", "srv/larger"):
            (root / directory).mkdir(parents=True)
        self.write("root/user-key", USER_KEY)

    @property
    def data(self) -> Path:
        """Where log and salt are."""
        return self.root / "var/lib/oscd"

    def write(self, path: str, text: str) -> None:
        """Make a file that only its owner reads."""
        file = self.root / path
        file.write_text(f"{text}\n")
        file.chmod(0o600)

    def configure(self, settings: str) -> None:
        """Write the settings of its node, in the words of the page."""
        self.write("etc/oscd/oscd.env", self.here(settings).rstrip("\n"))

    def here(self, text: str) -> str:
        """What the page says, with what it means on this machine."""

        def meant(found: re.Match[str]) -> str:
            said = found[0]
            if said in self._names:
                return self._names[said]
            if found["other"]:
                return f"{self.root.parent / found['other']}/"
            return str(self.root.parent / "backup" if said == "/backup" else f"{self.root}{said}")

        addresses = "|".join(map(re.escape, self._names))
        paths = r"(?<![\w./-])/(?:var/lib/oscd|etc/oscd|root|srv|backup)(?![\w-])"
        return re.sub(rf"{addresses}|(?P<other>node\d):/|{paths}", meant, text)

    def type(self, step: Step) -> None:
        """Type a command; it has to end well and to print what the page shows."""
        run = self._stand_in(step.command) or (lambda: self._shell(step.command))
        again = step.command.startswith(_LOOKS)
        shown = tuple(self.here(line) for line in step.shown)
        last = ""

        def as_shown() -> bool:
            nonlocal last
            status, last = run()
            is_well = status == 0 or (status == 1 and step.command.startswith(_MAY_END_WITH_1))
            return is_well and is_shown(last, shown)

        try:
            wait_until(as_shown, PATIENCE if again else 0.0)
        except AssertionError as error:
            raise AssertionError(f"{self.name}$ {step.command}\n{last}") from error

    def systemctl(self, verb: str) -> tuple[int, str]:
        """Do to the node what systemd does to the service `oscd`."""
        if verb in {"stop", "restart"} and self.is_running:
            assert self.node is not None
            self.node.terminate()
        if verb in {"start", "restart"}:
            self._start()
        if verb == "reload":
            assert self.node is not None
            self.node.send(signal.SIGHUP)
        return 0, "active (running)\n" if self.is_running else "inactive (dead)\n"

    @property
    def is_running(self) -> bool:
        """Whether any process of its node lives."""
        return self.node is not None and bool(self.node.processes())

    def close(self) -> None:
        """End its node."""
        if self.node is not None:
            self.node.kill_all()

    def _start(self) -> None:
        settings = self._settings | {"CLOCK_FILE": str(self.clock)}
        for line in (self.root / "etc/oscd/oscd.env").read_text().splitlines():
            name, _, value = line.partition("=")
            settings.setdefault(name, value)
        try:
            if self.node is None:
                self.node = RunningNode(self.data, settings, (str(_PROGRAM),))
            else:
                self.node.settings = settings
                self.node.restart()
        except AssertionError:
            # As systemd: that it did not start is in the log.
            assert not self.is_running

    def _stand_in(self, command: str) -> Callable[[], tuple[int, str]] | None:
        if found := re.fullmatch(r"systemctl (\w+) oscd", command):
            return lambda: self.systemctl(found[1])
        if command == "timedatectl set-ntp true":
            return self._set_clock
        return None

    def _set_clock(self) -> tuple[int, str]:
        self.clock.unlink()
        return 0, ""

    def _shell(self, command: str) -> tuple[int, str]:
        """Run a command as the page says: in the directory of the node, in a shell that knows its settings."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
        known = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MACHINES": str(self.root.parent),
            "ROOT": str(self.root),
        }
        script = (
            f"{_STAND_INS}\n{self.here(block('sh', 'export OSC_URL='))}\n{self._more}\n{self.here(command)}"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            env=kept | known,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def _more(self) -> str:
        """What the shell of a machine with HTTPS knows besides."""
        authority = self.root / "root/ca.pem"
        if not authority.exists():
            return ""
        trusted = shlex.quote(str(authority))
        url = f"https://127.0.0.1:{self.port}"
        return f"export OSC_URL={url} OSC_CLIENT_CA_CERTS={trusted} CURL_CA_BUNDLE={trusted}"


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
        wait_until(lambda: self._is_well(name, count), what=f"{name} to find {count} nodes well")

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
