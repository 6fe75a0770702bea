"""How commands end: statuses that scripts go by, errors for people and machines, and help that says so."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from oscd.cli.main import commands
from oscd.cli.outcome import EXIT_STATUS
from oscd.cli.sections import CALL
from tests.cli.calling import caller, command
from tests.cli.conftest import Run
from tests.support.node import USER_KEY, RunningNode, run_oscd
from tests.support.waiting import PATIENCE

COMMANDS = sorted(commands.commands)


def test_nobody_there_is_status_6(oscd: Run) -> None:
    """A port where nobody listens is told with its address and the variable to change."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    done = oscd("get", "a", "-e", "prod", OSC_URL=url, fails=True)
    assert done.status == 6
    assert done.errors.startswith(f"oscd: {url}: ")
    assert "OSC_URL" in done.errors
    assert oscd("get", "a", "-e", "prod", "--json", OSC_URL=url, fails=True).error["kind"] == "unreachable"


def test_keys_are_kept_back_before_a_byte_is_sent(oscd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http to another machine nothing is even looked up; `--insecure` would try."""

    def connect(*_arguments: object, **_options: object) -> None:
        raise AssertionError("somebody was called")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    done = oscd("get", "a", "-e", "prod", OSC_URL="http://config.example:9000", fails=True)
    assert done.status == 2
    assert "--insecure" in done.errors
    with pytest.raises(AssertionError, match="somebody was called"):
        oscd("get", "a", "-e", "prod", "--insecure", OSC_URL="http://config.example:9000")


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "--json"],
        ["get", "a", "-e", "prod", "--json", "--nonsense"],
        ["nonsense", "--json"],
        ["history", "a", "-e", "e", "-n", "0", "--json"],
    ],
)
def test_wrong_usage_is_json_too(arguments: list[str], shared_node: RunningNode) -> None:
    """What click refuses is an object for machines, and its status stays 2."""
    done = run_oscd(*arguments, directory=shared_node.directory)
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["kind"] == "usage"
    assert not done.stdout


def test_wrong_usage_is_a_sentence_for_people(shared_node: RunningNode) -> None:
    """Without `--json`, or with one that belongs to another program, it is click's own."""
    for arguments in (["get"], ["get", "--", "--json"]):
        done = run_oscd(*arguments, directory=shared_node.directory)
        assert done.returncode == 2
        assert "Usage: oscd get" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_no_key(name: str, oscd: Run) -> None:
    """Every command shows one line to copy; whatever the environment holds, help shows none of it."""
    done = oscd(name, "--help", OSC_API_KEY="an-api-key-for-tests")
    text = " ".join(done.output.split())
    assert text.count("Example: ") == 1
    assert USER_KEY not in done.output
    assert "an-api-key-for-tests" not in done.output


def test_help_lists_every_command_once_under_a_head(oscd: Run) -> None:
    """What can be typed is found in `oscd --help`; those that ask a node say how they end."""
    text = oscd("--help").output
    for name in COMMANDS:
        assert text.count(f"\n  {name} ") == 1, name
    assert text.index(CALL) < text.index("\n  get ") < text.index("\n  serve ")
    for name in ("get", "set", "ls", "rm", "history", "diff", "rollback", "watch"):
        assert commands.commands[name].epilog == EXIT_STATUS


def test_no_option_takes_a_key() -> None:
    """A key on a command line is seen by everybody on the machine: there is only the name of a file."""
    for each in commands.commands.values():
        for parameter in each.params:
            if isinstance(parameter, click.Option):
                for option in parameter.opts:
                    assert not option.endswith(("user-key", "api-key", "password")), (each.name, option)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell: str, oscd: Run) -> None:
    """The script defines a completion of `oscd` and asks it by the variable click listens to."""
    script = oscd("completion", shell).output
    assert f"_OSCD_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(("arguments", "status"), [(["get", "none", "-e", "prod"], 3), (["get"], 2)])
def test_an_error_that_nobody_reads_keeps_its_status(
    shared_node: RunningNode, arguments: list[str], status: int
) -> None:
    """Where standard error cannot be written to, the exit status still says what was wrong."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*arguments), env=caller(shared_node), stderr=full, timeout=PATIENCE, check=False
        )
    assert done.returncode == status


@pytest.mark.parametrize(
    "before", [["import"], ["export", "-o"], ["get", "--user-key-file"], ["set", "k", "--file"]], ids=" ".join
)
def test_names_of_files_are_completed(before: list[str]) -> None:
    """The shell is told that a file is meant."""
    complete = ShellComplete(commands, {}, "oscd", "_OSCD_COMPLETE")
    assert [item.type for item in complete.get_completions(before, "k")] == ["file"]


def test_completion_knows_commands(oscd: Run) -> None:
    """What the script asks is answered: `oscd his` is the beginning of history."""
    complete = ShellComplete(commands, {}, "oscd", "_OSCD_COMPLETE")
    assert [item.value for item in complete.get_completions([], "his")] == ["history"]
    assert oscd("completion", "powershell", fails=True).status == 2
