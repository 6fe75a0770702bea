"""`oscd log`: every event as it is stored, filtered, for people and for machines; never a value."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from oscd.cli.main import commands
from oscd.commands import Caller, Create, Sealed, decide
from oscd.events.position import decode_position
from oscd.events.sqlite import schema
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.moment import cut_at
from oscd.projections.sqlite import SqliteProjections
from oscd.shown import quoted, shown
from oscd.times import rfc3339
from tests.events.log_contract import draft
from tests.projections.history import Step, log_with, run_more

HISTORY: list[Step] = [
    ("create", "prod", "a", "db"),
    ("create", "dev", "a", ""),
    ("update", "prod", "a", "web"),
    ("delete", "dev", "a", ""),
]
HOSTILE = 'eve" \x1b[2J\u202e\\'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[sqlite3.Connection]:
    """Two origins, a write of two events, and somebody who calls themselves strange things."""
    with log_with(path, HISTORY) as log:
        run_more(log, [("create", "prod", "b", "")], node_id="node-b")
        log.execute("BEGIN IMMEDIATE")
        origin = schema.own_origin(log)
        assert origin is not None
        writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
        writing.append([draft("x"), draft("y")])
        sealed = Sealed(b"secret", b"e" * 16, b"k" * 16)
        writing.append([decide(Create("prod", "z", None, sealed, Caller(HOSTILE, "192.0.2.1")), None)])
        log.execute("COMMIT")
        yield log


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(commands, ["log", str(path), *arguments])


def documents(path: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run(path, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_machines_get_every_event_with_all_that_is_known_of_it(log: sqlite3.Connection, path: Path) -> None:
    """One object per line, in log order, each the event's header, place, digest and caller."""
    told = documents(path)
    recorded = list(SqliteReading(log).events(0, 100))
    assert len(told) == len(recorded) == 8
    for one, kept in zip(told, recorded, strict=True):
        event = kept.event
        assert kept.body is not None
        assert (one["offset"], one["digest"], one["seq"]) == (kept.offset, kept.digest.hex(), event.seq)
        assert (one["node_id"], one["incarnation"]) == (event.origin.node_id, event.origin.incarnation)
        assert (one["type"], one["environment"], one["key"]) == (event.type, event.environment, event.key)
        assert (one["category"], one["version"]) == (event.category, event.version)
        assert (one["timestamp"], one["stamp"]) == (rfc3339(event.stamp), event.stamp)
        assert one["updated_at"] == rfc3339(event.updated_at)
        assert (one["actor"], one["address"]) == (kept.body.actor, kept.body.address)
        assert one["key_id"] == (None if event.key_id is None else event.key_id.hex())
        assert one["imported"] == event.imported
        assert (one["replaces"] is None) == (event.replaces is None)
    assert told[2]["replaces"] == {name: told[0][name] for name in ("node_id", "incarnation", "seq")}


def test_each_position_covers_its_event_and_whole_writes(log: sqlite3.Connection, path: Path) -> None:
    """What `--at` would take: up to and with the event, the rest of its write, and nothing later."""
    reading = SqliteReading(log)
    for one in documents(path):
        cut = cut_at(reading, decode_position(one["position"]), 0)
        covered = [kept.offset for kept in reading.events(0, 100) if cut.covers(kept.event.ref)]
        assert covered == list(range(1, max(one["offset"], 7 if one["offset"] == 6 else 0) + 1))


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        (("--key", "a"), [1, 2, 3, 4]),
        (("--environment", "dev"), [2, 4]),
        (("--key", "a", "--environment", "prod"), [1, 3]),
        (("--key", "nothing"), []),
        (("--since", "1h"), []),
        (("--since", "2023-11-14T22:13:20.000002Z"), [3, 4, 5, 6, 7, 8]),
        (("--since", "2023-11-14T22:13:20.000002Z", "--key", "a"), [3, 4]),
    ],
)
def test_only_what_was_asked_for_is_told(
    log: sqlite3.Connection, path: Path, arguments: tuple[str, ...], offsets: list[int]
) -> None:
    """By key, environment and time, alone or together; positions stay those of all events."""
    whole = {one["offset"]: one for one in documents(path)}
    assert documents(path, *arguments) == [whole[offset] for offset in offsets]


def test_since_a_position_is_what_comes_after_it(log: sqlite3.Connection, path: Path) -> None:
    """Whoever kept the last line's position misses nothing and gets nothing twice."""
    told = documents(path)
    for number, one in enumerate(told):
        rest = documents(path, "--since", one["position"])
        assert rest == told[number + (2 if one["offset"] == 6 else 1) :]


def test_people_get_a_line_that_orders_their_terminal_nothing(log: sqlite3.Connection, path: Path) -> None:
    """A line an event; what a caller claimed to be is quoted, and cannot pass for an address beside it."""
    lines = run(path).output.splitlines()
    assert len(lines) == 8
    assert all(c.isprintable() for line in lines for c in line)
    assert lines[0].split() == [
        "2023-11-14T22:13:20.000000Z", "1", "created", "prod", "a", "v1", "-", "-", "6b6b6b6b", "node-a",
    ]  # fmt: skip
    assert '"eve\\" \\x1b[2J\\u202e\\\\" 192.0.2.1 6b6b6b6b' in lines[7]


def test_no_value_is_told(log: sqlite3.Connection, path: Path) -> None:
    """Invariant 7: not even sealed."""
    for arguments in ((), ("--json",)):
        assert "secret" not in run(path, *arguments).output
        assert "token" not in run(path, *arguments).output


def test_what_is_asked_wrongly_is_said(log: sqlite3.Connection, path: Path, tmp_path: Path) -> None:
    """No moment, a moment of another log, no file, no log."""
    assert run(path, "--since", "yesterday").exit_code == 2
    foreign = run(path, "--since", "AQAAAAAAAAABAQAAAAA")
    assert (foreign.exit_code, "--since" in str(foreign.exception)) == (1, True)
    assert "no such file" in str(run(tmp_path / "none.db").exception)
    (tmp_path / "text").write_text("no log" * 1000)
    assert "not a database" in str(run(tmp_path / "text").exception)


def test_a_damaged_event_is_named(log: sqlite3.Connection, path: Path) -> None:
    """What cannot be read is said with its offset, after what stands before it."""
    log.execute("UPDATE events SET header = CAST('x' AS BLOB) WHERE \"offset\" = 3")
    assert "offset 3: an event header cannot be read" in str(run(path).exception)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain ünï", "plain ünï"), ("a\nb\x7f\x9b", "a\\nb\\x7f\\x9b"), ("\u2028\u200b", "\\u2028\\u200b")],
)
def test_what_cannot_be_printed_is_spelled_out(text: str, expected: str) -> None:
    """Control characters of both kinds, line separators and what nobody sees."""
    assert shown(text) == expected
    assert quoted(text) == f'"{expected}"'
