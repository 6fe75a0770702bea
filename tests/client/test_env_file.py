"""`.env` files: whatever a value holds, a shell that sources one runs nothing, and every reader reads it back."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscd.client.env_file import only_for_shells, parsed, quoted, written
from oscd.client.errors import UsageRefused
from oscd.client.guarded import why_guarded
from oscd.client.variables import NAME, Variable

SHELLS = [["sh"], ["dash"], ["bash"], ["bash", "--posix"]]

_SPECIAL = [
    *"'\"\\$`!\n\r\t\v\f #=;&|(){}[]<>*?~^%@-a\x01\x7f\x81\x88é\u0101\u2028\U0001f600",
    "${PATH}",
    "\\'",
    "\\\\",
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(_SPECIAL), st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    max_size=12,
).map("".join)

HOSTILE = [
    "$(touch ran)",
    "`touch ran`",
    "'; touch ran; '",
    "'\ntouch ran\n'",
    '"; touch ran; "',
    "\\'; touch ran; #",
    "'\\''; touch ran; '",
    "\n. ./evil\n",
    "${x:=$(touch ran)}",
    "$((a[$(touch ran)]))",
    "() { :; }; touch ran",
    "\\\n'; touch ran",
    "é'; touch ran; '",
    "\\",
    "\\\\$x'",
    "!!",
    "",
    " ",
    "\n",
    "~",
    "a=b",
    "=ls",
    "a:=ls",
    'it\'s "both" and `$HOME`',
]


def variables_of(texts: Sequence[str]) -> list[Variable]:
    return [Variable(f"V{number}", text, f"v/{number}") for number, text in enumerate(texts)]


def sourced(shell: Sequence[str], content: str, locale: str = "C") -> tuple[dict[str, bytes], list[str]]:
    """What a shell that exports all it sets has set after sourcing a file, and which files it made."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        (path / "given.env").write_bytes(content.encode())
        done = subprocess.run(
            [*shell, "-c", f"set -aeu; . ./given.env; exec {shutil.which('env')} -0"],
            cwd=path,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": locale},
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == b""
        made = sorted(entry.name for entry in path.iterdir() if entry.name != "given.env")
    pairs = [entry.partition(b"=") for entry in done.stdout.split(b"\0") if entry.startswith(b"V")]
    return {name.decode(): text for name, _, text in pairs}, made


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_sourcing_hostile_values_runs_nothing(shell: list[str]) -> None:
    """Each hostile value is set byte for byte, and none of the commands in it makes its file."""
    variables = variables_of(HOSTILE)
    found, made = sourced(shell, written(variables))
    assert found == {variable.name: variable.text.encode() for variable in variables}
    assert made == []


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_a_shell_reads_back_every_value(shell: list[str], texts: list[str]) -> None:
    """What a shell has set after sourcing the file is what was written into it, byte for byte."""
    variables = variables_of(texts)
    found, made = sourced(shell, written(variables))
    assert found == {variable.name: variable.text.encode() for variable in variables}
    assert made == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, max_size=8))
def test_the_file_is_read_back(texts: list[str]) -> None:
    """Reading what was written gives the same variables, those for shells only too."""
    variables = variables_of(texts)
    assert parsed(written(variables)) == {variable.name: variable.text for variable in variables}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, max_size=8))
def test_python_dotenv_reads_all_but_those_for_shells(texts: list[str]) -> None:
    """python-dotenv reads each variable alike, except where the file says that only a shell can."""
    every = variables_of(texts)
    excluded = only_for_shells(every)
    others = [variable for variable in every if variable not in excluded]
    read = dotenv_values(stream=io.StringIO(written(others)), interpolate=False)
    assert read == {variable.name: variable.text for variable in others}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_python_dotenv_misreads_none(text: str) -> None:
    """What only a shell can read, python-dotenv does not take for another value: the name stays unset."""
    (variable,) = variables_of([text])
    read = dotenv_values(stream=io.StringIO(written([variable])), interpolate=False)
    assert read.get(variable.name) in {None, text}


# What the manuals of sh, bash, dash, ksh93, mksh and zsh say is a number or an array of theirs.
ARITHMETIC = (
    "ARGC BASHPID BASH_ARGC BASH_ARGV BASH_LINENO BASH_SUBSHELL COLUMNS DIRSTACK DIRSTACKSIZE EGID EPOCHREALTIME "
    "EPOCHSECONDS ERRNO EUID FUNCNAME FUNCNEST GID GROUPS HISTCMD HISTFILESIZE HISTSIZE KEYTIMEOUT KSHEGID KSHGID "
    "KSHUID KSH_VERSION LINENO LINES LISTMAX LOGCHECK MAILCHECK OPTERR OPTIND PGRP PIPESTATUS PPID PROMPT_DIRTRIM "
    "RANDOM SAVEHIST SECONDS SHLVL SRANDOM TMOUT TTYIDLE UID USER_ID"
)
FOUND = [shell for shell in ("sh", "dash", "bash", "mksh", "ksh", "zsh") if shutil.which(shell)]


def test_shells_are_there_to_be_asked() -> None:
    """At least the two that every machine with a service has."""
    assert {"sh", "bash"} <= set(FOUND)


@pytest.mark.parametrize("shell", FOUND)
def test_no_shell_runs_what_an_entry_may_set(shell: str, tmp_path: Path) -> None:
    """A name whose value this shell evaluates is guarded, be it in a manual or among those that the shell has set."""
    own = subprocess.run([shell, "-c", "set"], capture_output=True, text=True, timeout=60, check=True).stdout
    names = set(ARITHMETIC.split()) | {line.partition("=")[0] for line in own.splitlines() if "=" in line}
    dangerous = [name for name in sorted(names) if NAME.fullmatch(name) and _runs(shell, name, tmp_path)]
    assert [name for name in dangerous if why_guarded(name) is None] == []


@pytest.mark.parametrize("name", ARITHMETIC.split())
def test_what_any_shell_evaluates_is_guarded(name: str) -> None:
    """Whichever shells there are here."""
    assert why_guarded(name) == "what a shell does"


def test_a_shell_does_evaluate_what_it_is_given(tmp_path: Path) -> None:
    """Bash runs the command in the subscript of a number: what the tests above look for does happen."""
    assert _runs("bash", "OPTIND", tmp_path) or _runs("bash", "RANDOM", tmp_path)


def _runs(shell: str, name: str, directory: Path) -> bool:
    """Whether sourcing a file that sets the name runs a command in its value."""
    (directory / "given.env").write_text(written([Variable(name, "a[$(touch ran)]", "k")]))
    sourcing = [shell, "-c", ". ./given.env"]
    subprocess.run(sourcing, cwd=directory, capture_output=True, timeout=60, check=False)
    ran = (directory / "ran").exists()
    (directory / "ran").unlink(missing_ok=True)
    return ran


def test_plain_values_stay_bare() -> None:
    """Parsers that know no quotes read what needs none."""
    assert quoted("postgres://db.example.com:5432/app?x=1") == "'postgres://db.example.com:5432/app?x=1'"
    assert quoted("=ls") == "'=ls'"
    assert quoted("a:=ls") == "'a:=ls'"
    assert quoted("db.example.com:5432") == "db.example.com:5432"


def test_what_people_write_is_read() -> None:
    """Comments, `export`, blanks, quotes and escapes are read as python-dotenv reads them; nothing is expanded."""
    content = "\ufeff# first\n\nexport A = 1\nB='x y' # why\r\nC=\"a\\nb\"\nD=\nE=${HOME}\n  F=last"
    assert parsed(content) == {"A": "1", "B": "x y", "C": "a\nb", "D": "", "E": "${HOME}", "F": "last"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("A=1\n\nB='open\n", "line 3: accepted is NAME=value"),
        ("A=1\nA=2\n", "line 2: A is set twice"),
        ("A=1\nB\n", "line 2: accepted is NAME=value"),
        ("A=1\n\n# x\n7A=1\n", "accepted as a name"),
        ("A=\"\"'s3cret'\\''x\n'\nA=2\n", "line 3: A is set twice"),
    ],
)
def test_what_is_no_line_is_refused(content: str, told: str) -> None:
    """A line that cannot be read is named by its number; what is in it is not repeated."""
    with pytest.raises(UsageRefused, match=told) as caught:
        parsed(content)
    assert "s3cret" not in str(caught.value)
