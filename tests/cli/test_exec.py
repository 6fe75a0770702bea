"""`oscd exec`: what a command gets, and that between it and whoever started it there seems to be nobody."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from oscd.cli.main import commands
from tests.cli.calling import SERVER, call, caller, command, started
from tests.support.node import USER_KEY, RunningNode, command_line
from tests.support.waiting import PATIENCE, wait_until

_numbers = itertools.count()
WATCH = pytest.mark.parametrize("watch", [[], ["--watch"]], ids=["plain", "watch"])


@dataclass(frozen=True, slots=True)
class Server:
    """`oscd exec` over `SERVER`."""

    process: subprocess.Popen[bytes]
    log: Path
    output: Path

    def lines(self, word: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split() for line in lines if line.startswith(word)]

    def marks(self) -> list[str]:
        """The value of MARK at each start."""
        return [line[2] for line in self.lines("start")]

    def pid(self) -> int:
        return int(self.lines("start")[-1][1])

    def await_mark(self, mark: str) -> None:
        wait_until(lambda: self.marks()[-1:] == [mark], what=f"a start with {mark}")

    def await_line(self, line: str) -> None:
        wait_until(lambda: line.split() in self.lines(line.split()[0]), what=line)

    def said(self) -> str:
        return self.output.read_text()


@dataclass(frozen=True, slots=True)
class Place:
    """An environment of one test alone, on a node."""

    node: RunningNode
    name: str
    http: httpx.Client

    def put(self, key: str, value: object) -> None:
        self.http.put(
            f"/configs/{key}",
            params={"environment": self.name},
            json={"value": value},
            headers={"If-Match": "*"},
        ).raise_for_status()

    def create(self, key: str, value: object, category: str | None = None) -> None:
        body = {"key": key, "environment": self.name, "value": value, "category": category}
        self.http.post("/configs", json=body).raise_for_status()

    def delete(self, key: str) -> None:
        self.http.delete(f"/configs/{key}", params={"environment": self.name}).raise_for_status()

    def exec(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return call(self.node, "exec", "-e", self.name, *arguments)

    @contextmanager
    def serve(self, directory: Path, *options: str, stubborn: bool = False) -> Iterator[Server]:
        """A watched server that has started."""
        log, output = directory / "log", directory / "output"
        child = [sys.executable, "-c", SERVER, str(log), *(["stubborn"] if stubborn else [])]
        arguments = command("exec", "-e", self.name, *options, "--", *child)
        with started(arguments, caller(self.node), output) as process:
            server = Server(process, log, output)
            try:
                wait_until(lambda: server.marks() or process.poll() is not None, what="the first start")
                assert process.poll() is None, server.said()
                yield server
            finally:
                for line in server.lines("start"):
                    with suppress(ProcessLookupError):
                        os.kill(int(line[1]), signal.SIGKILL)


def place_on(node: RunningNode) -> Place:
    return Place(node, f"exec-{next(_numbers)}", node.client())


@pytest.fixture
def place(shared_node: RunningNode) -> Iterator[Place]:
    place = place_on(shared_node)
    with place.http:
        yield place


@WATCH
def test_a_command_gets_the_entries_and_no_secret(place: Place, watch: list[str], tmp_path: Path) -> None:
    """Its environment holds each entry byte for byte, what was inherited, and nothing of oscd's own."""
    (tmp_path / "key").write_text(USER_KEY)
    value = "it's\n$(touch x) `y` \u00e9 \\"
    place.create("app/password", value)
    place.create("app/ports", {"http": [80, 8080]})
    secrets = {"OSC_API_KEY": "s3cret-api", "OSC_USER_KEY_FILE": "/s3cret-file", "OSC_ANYTHING": "s3cret"}
    secrets |= {"INHERITED": "yes"}
    options = ["--user-key-file", str(tmp_path / "key"), "--prefix", "app/", *watch]
    shown = ["--", "cat", "/proc/self/environ"]
    done = call(place.node, "exec", "-e", place.name, *options, *shown, more=secrets)
    assert done.returncode == 0, done.stderr
    found = dict(pair.partition("=")[::2] for pair in done.stdout.split("\0") if pair)
    assert found["PASSWORD"] == value
    assert found["PORTS"] == '{"http":[80,8080]}'
    assert found["INHERITED"] == "yes"
    assert not [name for name in found if name.startswith("OSC_")]
    assert "s3cret" not in done.stdout
    assert USER_KEY not in done.stdout


@WATCH
@pytest.mark.parametrize(
    ("argument", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)],
)
def test_the_end_of_a_command_passes_through(
    place: Place, watch: list[str], argument: str, status: int
) -> None:
    """An exit status is exec's own, and so is a death by a signal."""
    assert place.exec(*watch, "--", "sh", "-c", argument).returncode == status


@WATCH
@pytest.mark.parametrize(("name", "status"), [("no-such-command", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_a_command_that_cannot_be_run_is_told(place: Place, watch: list[str], name: str, status: int) -> None:
    """With the statuses a shell has for it, and one line."""
    done = place.exec(*watch, "--", name)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].startswith(f"oscd: {name}: ")


def test_without_watch_no_process_stays_between(place: Place, tmp_path: Path) -> None:
    """The command has the process id of exec, and its command line is all there is to see."""
    place.create("mark", "s3cret")
    with place.serve(tmp_path) as server:
        assert server.pid() == server.process.pid
        expected = [sys.executable, "-c", SERVER, str(server.log)]
        assert command_line(server.pid()) == b"".join(os.fsencode(argument) + b"\0" for argument in expected)


def test_a_watched_command_gets_signals(place: Place, tmp_path: Path) -> None:
    """Each that exec gets, the command gets once; exec ends when the command does."""
    place.create("status", 9)
    names = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"]
    with place.serve(tmp_path, "--watch") as server:
        for name in names:
            server.process.send_signal(getattr(signal, name))
            server.await_line(f"got {name}")
        assert server.process.wait(PATIENCE) == 9
        assert server.lines("got") == [["got", name] for name in names]
        assert len(server.marks()) == 1


@WATCH
def test_a_guarded_variable_stops_the_start(place: Place, watch: list[str]) -> None:
    """Exec names the key and the option and runs nothing; with the option it runs. (All names: see the client.)"""
    place.create("node-options", "--nowhere")
    refused = place.exec(*watch, "--", "/bin/echo", "ran")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'node-options'" in refused.stderr
    assert "--allow NODE_OPTIONS" in refused.stderr
    assert "nowhere" not in refused.stderr
    allowed = place.exec(*watch, "--allow", "NODE_OPTIONS", "--", "sh", "-c", "echo $NODE_OPTIONS")
    assert allowed.stdout == "--nowhere\n"


def test_an_environment_too_large_is_refused(place: Place) -> None:
    """Before the system says E2BIG, in a sentence that names the entry."""
    place.create("big", "x" * 200_000)
    done = place.exec("--", "/bin/echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'big' makes a variable of 200005 bytes" in done.stderr
    assert "xxx" not in done.stderr


def test_clean_hands_on_little(place: Place) -> None:
    """The entries and the search path, but nothing else of the caller's."""
    place.create("mark", "x")
    done = call(place.node, "exec", "-e", place.name, "--clean", "--", "env", more={"SOMETHING": "else"})
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert {"MARK", "PATH"} <= names
    assert not {"SOMETHING", "PYTHONPATH"} & names


def test_a_burst_of_changes_is_one_restart(place: Place, tmp_path: Path) -> None:
    """A hundred changes at once start the command once more, with the last of them; the next change does again."""
    place.create("mark", "first")
    with place.serve(tmp_path, "--watch") as server:
        # While exec is stopped the changes queue up in its stream, so they come as fast as can be.
        server.process.send_signal(signal.SIGSTOP)
        for number in range(100):
            place.put("mark", f"n{number}")
        server.process.send_signal(signal.SIGCONT)
        server.await_mark("n99")
        place.put("mark", "last")
        server.await_mark("last")
        assert server.marks() == ["first", "n99", "last"]
        assert server.process.poll() is None


@pytest.mark.parametrize(("options", "other"), [([], "caf\u00e9"), (["--category", "db"], "app/caf\u00e9")])
def test_a_change_of_other_entries_is_none(
    place: Place, tmp_path: Path, options: list[str], other: str
) -> None:
    """Neither those of another prefix nor those of another category are the command's; here they would be refused."""
    place.create("app/mark", "first", category="db")
    with place.serve(tmp_path, "--watch", "--prefix", "app/", *options) as server:
        place.create(other, "x")
        place.put("app/mark", "second")
        server.await_mark("second")
        assert server.marks() == ["first", "second"]
        assert "goes on as it is" not in server.said()


def test_a_refused_environment_leaves_the_command_alone(place: Place, tmp_path: Path) -> None:
    """It is told once, with the key and the option; the command goes on, and the next good one is taken."""
    place.create("mark", "first")
    with place.serve(tmp_path, "--watch") as server:
        place.create("ld/preload", "/nowhere")
        wait_until(lambda: "--allow LD_PRELOAD" in server.said(), what="the refusal")
        place.delete("ld/preload")
        place.put("mark", "second")
        server.await_mark("second")
        assert server.marks() == ["first", "second"]
        assert server.said().count("LD_PRELOAD") == 2  # both in one line
        assert "nowhere" not in server.said()


def test_a_stubborn_command_is_killed_at_a_restart(place: Place, tmp_path: Path) -> None:
    """One that does not end by SIGTERM is killed after the grace, and the new one starts."""
    place.create("mark", "first")
    with place.serve(tmp_path, "--watch", "--grace", "0.3", stubborn=True) as server:
        place.put("mark", "second")
        server.await_mark("second")
        assert server.lines("got") == [["got", "SIGTERM"]]


def test_who_asks_for_the_end_during_a_restart_gets_it(place: Place, tmp_path: Path) -> None:
    """A SIGTERM that comes while the old command is ending is not lost to the new one: none is started."""
    place.create("mark", "first")
    with place.serve(tmp_path, "--watch", "--grace", "3", stubborn=True) as server:
        place.put("mark", "second")
        server.await_line("got SIGTERM")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == -signal.SIGKILL
        assert server.marks() == ["first"]


def test_a_command_dies_with_exec(place: Place, tmp_path: Path) -> None:
    """Even when exec is killed outright."""
    with place.serve(tmp_path, "--watch", stubborn=True) as server:
        pid = server.pid()
        server.process.kill()
        wait_until(lambda: not _is_alive(pid), what="the end of the command")


def test_a_node_that_restarts_is_followed_again(
    start_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """While it is away the command goes on and one line says so; what changed meanwhile restarts it."""
    node = start_node()
    node.settings["OSC_HOST_PORT"] = str(node.port)
    before = place_on(node)
    with before.http:
        before.create("mark", "first")
    with before.serve(tmp_path, "--watch") as server:
        node.kill_all()
        wait_until(lambda: "goes on as it is" in server.said(), what="the line")
        node.restart()
        with node.client() as http:
            Place(node, before.name, http).put("mark", "second")
        server.await_mark("second")
        assert server.marks() == ["first", "second"]
        assert server.said().count("goes on as it is") == 1
        assert server.process.poll() is None


def test_an_unreachable_node_stops_the_start(shared_node: RunningNode) -> None:
    """Nothing is run, and the exit status is that of the client side."""
    away = {"OSC_URL": "http://127.0.0.1:1"}
    done = call(shared_node, "exec", "-e", "x", "--watch", "--", "echo", "ran", more=away)
    assert (done.returncode, done.stdout) == (6, "")


def test_help_has_an_example() -> None:
    """As every command's."""
    for name in ("exec", "export", "import"):
        assert (commands.commands[name].help or "").count("Example: oscd") == 1


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False
