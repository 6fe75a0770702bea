"""`oscd export` and `oscd import`: what goes out comes in again, and nothing is written that was not shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.calling import call
from tests.support.node import OTHER_USER_KEY, RunningNode

ENTRIES = [
    ("app/host", "db", "localhost"),
    ("app/port", "db", 5432),
    ("app/motd", None, "it's $(touch ran)\n`touch ran` \\ \u00e9"),
    ("app/options", None, {"retry": [1, 2.5, True, None]}),
    ("other", "x", "no"),
]


@pytest.fixture
def fill(shared_node: RunningNode) -> Callable[[str], None]:
    """Fill an environment with `ENTRIES`."""

    def fill(environment: str) -> None:
        with shared_node.client() as http:
            for key, category, value in ENTRIES:
                body = {"key": key, "environment": environment, "category": category, "value": value}
                http.post("/configs", json=body).raise_for_status()

    return fill


def held(node: RunningNode, environment: str) -> list[tuple[str, str | None, str]]:
    with node.client() as http:
        found = http.get("/configs", params={"environment": environment, "mode": "full"}).json()
    return [(entry["key"], entry["category"], json.dumps(entry["value"])) for entry in found]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_an_export_imports_as_it_was(
    shared_node: RunningNode, fill: Callable[[str], None], tmp_path: Path, form: str
) -> None:
    """Key, category and value of every entry come back in another environment; the file is private."""
    fill(f"from-{form}")
    path = tmp_path / f"all.{form}"
    done = call(shared_node, "export", "-e", f"from-{form}", "-o", str(path), "--metadata")
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    done = call(shared_node, "import", str(path), "-e", f"to-{form}", "--yes")
    assert done.returncode == 0, done.stderr
    assert held(shared_node, f"to-{form}") == held(shared_node, f"from-{form}")
    again = call(shared_node, "import", str(path), "-e", f"to-{form}", "--yes")
    assert again.stdout == "Created 0, changed 0; 5 unchanged.\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_an_exported_env_file_is_sourced(
    shared_node: RunningNode, fill: Callable[[str], None], tmp_path: Path, shell: str
) -> None:
    """A shell sets what was selected, as `exec` would, and runs nothing."""
    fill(f"env-{shell}")
    path = tmp_path / "app.env"
    done = call(shared_node, "export", "-e", f"env-{shell}", "--prefix", "app/", "-o", str(path))
    assert done.returncode == 0, done.stderr
    show = '. ./app.env; printf "%s|" "$HOST" "$PORT" "$MOTD" "$OPTIONS" "${OTHER-unset}"'
    shown = subprocess.run(
        [shell, "-c", show], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    motd = ENTRIES[2][2]
    assert shown.stdout == f'localhost|5432|{motd}|{{"retry":[1,2.5,true,null]}}|unset|'
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.env"]


def test_an_env_file_that_was_edited_changes_its_entries(
    shared_node: RunningNode, fill: Callable[[str], None], tmp_path: Path
) -> None:
    """Names lead back to the keys they came from; a number stays one; what was not edited is unchanged."""
    fill("edited")
    path = tmp_path / "app.env"
    call(shared_node, "export", "-e", "edited", "--prefix", "app/", "-o", str(path))
    path.write_text(path.read_text().replace("5432", "5433") + "NEW=1\n")
    arguments = ["import", str(path), "-e", "edited", "--prefix", "app/", "--overwrite", "--yes"]
    done = call(shared_node, *arguments)
    assert done.stdout == "~ edited app/port\n+ edited app/NEW\nCreated 1, changed 1; 3 unchanged.\n"
    assert ("app/port", "db", "5433") in held(shared_node, "edited")
    assert ("app/NEW", None, '"1"') in held(shared_node, "edited")


def test_a_dry_run_shows_and_changes_nothing(
    shared_node: RunningNode, fill: Callable[[str], None], tmp_path: Path
) -> None:
    """What would be created and changed is shown; values only on request; nothing is written."""
    fill("dry")
    path = tmp_path / "x.yaml"
    path.write_text("app:\n  host: s3cret\n  port: 5432\nnew: 1\n")
    before = held(shared_node, "dry")
    plain = call(shared_node, "import", str(path), "-e", "dry", "--overwrite", "--dry-run")
    assert plain.stdout == "~ dry app/host\n+ dry new\nWould create 1, change 1; 1 unchanged.\n"
    shown = call(shared_node, "import", str(path), "-e", "dry", "--overwrite", "--dry-run", "--values")
    assert '~ dry app/host: "localhost" -> "s3cret"' in shown.stdout
    kept = call(shared_node, "import", str(path), "-e", "dry", "--dry-run")
    assert kept.stdout.startswith("! dry app/host\n")
    assert "1 kept (--overwrite changes them)" in kept.stdout
    assert held(shared_node, "dry") == before


def test_without_a_terminal_nothing_is_imported_unasked(shared_node: RunningNode, tmp_path: Path) -> None:
    """Neither --yes nor somebody to ask: the refusal names the options, and nothing is written."""
    (tmp_path / "x.json").write_text('{"a": 1}')
    done = call(shared_node, "import", "x.json", "-e", "unasked", directory=tmp_path)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert held(shared_node, "unasked") == []


def test_an_entry_of_another_key_stops_all(shared_node: RunningNode, tmp_path: Path) -> None:
    """It is named before anything is written; machines get the node's refusal."""
    with shared_node.client(OTHER_USER_KEY) as http:
        http.post("/configs", json={"key": "b", "environment": "foreign", "value": 1}).raise_for_status()
    (tmp_path / "x.json").write_text('{"a": 1, "b": 2}')
    done = call(shared_node, "import", str(tmp_path / "x.json"), "-e", "foreign", "--yes", "--json")
    assert done.returncode == 4
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "not_authorized"
    assert "'b' in 'foreign'" in error["detail"]
    assert held(shared_node, "foreign") == []


def test_a_report_for_machines(shared_node: RunningNode) -> None:
    """One JSON object says what was planned and what was done; standard input is read as a file."""
    given = '[{"key": "a", "environment": "machine", "value": 1}]'
    done = call(shared_node, "import", "-", "--format", "json", "--yes", "--json", given=given)
    name = {"environment": "machine", "key": "a"}
    assert json.loads(done.stdout) == {
        "dry_run": False,
        "planned": {"created": [name], "changed": [], "kept": [], "unchanged": []},
        "applied": [name],
        "failed": None,
        "not_tried": [],
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "--format", "env"], "--environment"),
        (["export", "-e", "guarded", "--format", "env"], "--allow LD_PRELOAD"),
        (["import", "-", "--user-key-file", "-"], "both the user key and the entries"),
        (["import", "missing.json"], "No such file"),
        (["import", "x.unknown"], "--format"),
        (["import", "x.env"], "--environment"),
        (["import", "bad.yaml", "-e", "x"], "bad.yaml: line 1"),
        (["import", "latin.json", "-e", "x"], "not UTF-8"),
    ],
    ids=range(8),
)
def test_what_cannot_be_used_is_refused(
    shared_node: RunningNode, tmp_path: Path, arguments: list[str], told: str
) -> None:
    """In one line that says what would be right, with the status of wrong usage."""
    with shared_node.client() as http:
        http.post("/configs", json={"key": "ld/preload", "environment": "guarded", "value": "s3cret"})
    for name in ("x.unknown", "x.env"):
        (tmp_path / name).write_text("A=1\n")
    (tmp_path / "bad.yaml").write_text("a: *s3cret\n")
    (tmp_path / "latin.json").write_bytes(b'{"a": "s3cret\xe9"}')
    done = call(shared_node, *arguments, directory=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "s3cret" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_existing_file_is_kept(shared_node: RunningNode, tmp_path: Path) -> None:
    """An export replaces it only with --force; - is standard output, and no file."""
    path = tmp_path / "x.json"
    path.write_text("mine")
    assert call(shared_node, "export", "-e", "none", "-o", str(path)).returncode == 2
    assert path.read_text() == "mine"
    assert call(shared_node, "export", "-e", "none", "-o", str(path), "--force").returncode == 0
    assert path.read_text() == "[]\n"
    shown = call(shared_node, "export", "-e", "none", "-o", "-", directory=tmp_path)
    assert (shown.stdout, [file.name for file in tmp_path.iterdir()]) == ("[]\n", ["x.json"])


def test_an_export_of_the_past(shared_node: RunningNode) -> None:
    """`--at` a position gives the entries as they stood then."""
    with shared_node.client() as http:
        made = http.post("/configs", json={"key": "a", "environment": "past", "value": "old"})
        http.put("/configs/a", params={"environment": "past"}, json={"value": "new"}).raise_for_status()
    done = call(
        shared_node, "export", "-e", "past", "--at", made.headers["X-OSC-Position"], "--format", "env"
    )
    assert done.stdout == "A=old\n", done.stderr
