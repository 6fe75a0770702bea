"""`watch` and a terminal: commands as processes, where signals, pipes and restarts matter."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from oscd.client.errors import EntryMissing
from oscd.client.service import Service
from oscd.client.target import Target
from tests.cli.calling import call, caller, command
from tests.cli.terminal import Terminal, terminal
from tests.conftest import StartNode
from tests.support.node import USER_KEY, RunningNode, command_line
from tests.support.waiting import PATIENCE, wait_until


def put(node: RunningNode, key: str, value: str, environment: str = "prod") -> str:
    """Set an entry; gives the position of the write."""
    with Service(Target(node.base_url, user_key=USER_KEY.encode())) as service:
        try:
            written = service.put(environment, key, value)
        except EntryMissing:
            written = service.create(environment, key, value)
    assert written.position is not None
    return written.position


class Watching:
    """A `watch` that runs, and the lines it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def lines(self) -> list[str]:
        """Whole lines so far."""
        return self._output.read_text().split("\n")[:-1]

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The same as JSON."""
        return [json.loads(line) for line in self.lines]

    @property
    def errors(self) -> str:
        """What it said beside."""
        return self._output.with_suffix(".errors").read_text()


@contextmanager
def watching(node: RunningNode, output: Path, *arguments: str) -> Iterator[Watching]:
    """Run `watch`, from the moment on when its stream is open."""
    with node.client() as client:
        open_before = _open_streams(client)
    with output.open("wb") as printed, output.with_suffix(".errors").open("wb") as errors:
        process = subprocess.Popen(
            command("watch", *arguments),
            env=caller(node, {"PYTHONUNBUFFERED": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=errors,
            cwd=node.directory,
        )
    try:
        with node.client() as client:
            wait_until(lambda: _open_streams(client) > open_before, what="the stream to begin")
        yield Watching(process, output)
    finally:
        process.kill()
        process.wait(PATIENCE)
        # So that whoever counts next does not count this one.
        with node.client() as client:
            wait_until(lambda: _open_streams(client) <= open_before, what="the stream to end")


def _open_streams(client: httpx.Client) -> int:
    return int(client.get("/sse/health").json()["active_subscriptions"])


def test_a_watch_survives_a_restart_without_gap_or_repeat(start_node: StartNode, tmp_path: Path) -> None:
    """Changes before, while the watcher is away, and after are told once each; Ctrl-C then ends it with 130."""
    node = start_node()
    # The watcher comes back to the port it knows.
    node.settings["OSC_HOST_PORT"] = str(node.port)
    with watching(node, tmp_path / "w", "--json", "--values", "-e", "prod") as watched:
        put(node, "k", "before")
        wait_until(lambda: watched.lines, what="a change to be told")
        node.restart()
        put(node, "k", "meanwhile")
        put(node, "other", "x", "dev")
        wait_until(lambda: len(watched.lines) > 1, what="what it missed")
        put(node, "k", "after")
        wait_until(lambda: len(watched.lines) > 2, what="the end")
        told = watched.documents
        assert "waiting for it to go on" in watched.errors
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(PATIENCE) == 130
        assert "Traceback" not in watched.errors
    assert [(each["value"], each["version"]) for each in told] == [
        ("before", 1),
        ("meanwhile", 2),
        ("after", 3),
    ]
    assert list(told[0]) == [
        *("event", "position", "key", "environment", "category"),
        *("version", "timestamp", "node_id", "value"),
    ]


def test_a_watch_begins_where_it_is_told(shared_node: RunningNode, tmp_path: Path) -> None:
    """From a position it tells what came after; with a snapshot first what stands, then that it is complete."""
    position = put(shared_node, "from/a", "1", "w")
    put(shared_node, "from/a", "2", "w")
    with watching(shared_node, tmp_path / "from", "from/a", "--json", "--from", position) as watched:
        wait_until(lambda: watched.lines, what="what came after")
        assert [(each["event"], each["version"]) for each in watched.documents] == [("updated", 2)]
        assert "value" not in watched.documents[0]
    with watching(shared_node, tmp_path / "snapshot", "-e", "w", "--snapshot", "--json") as watched:
        wait_until(lambda: len(watched.lines) == 2, what="the snapshot")
        assert [each["event"] for each in watched.documents] == ["snapshot", "bookmark"]
        assert watched.documents[1]["position"]


def test_a_watch_ends_when_nobody_reads(start_node: StartNode) -> None:
    """Whoever closes the pipe has enough: it ends with 0 and without a word, even where nothing changes any more."""
    node = start_node(OSC_SSE_KEEPALIVE_INTERVAL="0.2")
    put(node, "a", "1")
    done = subprocess.run(
        ["bash", "-c", '"$0" -m oscd watch --snapshot | head -1; exit "${PIPESTATUS[0]}"', sys.executable],
        env=caller(node),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\tsnapshot\ta\tprod\t" in done.stdout


def test_what_cannot_be_written_is_a_failure(shared_node: RunningNode) -> None:
    """A full disk behind standard output is a sentence and status 1, not a value cut short in silence."""
    put(shared_node, "full", "v")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("get", "full", "-e", "prod"),
            env=caller(shared_node),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"oscd: No space left on device\n")


def test_no_key_is_in_the_arguments_or_the_output(shared_node: RunningNode, tmp_path: Path) -> None:
    """While a command runs `ps` shows what was typed, and neither the user key nor a value from standard input."""
    with watching(shared_node, tmp_path / "w", "--values") as watched:
        arguments = command_line(watched.process.pid)
        assert b"watch" in arguments
        assert USER_KEY.encode() not in arguments
        put(shared_node, "ps", "v")
        wait_until(lambda: watched.lines, what="a change")
        assert USER_KEY not in "".join(watched.lines) + watched.errors


def test_a_node_passes_no_user_key_on(start_node: StartNode) -> None:
    """A user key in the shell that started a node does not reach its workers, and nobody is warned of it."""
    node = start_node(OSC_USER_KEY="left-in-the-shell", OSC_URL="http://127.0.0.1:9", OSC_ACTOR="ann")
    for pid in node.worker_pids():
        assert b"left-in-the-shell" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "is not a setting" not in node.output


def on_terminal(node: RunningNode, *arguments: str, **more: str) -> AbstractContextManager[Terminal]:
    """A command of somebody at a terminal."""
    return terminal(command(*arguments), caller(node, {"TERM": "xterm", **more}))


@pytest.mark.parametrize("no_colour", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_person_is_asked_and_sees_colours(shared_node: RunningNode, no_colour: dict[str, str]) -> None:
    """A value typed is not shown; a rollback shows what would change and asks; no means no, and so does Ctrl-C."""
    key = f"typed/{len(no_colour)}{''.join(no_colour)}"
    with on_terminal(shared_node, "set", key, "-e", "prod") as typed:
        typed.await_text("Value: ")
        typed.type("s3cret-typed\n")
        typed.await_text("Again: ")
        typed.type("s3cret-typed\n")
        assert typed.end() == 0
        assert "s3cret-typed" not in typed.shown
    put(shared_node, key, "second")
    rollback = ["rollback", key, "-e", "prod", "--to", "1"]
    with on_terminal(shared_node, *rollback, **no_colour) as asked:
        asked.await_text("Roll back? [y/N]: ")
        asked.type("n\n")
        assert asked.end() == 1
        assert "-second" in asked.shown
        assert "+s3cret-typed" in asked.shown
        assert ("\x1b[" in asked.shown) == (not no_colour)
    with on_terminal(shared_node, *rollback, **no_colour) as interrupted:
        interrupted.await_text("Roll back? [y/N]: ")
        assert interrupted.interrupt() == 130
    with on_terminal(shared_node, "get", key, "-e", "prod") as told:
        assert told.end() == 0
        assert told.shown.strip() == "second"


def test_a_list_on_a_terminal_has_heads(shared_node: RunningNode) -> None:
    """Columns are aligned under their heads, and a value cannot move the cursor."""
    put(shared_node, "heads/a", "\x1b[2J\x9b2J")
    with on_terminal(shared_node, "ls", "heads/", "--values", NO_COLOR="1") as listed:
        assert listed.end() == 0
        head, line = listed.shown.splitlines()
    assert head.split() == ["KEY", "ENVIRONMENT", "CATEGORY", "VERSION", "UPDATED"]
    assert head.index("ENVIRONMENT") == line.index("prod")
    assert not {"\x1b", "\x9b"} & {*listed.shown}


def test_a_value_on_a_terminal_is_spelled_out(shared_node: RunningNode) -> None:
    """What `get` prints for a person gives no order to the terminal; for a pipe it is the value."""
    value = "a\tb\nc\x1b]0;title\x07\x9b2J\u202e"
    put(shared_node, "orders", value)
    with on_terminal(shared_node, "get", "orders", "-e", "prod") as told:
        assert told.end() == 0
        assert told.shown.splitlines() == ["a\tb", r"c\x1b]0;title\x07\x9b2J\u202e"]
    assert call(shared_node, "get", "orders", "-e", "prod").stdout == value + "\n"
