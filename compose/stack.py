"""Owns running what compose.yaml describes as plain processes of this machine: nodes, nginx and Prometheus.

For tests and pictures. All of it ends with the one that started it. Must not change what a file says, which is for
`shipped.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from compose.loopback import free_ports
from compose.processes import OSCD, end, started
from compose.shipped import FOLDER, LOOPBACK, NODES, Shipped

SERVICES: Final = (*NODES, "nginx", "prometheus")
PATIENCE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 10.0


class Stack:
    """The services of compose.yaml, in a directory that takes everything they write; none runs until it is started.

    To be used on the main thread: what it starts is killed with the thread that did.

    Args:
        home: Takes a directory per service; made if it is missing.
        secrets: Made by `compose.certificates`.
        ports: Of each of `SERVICES`, to stay where they are over restarts; free ones if none are given.

    Attributes:
        ports: Where each service is.
        trust: A client's context that knows the trial's authority.
    """

    def __init__(self, home: Path, secrets: Path, ports: Sequence[int] | None = None) -> None:
        self.home = home
        self.ports: Mapping[str, int] = dict(
            zip(SERVICES, ports or free_ports([0] * len(SERVICES)), strict=True)
        )
        self.shipped = Shipped(secrets, self.ports)
        self.trust = trusting(secrets)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for service in SERVICES:
            self.home_of(service).mkdir(mode=0o700, parents=True, exist_ok=True)

    def url(self, service: str) -> str:
        """Where a service is asked."""
        scheme = "http" if service == "prometheus" else "https"
        return f"{scheme}://{LOOPBACK}:{self.ports[service]}"

    def home_of(self, service: str) -> Path:
        """Where a service writes."""
        return self.home / service

    def output_of(self, service: str) -> str:
        """All that a service has said."""
        path = self.home / f"{service}.output"
        return path.read_text(errors="replace") if path.exists() else ""

    def start_nodes(self, *nodes: str) -> None:
        """Start these nodes, all if none is named, and wait until they are ready."""
        for node in nodes or NODES:
            settings = self.shipped.settings(node)
            self._start(node, [*OSCD, "serve"], settings)
        for node in nodes or NODES:
            self.wait_for(lambda: self.is_ready(node), f"{node} to be ready", node)  # noqa: B023

    def start_nginx(self) -> None:
        """Start nginx as compose.yaml does, and wait until it listens."""
        home = self.home_of("nginx")
        (home / "nginx.conf").write_text(self.shipped.nginx(home))
        program, *arguments = self.shipped.service("nginx")["entrypoint"]
        placed = [argument.replace("/etc/nginx/", f"{home}/") for argument in arguments]
        if os.geteuid() == 0:
            placed[-1] += " user root;"  # in the container it is not root, and stays who it is
        self._start("nginx", [_program(program), "-p", str(home), *placed], {})
        self.wait_for(lambda: self._listens("nginx"), "nginx to listen", "nginx")

    def start_prometheus(self, scrape_seconds: int = 15) -> None:
        """Start Prometheus as compose.yaml does, and wait until it answers.

        Args:
            scrape_seconds: In place of the shipped interval, which is long for somebody who waits.
        """
        home = self.home_of("prometheus")
        text = self.shipped.prometheus()
        for name, seconds in (("scrape_interval", 15), ("scrape_timeout", 10), ("evaluation_interval", 15)):
            shorter = min(seconds, scrape_seconds)
            text = text.replace(f"{name}: {seconds}s", f"{name}: {shorter}s")
        (home / "prometheus.yml").write_text(text)
        shutil.copy(FOLDER / "prometheus" / "rules.yaml", home)
        flags = [
            flag.replace("/etc/prometheus/", f"{home}/").replace("=/prometheus", f"={home}/series")
            for flag in self.shipped.service("prometheus")["command"]
        ]
        listen = f"--web.listen-address={LOOPBACK}:{self.ports['prometheus']}"
        self._start("prometheus", [_program("prometheus"), *flags, listen], {})
        self.wait_for(lambda: self._answers("prometheus", "/-/ready"), "Prometheus", "prometheus")

    def stop(self, *services: str) -> None:
        """End these services, in bounded time: Docker's way, SIGTERM."""
        end([self._processes.pop(service) for service in services])

    def close(self) -> None:
        """End everything."""
        self.stop(*tuple(self._processes))

    def is_ready(self, node: str) -> bool:
        """Whether a node says that it may serve."""
        return self._answers(node, "/ready")

    def ask_prometheus(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON of Prometheus
        """The `data` that Prometheus answers with.

        Raises:
            OSError: It does not answer, or refuses.
        """
        url = f"{self.url('prometheus')}/api/v1/{path}?{urlencode(parameters)}"
        with _direct.open(url, timeout=_ASK_SECONDS) as answer:
            return json.load(answer)["data"]

    def wait_for(self, condition: Callable[[], bool], what: str, service: str | None = None) -> None:
        """Wait until something is so.

        Args:
            what: Told when it does not come.
            service: Which must go on running meanwhile.

        Raises:
            AssertionError: It is not in time, or the service has ended.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            ended = None if service is None else self._processes[service].poll()
            if ended is not None or time.monotonic() > until:
                said = "" if service is None else self.output_of(service)[-4000:]
                raise AssertionError(f"waited in vain for {what} (status {ended}):\n{said}")
            time.sleep(_LOOK_SECONDS)

    def _start(self, service: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
        with (self.home / f"{service}.output").open("ab") as output:
            self._processes[service] = started(command, self.home_of(service), settings, output)

    def _listens(self, service: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.ports[service])) == 0

    def _answers(self, service: str, path: str) -> bool:
        handler = urllib.request.HTTPSHandler(context=self.trust)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
        try:
            with opener.open(f"{self.url(service)}{path}", timeout=_ASK_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def trusting(secrets: Path) -> ssl.SSLContext:
    """A client's context that knows the authority of a trial, and no other."""
    return ssl.create_default_context(cafile=secrets / "ca.pem")


# No proxy: nobody who set one for the web meant this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _program(name: str) -> str:
    """Where a program is; also of those that are for root.

    Raises:
        FileNotFoundError: It is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found
