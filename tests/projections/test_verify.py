"""`verify`: whatever was done to the file is found, and where; an honest file passes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from oscd.events.sqlite.verify import verify_chain
from oscd.projections.verify import verify_projections
from tests.projections.history import Step, log_with

HISTORY: list[Step] = [
    ("create", "prod", "a", "db"),
    ("create", "prod", "b", ""),
    ("update", "prod", "a", "web"),
    ("create", "dev", "a", "db"),
    ("delete", "prod", "b", ""),
    ("create", "prod", "b", "db"),
    ("update", "dev", "a", ""),
]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with log_with(tmp_path / "log.db", HISTORY) as connection:
        yield connection


def findings(connection: sqlite3.Connection) -> list[str]:
    chain = [str(finding) for finding in verify_chain(connection, lambda _: None)]
    return chain or [str(finding) for finding in verify_projections(connection, lambda _: None)]


def test_an_honest_log_passes(connection: sqlite3.Connection) -> None:
    """What the node wrote has no finding."""
    assert findings(connection) == []


@pytest.mark.parametrize(
    ("tampering", "first"),
    [
        (
            "UPDATE events SET header = CAST(replace(header, 'prod', 'test') AS BLOB) WHERE \"offset\" = 3",
            "offset 3",
        ),
        (
            "UPDATE events SET body = CAST(replace(body, 'token', 'nekot') AS BLOB) WHERE \"offset\" = 4",
            "offset 4: the body",
        ),
        ('UPDATE events SET digest = zeroblob(32) WHERE "offset" = 5', "offset 5: the chain"),
        ("UPDATE events SET key = 'z' WHERE \"offset\" = 2", "offset 2: the indexed columns"),
        ('UPDATE events SET stamp = stamp + 1 WHERE "offset" = 2', "offset 2: the indexed columns"),
        ("UPDATE events SET environment = 'dev' WHERE \"offset\" = 1", "offset 1: the indexed columns"),
        ("UPDATE events SET header = 'x' WHERE \"offset\" = 6", "offset 6: header, digest or body is not"),
        ("UPDATE events SET header = CAST('x' AS BLOB) WHERE \"offset\" = 6", "offset 6: an event header"),
        (
            "UPDATE events SET header = CAST(replace(header, 'stamp', 'damp') AS BLOB)",
            "offset 1: an event header",
        ),
        ('UPDATE events SET previous = 1 WHERE "offset" = 2', "offset 2: it names another previous"),
        ('UPDATE events SET entry_id = 9 WHERE "offset" = 5', "offset 5: its entry id"),
        ('DELETE FROM events WHERE "offset" = 1', "offset 1: 1 event(s) are missing"),
        ('DELETE FROM events WHERE "offset" IN (3, 4)', "offset 3: 2 event(s) are missing"),
        ('DELETE FROM events WHERE "offset" = 7', "origin node-a/"),
        ("UPDATE origins SET seq = 6", "origin node-a/"),
        ("UPDATE origins SET node_id = 'node-x'", "offset 1: the indexed columns"),
        ("UPDATE origins SET digest = zeroblob(32)", "origin node-a/"),
    ],
)
def test_a_changed_log_is_found_where_it_was_changed(
    connection: sqlite3.Connection, tampering: str, first: str
) -> None:
    """Invariant 8: a changed, dropped or moved event is found, and the first finding names its offset."""
    assert connection.execute(tampering).rowcount > 0
    found = findings(connection)
    assert found
    assert found[0].startswith(first), found


def test_swapped_events_are_found(connection: sqlite3.Connection) -> None:
    """Invariant 8: two events that trade places are found at the first of them."""
    for swap in ('100 WHERE "offset" = 2', '2 WHERE "offset" = 3', '3 WHERE "offset" = 100'):
        connection.execute(f'UPDATE events SET "offset" = {swap}')
    assert findings(connection)[0].startswith("offset 2: ")


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (
            "UPDATE entries SET category = 'x' WHERE key = 'b'",
            "entries ('prod', 'b'): category is 'x', by the log 'db'",
        ),
        ("UPDATE entries SET id = 7 WHERE key = 'b'", "entries ('prod', 'b'): id is 7, by the log 4"),
        ("DELETE FROM entries WHERE environment = 'dev'", "entries ('dev', 'a'): the row is missing"),
        (
            "INSERT INTO entries SELECT 'prod', 'c', 9, category, version, created_at, updated_at, stamp,"
            " node_id, incarnation,"
            " seq, \"offset\", event_id, key_id, imported, deleted FROM entries WHERE key = 'b'",
            "entries ('prod', 'c'): the log knows no such row",
        ),
        (
            "UPDATE counts SET entries = 5 WHERE name = 'web'",
            "counts ('category', 'web'): entries is 5, by the log 1",
        ),
        ("UPDATE totals SET entries = 4", "totals: entries is 4, by the log 3"),
        ("UPDATE totals SET state = zeroblob(32)", "totals: state is 00"),
    ],
)
def test_a_changed_table_is_found_with_row_and_column(
    connection: sqlite3.Connection, tampering: str, found: str
) -> None:
    """Invariant 3: a projection that is not what the log says is named by table, row and column."""
    assert connection.execute(tampering).rowcount > 0
    assert findings(connection)[0].startswith(found)


def test_the_commands_verify_and_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`oscd verify` fails on a changed table with its place; `oscd rebuild` mends it; then verify passes."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY) as connection:
        connection.execute("UPDATE entries SET category = 'x' WHERE key = 'b'")
    monkeypatch.setenv("OSC_DATABASE_PATH", str(path))
    runner = CliRunner()
    broken = runner.invoke(commands, ["verify"])
    assert broken.exit_code == 1
    assert "entries ('prod', 'b'): category" in broken.output
    assert runner.invoke(commands, ["rebuild"]).exit_code == 0
    mended = runner.invoke(commands, ["verify"])
    assert mended.exit_code == 0
    assert "7 events verified" in mended.output
