"""`verify`: whatever was done to the file is found, and where; an honest file passes."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from oscd.events import codec
from oscd.events.sqlite import schema
from oscd.events.sqlite.fingerprint import fingerprint_at
from oscd.events.sqlite.prepare import reproject
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.events.sqlite.verify import verify_chain
from oscd.projections.sqlite import SqliteProjections
from oscd.projections.verify import verify_projections
from tests.events.log_contract import draft
from tests.projections.history import Step, collide, log_with, run_more
from tests.projections.strange import COLUMNS, STRANGE, put

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
        ("UPDATE events SET header = 'x' WHERE \"offset\" = 6", "offset 6: header: not a value of the type"),
        ("UPDATE events SET header = CAST('x' AS BLOB) WHERE \"offset\" = 6", "offset 6: an event header"),
        (
            "UPDATE events SET header = CAST(replace(header, 'stamp', 'damp') AS BLOB)",
            "offset 1: an event header",
        ),
        ('UPDATE events SET previous = 1 WHERE "offset" = 2', "offset 2: it names another previous"),
        ('UPDATE events SET previous = NULL WHERE "offset" = 3', "offset 3: it names another previous"),
        ('UPDATE events SET entry_id = 9 WHERE "offset" = 5', "offset 5: its entry id"),
        ('UPDATE events SET entry_id = 9 WHERE "offset" = 3', "offset 3: its entry id is 9, by the log 1"),
        ('UPDATE events SET entry_id = 9 WHERE "offset" = 6', "offset 6: its entry id is 9, by the log 4"),
        ('UPDATE events SET body = NULL WHERE "offset" = 3', "offset 3: its body is missing"),
        (
            "INSERT INTO events SELECT 0, origin, 99, stamp, environment, key, previous, entry_id, digest, header,"
            ' body FROM events WHERE "offset" = 1',
            "offset 0: no event belongs",
        ),
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


OTHERS: list[Step] = [("update", "prod", "a", "x"), ("create", "dev", "c", ""), ("update", "dev", "c", "x")]
LATER: list[Step] = [("update", "dev", "c", "db"), ("delete", "dev", "a", ""), ("create", "dev", "a", "")]
TEXTS = ("environment", "key")
NUMBERS = ("origin", "seq", "stamp", "previous", "entry_id")
BLOBS = ("digest", "header", "body")


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_done_to_an_event_is_found_at_its_offset(
    connection: sqlite3.Connection, seed: int
) -> None:
    """Invariant 8: one column of one event changed, or one event removed or swapped, at random."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    run_more(connection, OTHERS, node_id="node-b")
    run_more(connection, LATER)
    assert findings(connection) == []
    offset = harm(connection, chance.randrange(1, 13), chance)
    assert findings(connection)[0].startswith(f"offset {offset}: ")


def harm(connection: sqlite3.Connection, offset: int, chance: random.Random) -> int:
    """Change a column of an event, remove it, or let it and another one of its origin trade places.

    Gives the offset of the first event that is wrong then.
    """
    what = chance.choice([*TEXTS, *NUMBERS, *BLOBS, "swap", "remove"])
    print(f"{what} at {offset}")
    if what == "remove":
        connection.execute('DELETE FROM events WHERE "offset" = ?', (offset,))
    elif what == "swap":
        (other,) = chance.choice(
            connection.execute(
                'SELECT b."offset" FROM events a JOIN events b ON b.origin = a.origin AND b.seq <> a.seq'
                ' WHERE a."offset" = ?',
                (offset,),
            ).fetchall()
        )
        swap(connection, offset, other)
        return min(offset, int(other))
    else:
        (held,) = connection.execute(f'SELECT {what} FROM events WHERE "offset" = ?', (offset,)).fetchone()
        changed = _changed(held, chance, may_be_none=what in {"previous", "entry_id"})
        connection.execute(f'UPDATE events SET {what} = ? WHERE "offset" = ?', (changed, offset))
        print(f"{held!r} became {changed!r}")
    return offset


def swap(connection: sqlite3.Connection, offset: int, other: int) -> None:
    """Let two events trade places."""
    for before, after in ((offset, -1), (other, offset), (-1, other)):
        connection.execute('UPDATE events SET "offset" = ? WHERE "offset" = ?', (after, before))


def _changed(held: object, chance: random.Random, *, may_be_none: bool) -> object:
    match held:
        case bytes():
            at = chance.randrange(len(held))
            return held[:at] + bytes([held[at] ^ (1 << chance.randrange(8))]) + held[at + 1 :]
        case str():
            return held + chance.choice("xyz")
        case None:
            return chance.randrange(1, 99)
        case int():
            return None if may_be_none and chance.random() < 0.5 else held + chance.randrange(100, 999)
        case _:
            raise AssertionError(held)


def test_half_a_write_is_found(connection: sqlite3.Connection) -> None:
    """A write whose last events were cut off is no history, even where the origin's noted end was cut too."""
    connection.execute("BEGIN IMMEDIATE")
    origin = schema.own_origin(connection)
    assert origin is not None
    writing = SqliteWriting(connection, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
    writing.append([draft("x"), draft("y")])
    connection.execute("COMMIT")
    cut_tail(connection, 8)
    assert findings(connection) == [
        f"origin node-a/{origin.incarnation}: the rest of its last write, events 9 to 9, is missing"
    ]


def cut_tail(connection: sqlite3.Connection, offset: int) -> None:
    """Remove every event past an offset and adjust whatever else would tell."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute('DELETE FROM events WHERE "offset" > ?', (offset,))
    for column in ("seq", "digest", "stamp"):
        connection.execute(
            f"UPDATE origins SET {column} = (SELECT e.{column} FROM events e WHERE e.origin = origins.id"
            " ORDER BY e.seq DESC LIMIT 1)"
        )
    reproject(connection, SqliteProjections())
    connection.execute("COMMIT")


def rewrite(connection: sqlite3.Connection, offset: int) -> None:
    """Change an event and make everything that depends on it fit again, as somebody with the code could."""
    connection.execute("BEGIN IMMEDIATE")
    rows = connection.execute('SELECT "offset", header FROM events ORDER BY "offset"').fetchall()
    digest = codec.genesis_digest(codec.decode_header(rows[0][1]).origin)
    for at, header in rows:
        if at == offset:
            changed = codec.decode_header(header)._replace(category="changed")
            header = codec.encode_header(changed)
        digest = codec.chain_digest(digest, header)
        connection.execute(
            'UPDATE events SET header = ?, digest = ? WHERE "offset" = ?', (header, digest, at)
        )
    connection.execute("UPDATE origins SET digest = ?", (digest,))
    reproject(connection, SqliteProjections())
    connection.execute("COMMIT")


@pytest.mark.parametrize(
    ("harm", "offset", "verdict"),
    [
        (cut_tail, 5, "the tail was cut, the log ends at offset 5"),
        (rewrite, 2, "history up to offset 7 was rewritten"),
        (rewrite, 7, "history up to offset 7 was rewritten"),
    ],
)
def test_what_a_file_cannot_show_by_itself_shows_against_a_fingerprint(
    tmp_path: Path, harm: Callable[[sqlite3.Connection, int], None], offset: int, verdict: str
) -> None:
    """Invariant 8: a cut tail and a consistently rewritten file pass `verify`; `--expect` tells which it was."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY) as connection:
        noted = fingerprint_at(connection, 7)
        run_more(connection, [("delete", "dev", "a", "")])
        same = CliRunner().invoke(commands, ["verify", str(path), "--expect", str(noted).lower()])
        assert (same.exit_code, "matches" in same.output) == (0, True), same.output
        cut_tail(connection, 7)
        harm(connection, offset)
        assert findings(connection) == []
    assert CliRunner().invoke(commands, ["verify", str(path)]).exit_code == 0
    told = CliRunner().invoke(commands, ["verify", str(path), "--expect", str(noted)])
    assert (told.exit_code, verdict in told.output) == (1, True), told.output
    as_json = CliRunner().invoke(commands, ["verify", str(path), "--expect", str(noted), "--json"])
    document = json.loads(as_json.output)
    assert (as_json.exit_code, document["sound"], document["faults"]) == (1, False, [])
    assert document["expected"] == str(noted) != document["found"]


def test_a_fingerprint_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """A slip of the pen ends with status 2 before anything is read."""
    told = CliRunner().invoke(commands, ["verify", str(tmp_path / "no.db"), "--expect", "7:ABC"])
    assert (told.exit_code, "a fingerprint is" in told.output) == (2, True)


def test_faults_are_told_to_machines_too(tmp_path: Path) -> None:
    """`--json` names each fault's place, gives no fingerprint of what is damaged, and the status is 1."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY) as connection:
        connection.execute('UPDATE events SET digest = zeroblob(32) WHERE "offset" = 5')
    told = CliRunner().invoke(commands, ["verify", str(path), "--json"])
    document = json.loads(told.stdout)
    assert (told.exit_code, document["faults"][0]["where"]) == (1, "offset 5")
    assert (document["events"], document["sound"], document["fingerprint"]) == (7, False, None)


def test_swapped_events_are_found(connection: sqlite3.Connection) -> None:
    """Invariant 8: two events that trade places are found at the first of them."""
    swap(connection, 2, 3)
    assert findings(connection)[0].startswith("offset 2: ")


def test_swapped_events_of_two_origins_are_found(connection: sqlite3.Connection) -> None:
    """Invariant 3: no chain says how the events of two origins follow each other, but the tables do."""
    run_more(connection, OTHERS[:1], node_id="node-b")
    swap(connection, 7, 8)
    assert findings(connection)[0].startswith("entries ('dev', 'a'): offset is 7, by the log 8")


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
        ("UPDATE totals SET conflicts = 3", "totals: conflicts is 3, by the log 1"),
        ("UPDATE conflicts SET loser = 4", "conflicts (1,): loser is 4, by the log 8"),
        ("DELETE FROM conflicts", "conflicts (1,): the row is missing"),
    ],
)
def test_a_changed_table_is_found_with_row_and_column(
    connection: sqlite3.Connection, tampering: str, found: str
) -> None:
    """Invariant 3: a projection that is not what the log says is named by table, row and column."""
    collide(connection, "dev", "a", stamp=1)
    assert findings(connection) == []
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


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, names in COLUMNS.items() for column in names.split()]
)
def test_whatever_is_put_where_is_a_finding(tmp_path: Path, table: str, column: str, strange: str) -> None:
    """Invariant 8: no value of any type in any column ends `verify` otherwise than with where it is."""
    path = tmp_path / "log.db"
    with log_with(path, HISTORY) as log:
        run_more(log, OTHERS, node_id="node-b")
        collide(log, "prod", "a")
        schema.write_meta(log, "salt_digest", bytes(32))
        places = log.execute(f"SELECT {column} FROM {table}").fetchall()
    assert places
    for (held,) in places if table == "meta" else places[::6]:
        changed = tmp_path / "changed.db"
        shutil.copy(path, changed)
        if not put(changed, table, column, held, STRANGE[strange]):
            continue
        told = CliRunner().invoke(commands, ["verify", str(changed), "--json"])
        assert isinstance(told.exception, SystemExit), (held, told.exception)
        assert json.loads(told.stdout)["faults"], held


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("seq", "3"),
        ("seq", 3.0),
        ("last_seq", True),
        ("stamp", None),
        ("version", 2**63),
        ("node_id", [1]),
        ("type", 7),
        ("category", 7),
        ("key_id", 7),
        ("imported", 0),
        ("replaces", "abc"),
        ("replaces", ["a", "b", "c"]),
        ("event_id", None),
    ],
)
def test_a_header_with_another_type_is_a_finding(
    connection: sqlite3.Connection, name: str, changed: object
) -> None:
    """Invariant 8: a header is read with its types, or not at all."""
    (header,) = connection.execute('SELECT header FROM events WHERE "offset" = 3').fetchone()
    document = json.loads(header)
    assert name in document
    document[name] = changed
    connection.execute('UPDATE events SET header = ? WHERE "offset" = 3', (json.dumps(document).encode(),))
    assert findings(connection)[0] == "offset 3: an event header cannot be read"


@pytest.mark.parametrize("noted", [3, "zz", 4.5])
def test_a_number_that_would_be_given_twice_is_found(connection: sqlite3.Connection, noted: object) -> None:
    """Numbers of lives go on past the greatest one in the log; a greater one than that is nothing wrong."""
    connection.execute("UPDATE meta SET value = 9 WHERE name = 'last_entry_id'")
    assert findings(connection) == []
    connection.execute("UPDATE meta SET value = ? WHERE name = 'last_entry_id'", (noted,))
    assert findings(connection) == [f"meta last_entry_id: it is {noted!r}, and an event has the entry id 4"]
    connection.execute("DELETE FROM meta WHERE name = 'last_entry_id'")
    assert findings(connection)[0].startswith("meta last_entry_id: it is None")
