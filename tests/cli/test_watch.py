"""`watch` and a terminal: commands as processes, where signals, pipes and restarts matter."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartNode
from tests.support.node import USER_KEY, RunningNode, command_line, run_oscd
from tests.support.waiting import PATIENCE, wait_until


def caller(node: RunningNode, **more: str) -> dict[str, str]:
    """The environment of somebody who calls a node."""
    return {"OSC_URL": node.base_url, "OSC_USER_KEY": USER_KEY, "PYTHONUNBUFFERED": "1"} | more


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That, in the environment of the tests."""
    return {name: text for name, text in os.environ.items() if not name.startswith("OSC_")} | dict(variables)


def put(node: RunningNode, *arguments: str) -> None:
    """Set an entry, by a process of its own."""
    done = run_oscd("set", *arguments, directory=node.directory, settings=caller(node))
    assert done.returncode == 0, done.stderr


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
    with output.open("wb") as printed, output.with_suffix(".errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "oscd", "watch", *arguments],
            env=environment(caller(node)),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=errors,
            cwd=node.directory,
        )
    try:
        with node.client() as client:
            wait_until(
                lambda: client.get("/sse/health").json()["active_subscriptions"] > 0,
                what="the stream to begin",
            )
        yield Watching(process, output)
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_a_watch_survives_a_restart_without_gap_or_repeat(start_node: StartNode, tmp_path: Path) -> None:
    """Changes before, while the watcher is away, and after are told once each; Ctrl-C then ends it with 130."""
    node = start_node()
    # The watcher comes back to the port it knows.
    node.settings["OSC_HOST_PORT"] = str(node.port)
    with watching(node, tmp_path / "w", "--json", "--values", "-e", "prod") as watched:
        put(node, "k", "before", "-e", "prod")
        wait_until(lambda: watched.lines, what="a change to be told")
        node.restart()
        put(node, "k", "meanwhile", "-e", "prod")
        put(node, "other", "x", "-e", "dev")
        wait_until(lambda: len(watched.lines) > 1, what="what it missed")
        put(node, "k", "after", "-e", "prod")
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
    put(shared_node, "from/a", "1", "-e", "w")
    history = run_oscd(
        "history",
        "from/a",
        "-e",
        "w",
        "--json",
        directory=shared_node.directory,
        settings=caller(shared_node),
    )
    position = json.loads(history.stdout)["position"]
    put(shared_node, "from/a", "2", "-e", "w")
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
    put(node, "a", "1", "-e", "prod")
    done = subprocess.run(
        ["bash", "-c", '"$0" -m oscd watch --snapshot | head -1; exit "${PIPESTATUS[0]}"', sys.executable],
        env=environment(caller(node)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\tsnapshot\ta\tprod\t" in done.stdout


def test_what_cannot_be_written_is_a_failure(shared_node: RunningNode) -> None:
    """A full disk behind standard output is a sentence and status 1, not a value cut short in silence."""
    put(shared_node, "full", "v", "-e", "prod")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "oscd", "get", "full", "-e", "prod"],
            env=environment(caller(shared_node)),
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
        put(shared_node, "ps", "v", "-e", "prod")
        wait_until(lambda: watched.lines, what="a change")
        assert USER_KEY not in "".join(watched.lines) + watched.errors


def test_a_node_passes_no_user_key_on(start_node: StartNode) -> None:
    """A user key in the shell that started a node does not reach its workers, and nobody is warned of it."""
    node = start_node(OSC_USER_KEY="left-in-the-shell", OSC_URL="http://127.0.0.1:9", OSC_ACTOR="ann")
    for pid in node.worker_pids():
        assert b"left-in-the-shell" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "is not a setting" not in node.output


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, node: RunningNode, *arguments: str, **more: str) -> None:
        variables = environment(caller(node, **{"TERM": "xterm"} | more))
        self._pid, self._descriptor = pty.fork()
        if self._pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "oscd", *arguments], variables)  # noqa: S606
        self.shown = ""

    def until(self, text: str) -> None:
        """Read until a text is shown."""
        while text not in self.shown:
            part = self._read()
            assert part, f"ended before {text!r}: {self.shown!r}"

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C, again where nothing comes of it, and give the exit status.

        A signal that comes between Python's last look at its flags and the system call that waits for a line is
        noticed with the next one only; a person presses again, too.
        """
        while True:
            with suppress(OSError):
                os.write(self._descriptor, b"\x03")
            while select.select([self._descriptor], [], [], 0.5)[0]:
                if not self._read():
                    return self.end()

    def end(self) -> int:
        """Read to the end and give the exit status."""
        while self._read():
            pass
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self) -> str:
        try:
            part = os.read(self._descriptor, 4096).decode(errors="replace")
        except OSError:  # Linux: the other side of the terminal is closed.
            return ""
        self.shown += part
        return part


@pytest.mark.parametrize("no_colour", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_person_is_asked_and_sees_colours(shared_node: RunningNode, no_colour: dict[str, str]) -> None:
    """A value typed is not shown; a rollback shows what would change and asks; no means no, and so does Ctrl-C."""
    key = f"typed/{len(no_colour)}{''.join(no_colour)}"
    typed = Terminal(shared_node, "set", key, "-e", "prod")
    typed.until("Value: ")
    typed.type("s3cret-typed\n")
    typed.until("Again: ")
    typed.type("s3cret-typed\n")
    assert typed.end() == 0
    assert "s3cret-typed" not in typed.shown
    put(shared_node, key, "second", "-e", "prod")
    asked = Terminal(shared_node, "rollback", key, "-e", "prod", "--to", "1", **no_colour)
    asked.until("Roll back? [y/N]: ")
    asked.type("n\n")
    assert asked.end() == 1
    assert "-second" in asked.shown
    assert "+s3cret-typed" in asked.shown
    assert ("\x1b[" in asked.shown) == (not no_colour)
    interrupted = Terminal(shared_node, "rollback", key, "-e", "prod", "--to", "1", **no_colour)
    interrupted.until("Roll back? [y/N]: ")
    assert interrupted.interrupt() == 130
    told = Terminal(shared_node, "get", key, "-e", "prod")
    assert told.end() == 0
    assert told.shown.strip() == "second"


def test_a_list_on_a_terminal_has_heads(shared_node: RunningNode) -> None:
    """Columns are aligned under their heads, and a value cannot move the cursor."""
    put(shared_node, "heads/a", "\x1b[2J\x9b2J", "-e", "prod")
    shown = Terminal(shared_node, "ls", "heads/", "--values", NO_COLOR="1")
    assert shown.end() == 0
    head, line = shown.shown.splitlines()
    assert head.split() == ["KEY", "ENVIRONMENT", "CATEGORY", "VERSION", "UPDATED"]
    assert head.index("ENVIRONMENT") == line.index("prod")
    assert "\x1b" not in shown.shown
    assert "\x9b" not in shown.shown
