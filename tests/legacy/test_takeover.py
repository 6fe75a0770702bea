"""An import as a whole: everything or nothing, in the log as if it had always been there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from oscd.errors import StartRefused, Unavailable
from oscd.events.event import Body, Draft, EventType, Recorded
from oscd.events.salt import salt_digest
from oscd.events.sqlite import schema
from oscd.events.sqlite.claim import NodeClaim
from oscd.events.sqlite.file import Room
from oscd.events.sqlite.prepare import note_salt, prepare
from oscd.events.sqlite.reading import SqliteReading
from oscd.events.sqlite.transaction import SqliteWriting
from oscd.events.sqlite.verify import verify_chain
from oscd.legacy.errors import ImportRefused
from oscd.legacy.fit import Choices, Destination, read_salt, require_acceptable
from oscd.legacy.placing import Tally
from oscd.legacy.rehearsal import rehearse
from oscd.legacy.row import Unfit
from oscd.legacy.source import LegacyDatabase, Survey
from oscd.legacy.takeover import take_over
from oscd.projections.entry import merge
from oscd.projections.sqlite import SqliteProjections, entry
from oscd.projections.verify import verify_projections
from tests.support.original import LOOSE_TABLE, SALT, Stored, make_original, snapshot

NOW = 1_800_000_000_000_000
"""In January 2027."""

# 2025-01-02 03:04:05.123456 and a microsecond and a second later
STAMP, STAMP_AFTER, STAMP_SECOND = 1_735_787_045_123_456, 1_735_787_045_123_457, 1_735_787_046_123_456
AFTER, SECOND = "2025-01-02 03:04:05.123457", "2025-01-02 03:04:06.123456"

MERGE = Choices(merge=True)


@pytest.fixture
def to(tmp_path: Path) -> Destination:
    """A node that has not been started yet."""
    (tmp_path / "node").mkdir()
    return Destination(tmp_path / "node" / "oscd.db", tmp_path / "node" / "salt", "node-9000", Room())


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Three entries, two of them written in the same microsecond."""
    rows = [
        Stored(4, "c", 1, updated_at=SECOND, category="late"),
        Stored(9, "b", 2),
        Stored(7, "a", 3, created_at="2025-01-01 00:00:00.000001"),
    ]
    return make_original(tmp_path / "original", rows)


def import_from(
    path: Path,
    to: Destination,
    choices: Choices | None = None,
    *,
    now: int = NOW,
    salt: bytes = SALT,
    progress: Callable[[int], None] = lambda _: None,
) -> Tally:
    with LegacyDatabase(path) as source:
        return take_over(source, salt, to, choices or Choices(), now, progress)


def rehearsal_of(path: Path, to: Destination, choices: Choices | None = None, *, now: int = NOW) -> Tally:
    with LegacyDatabase(path) as source:
        return rehearse(source, SALT, to, choices or Choices(), now, lambda _: None)


def opened(to: Destination) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(to.database, isolation_level=None))


def events_of(to: Destination) -> list[Recorded]:
    with opened(to) as log:
        return list(SqliteReading(log).events(0, 1000))


def require_clean(to: Destination) -> None:
    """Invariants 2, 3 and 8 hold for the whole log."""
    with opened(to) as log:
        assert [*verify_chain(log, lambda _: None), *verify_projections(log, lambda _: None)] == []


def write(to: Destination, draft: Draft, clock: int) -> Recorded:
    """Append an event as a node would, to its own origin."""
    prepared = prepare(to.database, node_id=to.node_id, projections=SqliteProjections())
    note_salt(prepared.file, salt_digest(SALT))
    with closing(prepared.file.connect()) as log:
        log.execute("BEGIN IMMEDIATE")
        writing = SqliteWriting(
            log, origin=prepared.origin, projections=SqliteProjections(), clock=lambda: clock
        )
        (recorded,) = writing.append([draft])
        log.execute("COMMIT")
    return recorded


def a_write(key: str, kind: EventType = EventType.CREATED) -> Draft:
    return Draft(
        type=kind,
        environment="production",
        key=key,
        category=None,
        version=1,
        created_at=None,
        event_id=bytes(16),
        key_id=b"k" * 16,
        replaces=None,
        body=Body(None if kind is EventType.DELETED else b"sealed"),
    )


def test_rows_become_events_of_an_incarnation_of_their_own(original: Path, to: Destination) -> None:
    """Invariant 2: in order of updated_at, each stamped with it or just after the one before."""
    assert import_from(original, to) == Tally(added=3)

    events = [recorded.event for recorded in events_of(to)]
    assert [(event.key, event.stamp) for event in events] == [
        ("a", STAMP),
        ("b", STAMP_AFTER),
        ("c", STAMP_SECOND),
    ]
    assert [event.seq for event in events] == [1, 2, 3]
    assert len({event.origin for event in events}) == 1
    assert events[0].origin.node_id == "node-9000"
    with opened(to) as log:
        assert schema.own_origin(log) not in (None, events[0].origin)
    require_clean(to)


def test_ids_times_names_and_ciphertext_are_kept(original: Path, to: Destination) -> None:
    """What the entry table shows is what the row was; the token is the same bytes."""
    import_from(original, to)

    first, second, third = events_of(to)
    assert [first.entry_id, second.entry_id, third.entry_id] == [7, 9, 4]
    with closing(sqlite3.connect(original)) as source:
        for recorded in (first, second, third):
            (token,) = source.execute(
                "SELECT encrypted_value FROM configurations WHERE id = ?", (recorded.entry_id,)
            ).fetchone()
            assert recorded.body == Body(token.encode())
    with opened(to) as log:
        kept = entry(log, "production", "c")
        assert kept is not None
        assert (kept.id, kept.category, kept.created_at, kept.stamp) == (4, "late", STAMP, STAMP_SECOND)
        assert (kept.version, kept.imported, kept.key_id) == (1, True, None)
    assert first.event.created_at < first.event.stamp


def test_each_row_is_a_write_of_its_own(original: Path, to: Destination) -> None:
    """Invariant 10: peers and readers take the import in pieces, none larger than a row."""
    import_from(original, to)
    assert [recorded.event.last_seq for recorded in events_of(to)] == [1, 2, 3]


def test_a_stale_row_never_beats_a_newer_write_of_another_node(
    original: Path, to: Destination, tmp_path: Path
) -> None:
    """Invariant 5: imported on one node today, the row still loses to what another took since, in both orders."""
    import_from(original, to)
    elsewhere = replace(to, database=tmp_path / "other.db", node_id="aaa")
    live = write(elsewhere, a_write("c"), clock=STAMP_SECOND + 1)
    stale = events_of(to)[2]

    assert merge(merge(None, live), stale).winner == live.event.ref
    assert merge(merge(None, stale), live).winner == live.event.ref


def test_the_salt_comes_along(original: Path, to: Destination) -> None:
    """It is copied, private, and its digest noted, so that the node starts with it and with no other."""
    import_from(original, to)
    assert to.salt_file.read_bytes() == SALT
    assert to.salt_file.stat().st_mode & 0o777 == 0o600
    prepared = prepare(to.database, node_id="node-9000", projections=SqliteProjections())
    assert prepared.salt_digest == salt_digest(SALT)
    assert not prepared.is_empty


def test_the_salt_may_be_in_place_already(original: Path, to: Destination) -> None:
    """OSC_SALT_FILE_PATH may be the original's own file."""
    to = replace(to, salt_file=original.with_name("encryption.salt"))
    before = snapshot(original.parent)
    assert import_from(original, to) == Tally(added=3)
    assert snapshot(original.parent) == before


@pytest.mark.parametrize("name", ["same", "link", "hard-link", "original"])
def test_the_source_is_never_the_log(original: Path, to: Destination, name: str) -> None:
    """Not by its own path, nor through a symbolic or a hard link."""
    path = original if name == "original" else to.database
    if name == "same":
        path = original.parent / "." / original.name
    elif name == "link":
        path.symlink_to(original)
    elif name == "hard-link":
        os.link(original, path)
    content = original.read_bytes()

    for work in (import_from, rehearsal_of):
        with pytest.raises(ImportRefused, match="set OSC_DATABASE_PATH to a new file"):
            work(original, replace(to, database=path))

    assert original.read_bytes() == content
    assert not to.salt_file.exists()


def test_a_log_with_events_is_refused_and_left_as_it_is(original: Path, to: Destination) -> None:
    """Without --merge a second import changes nothing."""
    import_from(original, to)
    before = events_of(to)
    for work in (import_from, rehearsal_of):
        with pytest.raises(ImportRefused, match="--merge"):
            work(original, to)
    assert events_of(to) == before


def test_a_log_of_another_salt_is_refused(original: Path, to: Destination) -> None:
    """Values under two salts cannot share a log: no key would open both."""
    import_from(original, to)
    with pytest.raises(ImportRefused, match="another salt"):
        import_from(original, to, MERGE, salt=bytes(64))
    to.salt_file.unlink()
    with pytest.raises(ImportRefused, match="another salt"):
        import_from(original, to, MERGE, salt=bytes(64))
    assert not to.salt_file.exists()


def test_another_salt_in_the_way_is_refused_and_kept(original: Path, to: Destination) -> None:
    """A salt is never overwritten, not even beside an empty log; no log is made either."""
    to.salt_file.write_bytes(bytes(64))
    for work in (import_from, rehearsal_of):
        with pytest.raises(ImportRefused, match="move it away"):
            work(original, to)
    assert to.salt_file.read_bytes() == bytes(64)
    assert not to.database.exists()


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_what_is_no_salt_is_refused(tmp_path: Path, length: int) -> None:
    """Exactly 64 bytes."""
    (tmp_path / "salt").write_bytes(bytes(length))
    with pytest.raises(ImportRefused, match="exactly 64 bytes"):
        read_salt(tmp_path / "salt")


def test_a_running_node_is_not_disturbed(original: Path, to: Destination) -> None:
    """While a node holds the log nothing is imported."""
    claim = NodeClaim(to.database)
    try:
        for work in (import_from, rehearsal_of):
            with pytest.raises(StartRefused, match="stop it first"):
                work(original, to)
    finally:
        claim.release()
    assert not to.database.exists()


def test_no_room_is_refused(original: Path, to: Destination) -> None:
    """The limits of writes hold for an import, too."""
    with pytest.raises(ImportRefused, match="OSC_MIN_FREE_BYTES"):
        import_from(original, replace(to, room=Room(min_free_bytes=2**62)))
    assert events_of(to) == []


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), sqlite3.OperationalError("disk I/O error")])
def test_trouble_half_way_leaves_nothing_and_a_second_run_completes(
    original: Path, to: Destination, trouble: BaseException
) -> None:
    """Invariant 3: whatever ends the transaction, no event of it stays, and the same command can be repeated."""

    def fail(done: int) -> None:
        if done == 2:
            raise trouble

    with pytest.raises((KeyboardInterrupt, Unavailable)):
        import_from(original, to, progress=fail)

    assert events_of(to) == []
    require_clean(to)
    assert import_from(original, to) == Tally(added=3)
    require_clean(to)


def test_a_source_that_is_written_meanwhile_leaves_nothing(original: Path, to: Destination) -> None:
    """The original still ran: what was read may not be all there is."""

    def touch(_: int) -> None:
        os.utime(original, ns=(1, 1))

    with pytest.raises(ImportRefused, match="while it was read"):
        import_from(original, to, progress=touch)
    assert events_of(to) == []


def test_merging_lets_the_later_write_of_each_entry_stand(original: Path, to: Destination) -> None:
    """A newer row takes an older live entry over, which keeps its id; a newer write or delete stands."""
    write(to, a_write("b"), clock=STAMP - 10)
    write(to, a_write("a"), clock=STAMP + 10)
    gone = write(to, a_write("c"), clock=STAMP + 20)
    write(to, replace(a_write("c", EventType.DELETED), replaces=gone.event.ref), clock=STAMP_SECOND + 1)
    before = events_of(to)

    assert rehearsal_of(original, to, MERGE) == Tally(replaced=1, outdated=2)
    assert import_from(original, to, MERGE) == Tally(replaced=1, outdated=2)

    events = events_of(to)
    assert events[:4] == before
    assert [(recorded.event.key, recorded.entry_id) for recorded in events[4:]] == [("b", 1)]
    with opened(to) as log:
        taken, stands, deleted = (entry(log, "production", key) for key in "bac")
    assert taken is not None
    assert taken.imported
    assert stands is not None
    assert not stands.imported
    assert deleted is not None
    assert deleted.deleted
    require_clean(to)


def test_merging_gives_new_ids_only_where_this_log_has_given_them(original: Path, to: Destination) -> None:
    """Ids stay unique on the node, and those to come are above all of them."""
    for number in range(4):
        write(to, a_write(f"other-{number}"), clock=STAMP + number)

    assert import_from(original, to, MERGE) == Tally(added=3, renumbered=1)

    ids = {recorded.event.key: recorded.entry_id for recorded in events_of(to)}
    assert (ids["a"], ids["b"], ids["c"]) == (7, 9, 10)
    assert write(to, a_write("new"), clock=NOW).entry_id == 11
    require_clean(to)


def test_importing_again_imports_only_what_is_new(original: Path, to: Destination) -> None:
    """A second import of one source appends nothing; a row written since then replaces its entry."""
    import_from(original, to)
    assert import_from(original, to, MERGE) == Tally(outdated=3)
    with closing(sqlite3.connect(original)) as source, source:
        source.execute("UPDATE configurations SET updated_at = '2025-06-01 00:00:00' WHERE key = 'a'")
    assert import_from(original, to, MERGE) == Tally(replaced=1, outdated=2)
    require_clean(to)


def test_a_row_from_the_future_does_not_drive_the_log_ahead(tmp_path: Path, to: Destination) -> None:
    """Stamped now, it lets the next write be stamped by the clock."""
    path = make_original(tmp_path / "original", [Stored(1, "a", updated_at="2999-01-01 00:00:00.000000")])
    import_from(path, to)
    assert [recorded.event.stamp for recorded in events_of(to)] == [NOW]
    assert write(to, a_write("b"), clock=NOW + 5).event.stamp == NOW + 5


def test_unfit_rows_are_left_out(tmp_path: Path, to: Destination) -> None:
    """The rest is imported in order, without a gap."""
    rows = [Stored(1, "a"), Stored(2, ""), Stored(3, "c", updated_at="never"), Stored(4, "d")]
    path = make_original(tmp_path / "original", rows, table=LOOSE_TABLE)
    assert import_from(path, to, Choices(skip_invalid=True)) == Tally(added=2)
    assert [recorded.event.key for recorded in events_of(to)] == ["a", "d"]
    require_clean(to)


def test_unfit_rows_stop_the_import_unless_allowed() -> None:
    """The refusal names the first rows, counts the rest and says how to go on."""
    survey = Survey(
        rows=9, unfit=3, examples=(Unfit(1, "key is empty"), Unfit(2, "key is empty")), from_future=0
    )
    require_acceptable(survey, Choices(skip_invalid=True))
    with pytest.raises(ImportRefused) as refused:
        require_acceptable(survey, Choices())
    assert str(refused.value).splitlines() == [
        "--database: 3 of 9 rows cannot be taken over; --skip-invalid leaves them out.",
        "  row 1: key is empty",
        "  row 2: key is empty",
        "  … and 1 more",
    ]


def _fresh(to: Destination, original: Path) -> None:
    """Nothing there yet."""


def _empty_file(to: Destination, original: Path) -> None:
    to.database.touch()


def _served(to: Destination, original: Path) -> None:
    NodeClaim(to.database).release()
    prepare(to.database, node_id="node-9000", projections=SqliteProjections())


def _imported(to: Destination, original: Path) -> None:
    import_from(original, to)


@pytest.fixture(params=[_fresh, _empty_file, _served, _imported])
def destination(request: pytest.FixtureRequest, to: Destination, original: Path) -> Destination:
    """A log in each state a dry run may find it in."""
    request.param(to, original)
    return to


def test_a_dry_run_tells_what_would_happen_and_touches_nothing(
    destination: Destination, original: Path
) -> None:
    """Not a file is made or changed, on either side; the import then does what was told."""
    node, source = snapshot(destination.database.parent), snapshot(original.parent)

    told = rehearsal_of(original, destination, MERGE)

    assert snapshot(destination.database.parent) == node
    assert snapshot(original.parent) == source
    assert import_from(original, destination, MERGE) == told


def test_a_dry_run_does_not_guess_about_a_log_that_was_killed(original: Path, to: Destination) -> None:
    """The log's last writes are in its `-wal`, and reading those would change files: refused with what to do."""
    import_from(original, to)
    with opened(to) as log:
        log.execute("PRAGMA wal_autocheckpoint = 0")
        schema.write_meta(log, "probe", 1)
        before = to.database.read_bytes()
        with pytest.raises(ImportRefused, match="start and stop it once"):
            rehearsal_of(original, to, MERGE)
        assert to.database.read_bytes() == before
