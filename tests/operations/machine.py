"""Owns one machine on which the runbook is typed: a real node in directories laid out as the page says.

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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.operations.runbook import block
from tests.support.node import RunningNode
from tests.support.sessions import Step, is_shown
from tests.support.waiting import PATIENCE, wait_until

USER_KEY: Final = "only-the-owner-knows-this"

_PROGRAM: Final = Path(__file__).with_name("settable_clock.py")

_LOOKS: Final = ("oscd cluster ", "oscd get ", "oscd history ", "curl ")
"""Commands that change nothing: whoever types them looks again until what they wait for is there."""

_MAY_END_WITH_1: Final = ("oscd cluster status", "oscd verify", "oscd doctor")
"""Commands whose exit status tells what they have found."""

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
