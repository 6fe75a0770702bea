"""Owns reading the files of this folder for use without Docker: the same settings and configurations, other places.

Only names of hosts, ports and paths are replaced, each of which a file must hold; what is not replaced is as shipped.
Must not start anything, or know how a file should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).resolve().parent
NODES: Final = ("node-1", "node-2", "node-3")

NODE_PORT: Final = 9000
NGINX_PORT: Final = 8443
LOOPBACK: Final = "127.0.0.1"

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def compose_document(name: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A compose file of this folder, with its variables replaced.

    Args:
        variables: As `--env-file` gives them.

    Raises:
        KeyError: A variable is not given and has no default.
    """

    def text_of(found: re.Match[str]) -> str:
        given = variables.get(found[1]) or found[2]
        if given is None:
            raise KeyError(found[1])
        return given

    return dict(yaml.safe_load(_VARIABLE.sub(text_of, (FOLDER / name).read_text())))


def variables_of(secrets: Path) -> dict[str, str]:
    """What `compose.certificates` wrote for Docker into a directory."""
    lines = (secrets / "compose.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@dataclass(frozen=True, slots=True)
class Shipped:
    """The files of this folder, for a directory of secrets and ports of this machine.

    Attributes:
        secrets: Made by `compose.certificates`.
        ports: Where each node serves, and nginx.
    """

    secrets: Path
    ports: Mapping[str, int]

    def service(self, name: str) -> dict[str, Any]:
        """A service of compose.yaml."""
        return dict(self._document["services"][name])

    def settings(self, node: str) -> dict[str, str]:
        """The `OSC_*` variables of a node."""
        proxy = str(self.service("nginx")["networks"]["inside"]["ipv4_address"])
        given = {
            name: self.placed(node, str(text)) for name, text in self.service(node)["environment"].items()
        }
        given["OSC_TRUSTED_PROXIES"] = _replaced(given["OSC_TRUSTED_PROXIES"], proxy, LOOPBACK)
        return given | {"OSC_HOST": LOOPBACK, "OSC_HOST_PORT": str(self.ports[node])}

    def nginx(self, home: Path) -> str:
        """nginx.conf, for nginx that writes to a directory."""
        text = (FOLDER / "nginx" / "nginx.conf").read_text()
        text = _replaced(text, f"listen {NGINX_PORT} ", f"listen {LOOPBACK}:{self.ports['nginx']} ")
        text = _replaced(text, " /tmp/", f" {home}/")
        return self.placed("nginx", text)

    def prometheus(self) -> str:
        """prometheus.yml; rules.yaml is to lie beside it."""
        return self.placed("prometheus", (FOLDER / "prometheus" / "prometheus.yml").read_text())

    def placed(self, service: str, text: str) -> str:
        """A text of a service, with nodes and secrets where they are on this machine."""
        for node in NODES:
            text = text.replace(f"{node}:{NODE_PORT}", f"{LOOPBACK}:{self.ports[node]}")
        for inside, outside in self.mounted(service):
            text = re.sub(rf"{re.escape(inside)}(?![\w.-])", str(outside), text)
        return text

    def mounted(self, service: str) -> Iterator[tuple[str, Path]]:
        """The secrets of a service: where it sees each, and which file that is."""
        files = self._document["secrets"]
        for given in self.service(service).get("secrets", ()):
            source, target = (given, given) if isinstance(given, str) else (given["source"], given["target"])
            yield f"/run/secrets/{target}", Path(files[source]["file"])

    @property
    def _document(self) -> dict[str, Any]:
        return compose_document("compose.yaml", variables_of(self.secrets))


def _replaced(text: str, inside: str, outside: str) -> str:
    """A text with something in it replaced, which must be there.

    Raises:
        ValueError: It is not.
    """
    if inside not in text:
        raise ValueError(f"nothing to replace: {inside!r}")
    return text.replace(inside, outside)
