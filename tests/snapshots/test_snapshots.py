"""Snapshots and restores in one process: what is in them, what is refused, what trouble leaves behind."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from oscd.cli.main import commands
from oscd.errors import StartRefused
from oscd.events.event import ORIGIN_BEGAN
from oscd.events.position import Position, mark
from oscd.events.salt import load_salt, salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.fingerprint import fingerprint_at
from oscd.events.sqlite.prepare import prepare
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.events.sqlite.verify import verify_chain
from oscd.feed.place import NoPlace, Place, place_of
from oscd.moment import Moment, MomentUnknown, cut_at
from oscd.projections.sqlite import SqliteProjections
from oscd.projections.verify import verify_projections
from oscd.snapshots import draft as draft_module
from oscd.snapshots import restore as restoring
from oscd.snapshots import take as taking
from oscd.snapshots.copying import CutOf, copy_log, extent_of
from oscd.snapshots.errors import SnapshotRefused
from oscd.snapshots.restore import restore
from oscd.snapshots.take import Made, building, take_snapshot
from tests.events.log_contract import draft
from tests.projections.history import Step, log_with, run_more, steps
from tests.projections.strange import COLUMNS, STRANGE, put
from tests.snapshots.logs import SALT, events_of, salted_log, tables_of

HISTORY: list[Step] = [
    ("create", "prod", "a", "db"),
    ("create", "prod", "b", ""),
    ("update", "prod", "a", "web"),
    ("delete", "prod", "b", ""),
    ("create", "prod", "b", "db"),
]

OF_A_LOG = ("events", "origins", "meta")


def silent(_: int) -> None:
    """Nobody looks at the progress."""


def at(moment: Moment) -> CutOf:
    return lambda reading: cut_at(reading, moment, 2**62)


def snapshot(log: sqlite3.Connection, file: Path, cut: CutOf | None = None) -> Made:
    return take_snapshot(log, extent_of(log, cut), SALT, file, silent)


def restored(file: Path, directory: Path, cut: CutOf | None = None) -> Made:
    with opened(file) as log:
        return restore(log, extent_of(log, cut), directory, silent)


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as log:
        yield log


def findings(log: sqlite3.Connection) -> list[str]:
    return [str(f) for f in [*verify_chain(log, silent), *verify_projections(log, silent)]]


def test_a_snapshot_holds_the_log_byte_for_byte_and_restores_to_the_same_node(tmp_path: Path) -> None:
    """Events, position, fingerprint, tables and salt are those of the log; both files are their owner's alone."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        made = snapshot(log, tmp_path / "snap.db")
        assert (made.events, made.position) == (5, SqliteReading(log).position())
        assert made.fingerprint == fingerprint_at(log, 5)
        assert restored(tmp_path / "snap.db", tmp_path / "node") == made
        with opened(tmp_path / "snap.db") as copy, opened(tmp_path / "node" / "configurations.db") as new:
            assert events_of(copy) == events_of(new) == events_of(log)
            assert tables_of(new) == tables_of(log)
            assert findings(copy) == findings(new) == []
            assert schema.read_meta(new, "last_entry_id") == schema.read_meta(log, "last_entry_id")
            assert schema.read_meta(new, "salt") is None, "the salt has its own file"
    assert load_salt(tmp_path / "node" / "encryption.salt") == SALT
    for made_file in (tmp_path / "snap.db", *(tmp_path / "node").iterdir()):
        assert made_file.stat().st_mode & 0o777 == 0o600


def test_a_restored_node_takes_a_new_incarnation(tmp_path: Path) -> None:
    """Invariant 9: its first event names the last of the original, under the same node id or another; only once."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
        last = SqliteReading(log).events(4, 1)[0].event.ref
    for node_id in ("node-a", "node-b"):
        restored(tmp_path / "snap.db", tmp_path / node_id)
        path = tmp_path / node_id / "configurations.db"
        begun = prepare(path, node_id=node_id, projections=SqliteProjections())
        assert prepare(path, node_id=node_id, projections=SqliteProjections()).origin == begun.origin
        with opened(path) as new:
            (first,) = SqliteReading(new).events(5, 10)
            assert findings(new) == []
        assert (first.event.type, first.event.replaces) == (ORIGIN_BEGAN, last)
        assert (first.event.origin, first.event.seq) == (begun.origin, 1)
        assert begun.origin != last.origin


def test_a_moment_before_a_rename_ends_the_origin_of_then(tmp_path: Path) -> None:
    """Invariant 9: what is restored follows the origin that the log appended to at that moment, not a later one."""
    path = tmp_path / "log.db"
    with salted_log(path, HISTORY) as log:
        before = SqliteReading(log).position()
        last = SqliteReading(log).events(4, 1)[0].event.ref
        prepare(path, node_id="renamed", projections=SqliteProjections())
        prepare(path, node_id="again", projections=SqliteProjections())
        run_more(log, [("update", "prod", "a", "")])
        snapshot(log, tmp_path / "snap.db", at(before))
    restored(tmp_path / "snap.db", tmp_path / "node")
    database = tmp_path / "node" / "configurations.db"
    prepare(database, node_id="node-a", projections=SqliteProjections())
    with opened(database) as new:
        (first,) = SqliteReading(new).events(5, 10)
    assert (first.event.type, first.event.replaces) == (ORIGIN_BEGAN, last)


def test_no_node_serves_from_a_snapshot(tmp_path: Path) -> None:
    """It is refused with the command that makes a node of it, and is not changed."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
    before = (tmp_path / "snap.db").read_bytes()
    with pytest.raises(StartRefused, match="oscd restore"):
        prepare(tmp_path / "snap.db", node_id="node-a", projections=SqliteProjections())
    assert (tmp_path / "snap.db").read_bytes() == before


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=1, max_size=3), st.integers(0, 60), st.booleans())
def test_every_moment_of_a_merged_log_restores_to_what_it_covers(
    histories: list[list[Step]], chosen: int, by_time: bool
) -> None:
    """A snapshot or restore at a moment holds the covered events in order, in chains and tables that verify."""
    with tempfile.TemporaryDirectory() as name, salted_log(Path(name) / "log.db", histories[0]) as log:
        for number, history in enumerate(histories[1:]):
            run_older(log, history, f"node-{number}")
        reading = SqliteReading(log)
        events = list(reading.events(0, 1000))
        moment: Moment = reading.position()
        if by_time and events:
            moment = events[chosen % len(events)].event.stamp
        elif events:
            moment = reading.cut_naming(events[chosen % len(events)].event).position
        cut = cut_at(reading, moment, 2**62)
        covered = [one.digest for one in events if cut.covers(one.event.ref)]
        directory = Path(name)
        partial = snapshot(log, directory / "partial.db", at(moment))
        snapshot(log, directory / "whole.db")
        assert partial.position == cut.position
        restored(directory / "partial.db", directory / "a")
        restored(directory / "whole.db", directory / "b", at(moment))
        states = []
        for node in ("a", "b"):
            with opened(directory / node / "configurations.db") as new:
                assert [one.digest for one in SqliteReading(new).events(0, 1000)] == covered
                assert findings(new) == []
                states.append((events_of(new), tables_of(new)))
        assert states[0] == states[1]


def run_older(log: sqlite3.Connection, history: list[Step], node_id: str) -> None:
    """Append another node's events, which are older than some here and newer than others."""
    before = log.execute("SELECT max(id) FROM origins").fetchone()[0]
    log.execute("BEGIN IMMEDIATE")
    origin = schema.new_origin(log, node_id)
    clock = random.Random(before)
    writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
    for number, (_, environment, key, _) in enumerate(history):
        stamp = 1_700_000_000_000_000 + 3 * number + clock.randrange(-5, 5)
        writing.append([draft(key, environment=environment, stamp=stamp)])
    log.execute("COMMIT")


def test_a_life_that_is_one_by_what_was_left_out_keeps_its_number(tmp_path: Path) -> None:
    """Without the delete between them two lives of an entry are one; the later number would tell of another."""
    with salted_log(tmp_path / "log.db", [("create", "prod", "a", ""), ("delete", "prod", "a", "")]) as log:
        created = SqliteReading(log).events(0, 1)[0].event
        log.execute("BEGIN IMMEDIATE")
        origin = schema.new_origin(log, "node-b")
        writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
        (late,) = writing.append([draft("a", stamp=created.stamp)])
        log.execute("COMMIT")
        assert (late.offset, late.entry_id) == (3, 2)
        snapshot(log, tmp_path / "snap.db", at(created.stamp))
        with opened(tmp_path / "snap.db") as copy:
            assert [(e.offset, e.previous, e.entry_id) for e in SqliteReading(copy).events(0, 9)] == [
                (1, None, 1),
                (2, 1, 1),
            ]
            assert findings(copy) == []


def test_readers_of_the_original_find_their_place_at_the_restored_node(tmp_path: Path) -> None:
    """Invariant 9: who stands within the snapshot goes on; who stands past it never does by chance."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
        within = SqliteReading(log).position()
        run_more(log, [("update", "prod", "a", "")])
        beyond = SqliteReading(log).position()
    restored(tmp_path / "snap.db", tmp_path / "node")
    path = tmp_path / "node" / "configurations.db"
    prepare(path, node_id="node-a", projections=SqliteProjections())
    with opened(path) as new:
        run_more(new, [("update", "prod", "a", ""), ("update", "prod", "a", "")])
        found = place_of(SqliteReading(new), within)
        assert isinstance(found, Place)
        assert (found.offset, found.ahead) == (5, {})
        assert place_of(SqliteReading(new), beyond) is NoPlace.NOT_YET


def test_a_write_is_not_split(tmp_path: Path) -> None:
    """A position within a write, which no node issues, is refused; nothing is left."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        log.execute("BEGIN IMMEDIATE")
        origin = schema.own_origin(log)
        assert origin is not None
        writing = SqliteWriting(log, origin=origin, projections=SqliteProjections(), clock=lambda: 0)
        first, _ = writing.append([draft("x"), draft("y")])
        log.execute("COMMIT")
        within = position_of(first.event.seq, first.digest, origin.incarnation)
        with pytest.raises(MomentUnknown):
            snapshot(log, tmp_path / "snap.db", at(within))
        assert snapshot(log, tmp_path / "snap.db", at(first.event.stamp)).events == 5
    assert names(tmp_path) == {"log.db", "snap.db"}


def position_of(seq: int, digest: bytes, incarnation: str) -> Moment:
    return Position({incarnation: mark(seq, digest)})


def names(directory: Path) -> set[str]:
    """What is in a directory, but for the files of a log that is open."""
    return {path.name for path in directory.iterdir() if not path.name.startswith("log.db-")}


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET body = CAST('{}' AS BLOB) WHERE \"offset\" = 3",
        'UPDATE events SET digest = zeroblob(32) WHERE "offset" = 5',
        'DELETE FROM events WHERE "offset" = 2',
    ],
)
def test_a_damaged_log_has_no_snapshot(tmp_path: Path, tampering: str) -> None:
    """Damage is found while copying, said with its offset, and no file is left."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        log.execute(tampering)
        with pytest.raises(SnapshotRefused, match=r"damaged at offset [235]"):
            snapshot(log, tmp_path / "snap.db")
    assert names(tmp_path) == {"log.db"}


def test_a_snapshot_of_an_older_oscd_is_restored(tmp_path: Path) -> None:
    """Nothing brings a snapshot up to date but its restore, so every layout so far is read; a newer one is not."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
    for layout in range(1, len(schema.MIGRATIONS) + 2):
        with opened(tmp_path / "snap.db") as copy:
            copy.execute(f"PRAGMA user_version = {layout}")
        arguments = ["restore", str(tmp_path / "snap.db"), "--to", str(tmp_path / f"from {layout}")]
        done = CliRunner().invoke(commands, arguments)
        assert (done.exit_code == 0) == (layout <= len(schema.MIGRATIONS)), done.output
    with opened(tmp_path / "from 1" / "configurations.db") as new:
        assert schema.layout(new) == len(schema.MIGRATIONS)
        assert findings(new) == []


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE meta SET value = zeroblob(64) WHERE name = 'salt'",
        "DELETE FROM meta WHERE name = 'snapshot'",
        'UPDATE events SET previous = NULL WHERE "offset" = 3',
        'UPDATE events SET entry_id = 7 WHERE "offset" = 3',
        "UPDATE events SET header = CAST(replace(header, 'web', 'bew') AS BLOB) WHERE \"offset\" = 3",
    ],
)
def test_a_damaged_snapshot_is_not_restored(tmp_path: Path, tampering: str) -> None:
    """Whatever was changed, no log and no salt is left where the node would have been."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
    with opened(tmp_path / "snap.db") as copy:
        assert copy.execute(tampering).rowcount > 0
    with pytest.raises(SnapshotRefused, match=r"damaged|not a snapshot"):
        restored(tmp_path / "snap.db", tmp_path / "node")
    assert not (tmp_path / "node").exists() or names(tmp_path / "node") == set()


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(
    ("table", "column"), [(table, name) for table in OF_A_LOG for name in COLUMNS[table].split()]
)
def test_whatever_is_put_where_is_refused_or_not_copied(
    tmp_path: Path, table: str, column: str, strange: str
) -> None:
    """A value of another type in any column stops snapshot and restore with a line, with a moment or without."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        moment = at(SqliteReading(log).events(2, 1)[0].event.stamp)
        snapshot(log, tmp_path / "snap.db")
        places = {"log.db": log.execute(f"SELECT {column} FROM {table}").fetchall()}
    with opened(tmp_path / "snap.db") as copy:
        places["snap.db"] = copy.execute(f"SELECT {column} FROM {table}").fetchall()
    for name, held in [(name, held) for name, some in places.items() for (held,) in some]:
        changed = tmp_path / f"changed {name}"
        shutil.copy(tmp_path / name, changed)
        if not put(changed, table, column, held, STRANGE[strange]):
            continue
        for cut in (None, moment):
            with tempfile.TemporaryDirectory() as made, suppress(SnapshotRefused):
                if name == "snap.db":
                    restored(changed, Path(made), cut)
                else:
                    with opened(changed) as log:
                        snapshot(log, Path(made) / "configurations.db", cut)
                with opened(Path(made) / "configurations.db") as new:
                    assert list(verify_chain(new, silent)) == []


def test_a_draft_is_no_snapshot_and_no_log(tmp_path: Path) -> None:
    """What a kill leaves under its temporary name is refused by whatever would read it."""
    draft = tmp_path / ".snap.db.0123"
    with salted_log(tmp_path / "log.db", HISTORY) as log, pytest.raises(KeyboardInterrupt):
        cut_short(log, draft)
    assert draft.stat().st_size > 50_000, "nothing of it was on the disk"
    for arguments in (
        ["verify", str(draft)],
        ["log", str(draft)],
        ["restore", str(draft), "--to", str(tmp_path)],
    ):
        done = CliRunner().invoke(commands, arguments)
        assert (done.exit_code, done.output) == (1, "")
        assert isinstance(done.exception, StartRefused)


def cut_short(log: sqlite3.Connection, draft: Path) -> None:
    """Copy a log many times over, so that some of it reaches the disk, and do not come to the end."""
    with building(draft) as target:
        target.execute("PRAGMA cache_size = 1")
        copy_log(log, extent_of(log, None), target, silent)
        target.execute("CREATE TABLE filler AS SELECT randomblob(100000)")
        raise KeyboardInterrupt


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    """A file of that name, a log, another log's remains or another salt stop it; all stay as they are."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
        with pytest.raises(SnapshotRefused, match="there already"):
            snapshot(log, tmp_path / "snap.db")
    for name in ("configurations.db", "configurations.db-wal", "encryption.salt"):
        directory = tmp_path / f"with {name}"
        directory.mkdir()
        (directory / name).write_bytes(b"o" * 64)
        with pytest.raises(SnapshotRefused, match=name):
            restored(tmp_path / "snap.db", directory)
        assert names(directory) == {name}
        assert (directory / name).read_bytes() == b"o" * 64


def test_a_restore_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    """A salt alone, the same one, is what a killed restore leaves; the next one takes it for its own."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "encryption.salt").write_bytes(SALT)
    assert restored(tmp_path / "snap.db", tmp_path / "node").events == 5


def test_another_salt_is_not_packed(tmp_path: Path) -> None:
    """A snapshot whose values nobody could open is not made."""
    with log_with(tmp_path / "log.db", HISTORY) as log:
        schema.write_meta(log, "salt_digest", salt_digest(b"o" * 64))
        with pytest.raises(SnapshotRefused, match="not the salt"):
            snapshot(log, tmp_path / "snap.db")


def test_no_view_of_the_log_outlives_a_page(tmp_path: Path) -> None:
    """Invariant 10: while a snapshot is copied and proved, a checkpoint can always empty the write-ahead log."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        source = sqlite3.connect(f"file:{tmp_path / 'log.db'}?mode=ro", uri=True, isolation_level=None)

        def checkpointed(_: int) -> None:
            run_more(log, [("update", "prod", "a", "")])
            assert log.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0

        with closing(source):
            extent = extent_of(source, None)
            made = take_snapshot(source, extent, SALT, tmp_path / "snap.db", checkpointed)
        assert made.events == 5
        assert SqliteReading(log).head() > 10


@pytest.mark.parametrize("module", [taking, restoring])
def test_trouble_with_the_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    """When the file cannot be made durable it is not made at all."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")

        def fails(draft: Path, path: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module, "put_in_place", fails)
        make = (
            partial(snapshot, log, tmp_path / "second.db")
            if module is taking
            else partial(restored, tmp_path / "snap.db", tmp_path / "node")
        )
        with pytest.raises(SnapshotRefused, match="No space left on device; nothing is left"):
            make()
    assert names(tmp_path) - {"node"} == {"log.db", "snap.db"}
    assert not (tmp_path / "node").exists() or names(tmp_path / "node") == set()


@pytest.fixture
def snap(tmp_path: Path) -> Path:
    """A snapshot."""
    with salted_log(tmp_path / "log.db", HISTORY) as log:
        snapshot(log, tmp_path / "snap.db")
    return tmp_path / "snap.db"


def restored_while(snap: Path, directory: Path, what: Callable[[], object]) -> Made:
    """Restore, and let something happen before it is done."""
    once = [what]

    def progress(_: int) -> None:
        if once:
            once.pop()()

    with opened(snap) as log:
        return restore(log, extent_of(log, None), directory, progress)


def test_two_restores_do_not_meet(snap: Path, tmp_path: Path) -> None:
    """The second is refused at once; the first is not disturbed, and leaves the directory free of its lock."""
    node = tmp_path / "node"

    def second() -> None:
        with pytest.raises(SnapshotRefused, match="another restore is at work"):
            restored(snap, node)

    assert restored_while(snap, node, second).events == 5
    assert names(node) == {"configurations.db", "encryption.salt"}
    with pytest.raises(SnapshotRefused, match="there already"):
        restored(snap, node)


def test_a_salt_that_is_put_there_meanwhile_is_seen(snap: Path, tmp_path: Path) -> None:
    """Another one stops the restore and stays; the same one is taken as it is."""
    other, same = tmp_path / "other", tmp_path / "same"
    with pytest.raises(SnapshotRefused, match="another salt is here"):
        restored_while(snap, other, partial((other / "encryption.salt").write_bytes, b"o" * 64))
    assert names(other) == {"encryption.salt"}
    assert load_salt(other / "encryption.salt") == b"o" * 64
    assert restored_while(snap, same, partial((same / "encryption.salt").write_bytes, SALT)).events == 5


def test_only_its_own_salt_is_undone(snap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log does not become durable nothing is left, but for a salt that was there before."""

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(draft_module, "sync_directory", fails)
    fresh, begun = tmp_path / "fresh", tmp_path / "begun"
    begun.mkdir()
    (begun / "encryption.salt").write_bytes(SALT)
    for directory in (fresh, begun):
        with pytest.raises(SnapshotRefused, match="Input/output error; nothing is left"):
            restored(snap, directory)
    assert names(fresh) == set()
    assert names(begun) == {"encryption.salt"}


def test_a_salt_stays_beside_a_log_that_came_meanwhile(
    snap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was started there a moment too early may have taken it for its own."""
    node = tmp_path / "node"

    def starts(draft: Path, path: Path) -> None:
        path.write_bytes(b"")
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(restoring, "put_in_place", starts)
    with pytest.raises(SnapshotRefused, match="there already"):
        restored(snap, node)
    assert names(node) == {"configurations.db", "encryption.salt"}
