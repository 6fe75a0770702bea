"""Owns running commands of the client side against a node, in processes of their own. Must not judge them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.node import USER_KEY, RunningNode
from tests.support.waiting import PATIENCE

SERVER = """
import os, signal, sys
log = open(sys.argv[1], "a", buffering=1)
names = "SIGINT SIGTERM SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGWINCH"
noted = {getattr(signal, name) for name in names.split()}
signal.pthread_sigmask(signal.SIG_BLOCK, noted)
log.write(f"start {os.getpid()} {os.environ.get('MARK', '-')}\\n")
while True:
    got = signal.sigwait(noted)
    log.write(f"got {got.name}\\n")
    if got == signal.SIGTERM and "stubborn" not in sys.argv:
        sys.exit(int(os.environ.get("STATUS", "0")))
"""
"""A command that notes its starts, with the value of MARK, and its signals; SIGTERM ends it unless it is stubborn."""


def command(*arguments: str) -> list[str]:
    """The command line of `oscd` with these arguments."""
    return [sys.executable, "-m", "oscd", *arguments]


def caller(node: RunningNode, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of somebody who calls a node."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    return kept | {"OSC_URL": node.base_url, "OSC_USER_KEY": USER_KEY} | dict(more or {})


def call(
    node: RunningNode,
    *arguments: str,
    given: str = "",
    directory: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        given: Its standard input.
        more: Variables beside those of `caller`.
    """
    return subprocess.run(
        command(*arguments),
        cwd=directory,
        env=caller(node, more),
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def started(
    arguments: Sequence[str], environment: Mapping[str, str], output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed in the end, whatever became of it, with all that it started."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
