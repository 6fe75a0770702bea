"""Coming from OpenSecureConf 3.x with the real command, a real node and the published client."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from opensecureconf_client import (  # type: ignore[import-untyped]
    AuthenticationError,
    ConfigurationNotFoundError,
    OpenSecureConfClient,
)

from tests.conftest import StartNode
from tests.support.node import OTHER_USER_KEY, USER_KEY, RunningNode, run_oscd
from tests.support.original import SALT, Stored, fernet, make_original, snapshot
from tests.support.waiting import PATIENCE, wait_until

ARGUMENTS = (
    "import-legacy",
    "--database",
    "../original/configurations.db",
    "--salt",
    "../original/encryption.salt",
)
HERE = {"OSC_DATABASE_PATH": "oscd.db"}

MANY = 6000
"""Rows of 4 KiB: several times the page cache of the log, so the transaction shows in the `-wal` while it runs."""

SPILLED = 4 * 1024 * 1024
"""Bytes of `-wal` that only the import's own transaction writes: making the tables takes some 100 KiB."""

ROWS = [
    Stored(3, "db/host", {"host": "db", "port": 5432}, USER_KEY, category="database"),
    Stored(
        8,
        "db/host",
        "stage",
        USER_KEY,
        "staging",
        created_at="2024-05-06 07:08:09",
        updated_at="2025-02-01 00:00:00.000009",
    ),
    Stored(5, "ünïcode 🔒", [1, None, 2.5], USER_KEY, updated_at="2025-03-01 00:00:00.000001"),
    Stored(6, "of another", 42, OTHER_USER_KEY, category=""),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the node will run: empty, beside a directory of the original."""
    make_original(tmp_path / "original", ROWS)
    directory = tmp_path / "node"
    directory.mkdir()
    return directory


def imported(directory: Path, *options: str) -> str:
    """Run the import to its good end and give what it said."""
    done = run_oscd(*ARGUMENTS, *options, directory=directory, settings=HERE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def node(directory: Path, start_node: StartNode) -> RunningNode:
    """A node that serves what was imported."""
    imported(directory)
    return start_node(directory=directory, OSC_WORKERS="2", **HERE)


@pytest.fixture
def client(node: RunningNode) -> Iterator[OpenSecureConfClient]:
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        yield client


def test_the_same_key_opens_the_same_entries(node: RunningNode, client: OpenSecureConfClient) -> None:
    """Values, ids, categories and environments are what the original's clients knew."""
    assert [entry["value"] for entry in client.list_all()] == [
        {"host": "db", "port": 5432},
        [1, None, 2.5],
        "stage",
    ]
    assert client.read("db/host", "production") == {
        "id": 3,
        "key": "db/host",
        "category": "database",
        "environment": "production",
        "value": {"host": "db", "port": 5432},
    }
    with node.client() as plain:
        full = plain.get("/configs/db/host", params={"environment": "staging", "mode": "full"}).json()
        assert plain.get("/stats").json()["total_keys"] == len(ROWS)
    assert (full["id"], full["version"]) == (8, 1)
    assert full["created_at"] == "2024-05-06T07:08:09.000000Z"
    assert full["updated_at"] == "2025-02-01T00:00:00.000009Z"


def test_another_key_opens_nothing_and_changes_nothing(node: RunningNode) -> None:
    """Imported entries belong to the key that sealed them in the original."""
    with OpenSecureConfClient(node.base_url, OTHER_USER_KEY) as stranger:
        assert [entry["key"] for entry in stranger.list_all()] == ["of another"]
        with pytest.raises(AuthenticationError):
            stranger.read("db/host", "production")
        with pytest.raises(AuthenticationError):
            stranger.update("db/host", "production", 1)
        with pytest.raises(AuthenticationError):
            stranger.delete("db/host", "production")
    with OpenSecureConfClient(node.base_url, USER_KEY) as owner:
        assert owner.read("db/host", "production")["value"] == {"host": "db", "port": 5432}


def test_imported_entries_live_on(node: RunningNode, client: OpenSecureConfClient) -> None:
    """They are updated, deleted and joined by new ones like any other, also after a restart; `verify` is clean."""
    assert client.update("db/host", "production", "new")["id"] == 3
    client.delete("db/host", "staging")
    assert client.create("fresh", 1, "production")["id"] == 9, "above every imported id"

    node.restart()

    with OpenSecureConfClient(node.base_url, USER_KEY) as again:
        assert again.read("db/host", "production")["value"] == "new"
        assert again.read("ünïcode 🔒", "production")["value"] == [1, None, 2.5]
        with pytest.raises(ConfigurationNotFoundError):
            again.read("db/host", "staging")
    verified = run_oscd("verify", directory=node.directory, settings=HERE)
    assert verified.returncode == 0, verified.stdout


def test_a_dry_run_makes_no_file(directory: Path) -> None:
    """It says how many rows would come, and both directories stay as they were."""
    source = snapshot(directory.parent / "original")
    assert imported(directory, "--dry-run") == "Would import 4 of 4 rows.\n"
    assert list(directory.iterdir()) == []
    assert snapshot(directory.parent / "original") == source


def test_an_import_leaves_the_source_alone_and_its_own_files_private(directory: Path) -> None:
    """Nothing changes beside the original; what is new can be read by its owner only."""
    source = snapshot(directory.parent / "original")
    assert imported(directory) == "Imported 4 of 4 rows.\n"
    assert snapshot(directory.parent / "original") == source
    assert (directory / "encryption.salt").read_bytes() == SALT
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
        "oscd.db": 0o600,
        "oscd.db-node-lock": 0o600,
        "oscd.db-write-lock": 0o600,
        "encryption.salt": 0o600,
    }


def test_a_second_import_is_refused_and_a_merging_one_finds_nothing_new(directory: Path) -> None:
    """A log that holds events is not imported into by accident."""
    imported(directory)
    refused = run_oscd(*ARGUMENTS, directory=directory, settings=HERE)
    assert refused.returncode == 1
    assert "holds events already" in refused.stderr
    assert imported(directory, "--merge") == (
        "Imported 0 of 4 rows; 4 left out because the log has a later write.\n"
    )


def test_a_serving_node_is_not_imported_into(directory: Path, start_node: StartNode) -> None:
    """An import into the log of a serving node is refused, and the node goes on."""
    imported(directory)
    node = start_node(directory=directory, **HERE)
    refused = run_oscd(*ARGUMENTS, "--merge", directory=directory, settings=HERE)
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        assert client.count() == 3


def test_unfit_rows_are_named_and_left_out_on_demand(directory: Path) -> None:
    """By default the import is refused with the rows; with --skip-invalid the others come."""
    with closing(sqlite3.connect(directory.parent / "original" / "configurations.db")) as source, source:
        source.execute("UPDATE configurations SET key = 'se' || char(7) || 'cret' WHERE id = 8")
    refused = run_oscd(*ARGUMENTS, directory=directory, settings=HERE)
    assert refused.returncode == 1
    assert "row 8: key has control characters" in refused.stderr
    assert "cret" not in refused.stderr
    assert list(directory.iterdir()) == []
    assert imported(directory, "--skip-invalid") == "Imported 3 of 4 rows; 1 left out as invalid.\n"


def test_with_default_settings_in_its_directory_nothing_is_overwritten(directory: Path) -> None:
    """OSC_DATABASE_PATH's default is the original's name: refused, and told what to set."""
    original = directory.parent / "original"
    before = snapshot(original)
    refused = run_oscd(
        "import-legacy", "--database", "configurations.db", "--salt", "encryption.salt", directory=original
    )
    assert refused.returncode == 1
    assert "set OSC_DATABASE_PATH to a new file" in refused.stderr
    assert snapshot(original) == before


def test_serving_a_file_of_the_original_names_the_import(directory: Path) -> None:
    """`serve` refuses it in one line and changes no byte of it."""
    original = directory.parent / "original"
    before = snapshot(original)
    refused = run_oscd("serve", directory=original)
    assert refused.returncode == 1
    assert "oscd import-legacy --database" in refused.stdout + refused.stderr
    after = snapshot(original)
    assert {name: after[name] for name in before} == before
    assert not {name for name in after if name.endswith(("-wal", "-shm", "-journal"))}


def test_an_import_killed_half_way_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, start_node: StartNode
) -> None:
    """Invariants 3 and 6: after kill -9 inside the transaction no entry is there; the second run brings all."""
    cipher = fernet(USER_KEY)
    token = cipher.encrypt(f'"{secrets.token_hex(1500)}"'.encode()).decode()
    last = cipher.encrypt(b'"last"').decode()
    rows = (Stored(n, f"key-{n}", token=last if n == MANY else token) for n in range(1, MANY + 1))
    make_original(tmp_path / "original", rows)
    directory = tmp_path / "node"
    directory.mkdir()

    _kill_inside_the_transaction(directory)

    assert imported(directory, "--merge").startswith(f"Imported {MANY} of {MANY} rows.")
    verified = run_oscd("verify", directory=directory, settings=HERE)
    assert verified.stdout.startswith(f"{MANY} events verified"), verified.stdout
    node = start_node(directory=directory, **HERE)
    with OpenSecureConfClient(node.base_url, USER_KEY) as client:
        assert client.read(f"key-{MANY}", "production")["value"] == "last"


def _kill_inside_the_transaction(directory: Path) -> None:
    wal = directory / "oscd.db-wal"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OSC_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "oscd", *ARGUMENTS], cwd=directory, env=kept | HERE, stderr=subprocess.PIPE
    )
    with process:
        try:
            wait_until(
                lambda: process.poll() is not None or (wal.exists() and wal.stat().st_size > SPILLED),
                what="the transaction to reach the disk",
            )
        finally:
            process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL, "the import was over before it could be killed"
    with closing(sqlite3.connect(directory / "oscd.db")) as log:
        assert log.execute("SELECT count(*) FROM events").fetchone() == (0,)
        assert log.execute("SELECT count(*) FROM entries").fetchone() == (0,)
