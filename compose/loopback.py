"""Owns a cluster for trying: three nodes on this machine, with keys and data of their own that are gone in the end.

`make cluster` runs it. Must not show a key to `ps`.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Final

from compose.processes import OSCD, STOP_SECONDS, end, started
from oscd.client.private_file import write_private

PORTS: Final = (9001, 9002, 9003)
READY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2
_KEY_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Member:
    """A node that runs.

    Attributes:
        process: Its supervisor; standard output and error come in one pipe.
    """

    name: str
    url: str
    process: subprocess.Popen[bytes]


def free_ports(wanted: Sequence[int] = PORTS) -> list[int]:
    """The wanted ports; in place of each that is taken, one that the kernel gives."""
    with ExitStack() as held:  # until all are known, so that none is given twice
        return [_free_port(port, held) for port in wanted]


def _free_port(wanted: int, held: ExitStack) -> int:
    for port in (wanted, 0):
        listener = held.enter_context(socket.socket())
        # As a node does: a port whose last connections are not forgotten yet is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise SystemExit("oscd: no port of 127.0.0.1 is free")


def write_keys(directory: Path) -> None:
    """Draw the keys of a cluster and of one who uses it, each in a file of mode 0600; `headers` is for curl."""
    api, cluster, user = (secrets.token_urlsafe(_KEY_BYTES) for _ in range(3))
    headers = f"X-API-Key: {api}\nX-User-Key: {user}"
    for name, text in (("api-key", api), ("cluster-key", cluster), ("user-key", user), ("headers", headers)):
        write_private(directory / name, f"{text}\n".encode(), replace=False)


def settings(directory: Path, port: int, ports: Sequence[int]) -> dict[str, str]:
    """The settings of one node. It is among its own peers, as one list does for all: a node knows itself."""
    return {
        "OSC_HOST": "127.0.0.1",
        "OSC_HOST_PORT": str(port),
        "OSC_WORKERS": "2",
        "OSC_LOG_FORMAT": "console",
        "OSC_API_KEY_REQUIRED": "true",
        "OSC_API_KEY_FILE": str(directory / "api-key"),
        "OSC_CLUSTER_ENABLED": "true",
        "OSC_CLUSTER_NODE_ID": f"node-{port}",
        "OSC_CLUSTER_KEY_FILE": str(directory / "cluster-key"),
        "OSC_CLUSTER_NODES": ",".join(f"127.0.0.1:{each}" for each in ports),
    }


def start(directory: Path, port: int, ports: Sequence[int]) -> Member:
    """Start a node in a directory of its own; it is killed with this process. To be called on the main thread."""
    home = directory / f"node-{port}"
    home.mkdir(mode=0o700)
    process = started([*OSCD, "serve"], home, settings(directory, port, ports), subprocess.PIPE)
    assert process.stdout is not None
    threading.Thread(target=_pass_on, args=[home.name, process.stdout], daemon=True).start()
    return Member(home.name, f"http://127.0.0.1:{port}", process)


def _pass_on(name: str, lines: IO[bytes]) -> None:
    """Write a node's lines with its name before each: a line at once, as others write too."""
    for line in lines:
        _write(1, f"{name} | ".encode() + line)


def _write(descriptor: int, text: bytes) -> None:
    with suppress(OSError):  # Nobody reads any more; the nodes go on until they are ended.
        os.write(descriptor, text)


def tell(sentence: str) -> None:
    """Say something beside the nodes."""
    _write(2, f"{sentence}\n".encode())


def await_ready(members: Sequence[Member], stop: threading.Event) -> bool:
    """Wait until every node is ready; false where somebody wants the end, or one will not be."""
    until = time.monotonic() + READY_SECONDS
    for member in members:
        while not _is_ready(member):
            if member.process.poll() is not None:
                tell(f"{member.name} has ended with status {member.process.returncode}; its lines say why.")
                return False
            if time.monotonic() > until:
                tell(f"{member.name} is not ready after {READY_SECONDS:g} s; {member.url}/ready says why.")
                return False
            if stop.wait(_LOOK_SECONDS):
                return False
    return True


def _is_ready(member: Member) -> bool:
    try:
        with _direct.open(f"{member.url}/ready", timeout=STOP_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


# No proxy: nobody who set one for the web meant this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def usage(directory: Path, members: Sequence[Member]) -> str:
    """How to talk to the nodes: lines to paste. Keys are read from files, and are in none of them."""
    first, second, _ = (member.url for member in members)
    oscd = Path(sys.executable).with_name("oscd")
    return f"""
Three nodes are ready: {", ".join(member.url for member in members)}
Ctrl-C ends them and removes {directory} with all they hold. In another terminal:

  export OSC_URL={first} OSC_API_KEY_FILE={directory}/api-key OSC_USER_KEY_FILE={directory}/user-key
  {oscd} cluster status --watch
  {oscd} set greeting hello -e production
  OSC_URL={second} {oscd} get greeting -e production
  curl -H @{directory}/headers {second}/cluster/status
"""


def watch(members: Sequence[Member], stop: threading.Event) -> None:
    """Say which node ends by itself, until somebody wants the end, or none is left."""
    running = list(members)
    while running and not stop.wait(_LOOK_SECONDS):
        for member in [member for member in running if member.process.poll() is not None]:
            running.remove(member)
            tell(f"{member.name} has ended with status {member.process.returncode}; the others go on.")


def main() -> int:
    """Run three nodes until a signal."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    # Of mode 0700, wherever temporary files are.
    with tempfile.TemporaryDirectory(prefix="oscd-cluster-", ignore_cleanup_errors=True) as name:
        directory, ports = Path(name), free_ports()
        write_keys(directory)
        members: list[Member] = []
        try:
            for port in ports:
                members.append(start(directory, port, ports))
            is_ready = await_ready(members, stop)
            if is_ready:
                tell(usage(directory, members))
                watch(members, stop)
            return 0 if is_ready or stop.is_set() else 1
        finally:
            end([member.process for member in members])


if __name__ == "__main__":
    sys.exit(main())
