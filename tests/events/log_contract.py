"""What any event log must do: the executable form of the docstrings in `oscd/events/log.py`.

A subclass of `LogContract` provides the fixture `log_under_test`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from oscd.errors import NotFound, Unavailable
from oscd.events.codec import (
    chain_digest,
    encode_body,
    encode_header,
    event_from_draft,
    genesis_digest,
)
from oscd.events.event import ORIGIN_BEGAN, Body, Change, Draft, Event, EventRef, EventType, Origin, Recorded
from oscd.events.foreign import Foreign, OriginTip, Raw
from oscd.events.log import EventLog, Found, Reading, Writing, covers, scan
from oscd.events.origins import MAX_ORIGINS_TO_BEGIN
from oscd.events.position import MAX_ENCODED, Mark, Position, mark
from oscd.events.runs import MAX_RUNS
from oscd.events.standing import Own, Standing
from tests.support.cuts import cut_covering

ORIGIN = Origin("node-a", "00112233445566aa")
ELSEWHERE = Origin("node-b", "00112233445566bb")
"""Where events come from that this log did not write first."""


@dataclass
class SteppedClock:
    """µs that stand still, or go wherever a test puts them."""

    now: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now


@dataclass
class LogUnderTest:
    """A log and its clock.

    Attributes:
        applied: What its projections have been told: offsets in order.
    """

    log: EventLog[Any]
    applied: Callable[[Reading[Any]], list[int]]
    clock: SteppedClock = field(default_factory=SteppedClock)
    origin: Origin = ORIGIN

    async def append_elsewhere(self, drafts: Sequence[Draft], origin: Origin = ELSEWHERE) -> list[Recorded]:
        """Take in one write of another origin; a draft with a stamp keeps it, and so may lose."""

        def run(writing: Writing[Any]) -> list[Recorded]:
            before = writing.head()
            assert writing.ingest(written_elsewhere(writing, drafts, self.clock, origin)) == len(drafts)
            return list(writing.events(before, len(drafts)))

        return await self.log.write(run, size=1)

    async def know_origins(self, count: int) -> None:
        """Take in one event of each of so many origins, none of them known yet."""
        origins = [Origin("node-x", f"{number:016x}") for number in range(count)]

        def run(writing: Writing[Any]) -> None:
            for origin in origins:
                writing.ingest(written_elsewhere(writing, [draft(origin.incarnation)], self.clock, origin))

        await self.log.write(run, size=1)


def written_elsewhere(
    reading: Reading[Any], drafts: Sequence[Draft], clock: Callable[[], int], origin: Origin = ELSEWHERE
) -> list[Foreign]:
    """One write of another log that holds all that this one holds, and is at the end of that origin."""
    tip = reading.tip_of(origin.incarnation) or OriginTip(origin, 0, genesis_digest(origin), 0)
    last_seq, greatest = tip.seq + len(drafts), max(reading.cut_at_head().stamps.values(), default=0)
    written = []
    for one in drafts:
        body = encode_body(one.body)
        stamp = max(clock(), greatest + 1) if one.stamp is None else max(one.stamp, tip.stamp + 1)
        event = event_from_draft(
            one, origin=origin, seq=tip.seq + 1, last_seq=last_seq, stamp=stamp, body=body
        )
        header = encode_header(event)
        tip = OriginTip(origin, event.seq, chain_digest(tip.digest, header), stamp)
        written.append(Foreign(event, header, body, tip.digest))
        greatest = max(greatest, stamp)
    return written


def draft(
    key: str = "k",
    type: EventType = EventType.CREATED,
    *,
    environment: str = "prod",
    replaces: EventRef | None = None,
    stamp: int | None = None,
    entry_id: int | None = None,
    ciphertext: bytes | None = b"sealed",
) -> Draft:
    """A draft of an event; its content is no concern of the log."""
    return Draft(
        type=type,
        environment=environment,
        key=key,
        category=None,
        version=1,
        created_at=None,
        event_id=os.urandom(16),
        key_id=b"k" * 16,
        replaces=replaces,
        body=Body(ciphertext, "actor", "127.0.0.1"),
        stamp=stamp,
        entry_id=entry_id,
    )


async def append(log: EventLog[Any], *drafts: Draft) -> list[Recorded]:
    """Append one write."""
    return list(await log.write(lambda writing: writing.append(drafts), size=100))


async def every_event(log: EventLog[Any]) -> list[Recorded]:
    """The whole log, a small page at a time."""
    return await log.read(lambda reading: list(scan(reading, page=3)))


class LogContract:
    """The tests; each holds for every log."""

    async def test_offsets_and_seqs_are_gapless_from_one(self, log_under_test: LogUnderTest) -> None:
        """Invariants 1 and 2: insert order is commit order, and an origin's numbers have no gap."""
        log = log_under_test.log
        for n in range(7):
            await append(log, draft(f"k{n}"))
        events = await every_event(log)
        assert [recorded.offset for recorded in events] == [1, 2, 3, 4, 5, 6, 7]
        assert [recorded.event.seq for recorded in events] == [1, 2, 3, 4, 5, 6, 7]
        assert await log.read(lambda reading: reading.head()) == 7

    async def test_stamps_rise_even_when_the_clock_goes_back(self, log_under_test: LogUnderTest) -> None:
        """Invariant 2: stamps of one origin strictly rise, whatever the clock does."""
        stamps: list[int] = []
        for now in (1000, 5000, 200, 5000, 5000, 9000):
            log_under_test.clock.now = now
            (recorded,) = await append(log_under_test.log, draft(f"k{now}{len(stamps)}"))
            stamps.append(recorded.event.stamp)
        assert stamps == [1000, 5000, 5001, 5002, 5003, 9000]

    async def test_an_imported_row_keeps_its_stamp_where_it_can(self, log_under_test: LogUnderTest) -> None:
        """A draft with a stamp of its own gets `max(that, the origin's last + 1)`, never the clock's."""
        log = log_under_test.log
        stamps = [
            (await append(log, draft(f"k{n}", stamp=stamp)))[0].event.stamp
            for n, stamp in enumerate((100, 100, 50, 900))
        ]
        assert stamps == [100, 101, 102, 900]

    async def test_a_write_of_several_events_knows_its_end(self, log_under_test: LogUnderTest) -> None:
        """Each event carries the last seq of its write, so that a batch travels whole or not at all."""
        log = log_under_test.log
        await append(log, draft("a"))
        await append(log, draft("b"), draft("c"), draft("d"))
        assert [r.event.last_seq for r in await every_event(log)] == [1, 4, 4, 4]

    @pytest.mark.parametrize("count", [0, 1, 2, 7])
    async def test_many_events_of_one_write_are_as_if_appended_together(
        self, log_under_test: LogUnderTest, count: int
    ) -> None:
        """Invariants 1, 2, 3 and 8: `append_many` leaves the very log and projections that `append` would."""
        log = log_under_test.log
        (kept, gone) = await append(log, draft("k1"), draft("k2"))
        await append(log, draft("k2", EventType.DELETED, ciphertext=None, replaces=gone.event.ref))
        drafts = [draft(f"k{n}", replaces=kept.event.ref if n == 1 else None) for n in range(count)]

        def run(writing: Writing[Any]) -> Position:
            writing.append_many(iter(drafts), count)
            return writing.position()

        position = await log.write(run, size=100)
        events = await every_event(log)
        written = events[3:]
        assert [(r.event.key, r.body, r.event.event_id) for r in written] == [
            (one.key, one.body, one.event_id) for one in drafts
        ]
        assert [r.event.seq for r in events] == list(range(1, count + 4))
        assert {r.event.last_seq for r in written} <= {count + 3}
        assert [r.previous for r in written] == [{1: 1, 2: 3}.get(n) for n in range(count)]
        assert [r.entry_id for r in written] == [1 if n == 1 else 3 + n - (n > 1) for n in range(count)]
        digest = genesis_digest(log_under_test.origin)
        for recorded in events:
            digest = chain_digest(digest, encode_header(recorded.event))
            assert recorded.digest == digest
        assert await log.read(log_under_test.applied) == list(range(1, count + 4))
        assert await log.read(lambda reading: reading.position()) == position

    @pytest.mark.parametrize("given", [2, 4])
    async def test_a_write_of_another_number_of_events_leaves_nothing(
        self, log_under_test: LogUnderTest, given: int
    ) -> None:
        """Where more or fewer events come than were announced the write is given up whole."""
        log = log_under_test.log
        drafts = [draft(f"k{n}") for n in range(given)]
        with pytest.raises(ValueError, match="write of 3"):
            await log.write(lambda writing: writing.append_many(drafts, 3), size=100)
        assert await every_event(log) == []
        (recorded,) = await append(log, draft("after"))
        assert (recorded.event.seq, recorded.event.last_seq) == (1, 1)

    async def test_the_digests_chain_from_the_origin_on(self, log_under_test: LogUnderTest) -> None:
        """Invariant 8: every digest covers the header and the digest before it, from the origin's name on."""
        log = log_under_test.log
        for n in range(4):
            await append(log, draft(f"k{n}"))
        digest = genesis_digest(log_under_test.origin)
        for recorded in await every_event(log):
            digest = chain_digest(digest, encode_header(recorded.event))
            assert recorded.digest == digest

    async def test_what_is_read_is_what_was_appended(self, log_under_test: LogUnderTest) -> None:
        """An event comes back with its body, its entry and what it replaces."""
        log = log_under_test.log
        (first,) = await append(log, draft("k"))
        (second,) = await append(
            log, draft("k", EventType.UPDATED, replaces=first.event.ref, ciphertext=b"two")
        )
        found = await log.read(lambda reading: reading.event_at(second.offset))
        assert found == second
        assert found is not None
        assert found.event.replaces == first.event.ref
        assert found.previous == first.offset
        assert await log.read(lambda reading: reading.body_at(second.offset)) == second.body
        assert await log.read(lambda reading: reading.body_at(second.offset, at_most=1000)) == second.body
        assert await log.read(lambda reading: reading.body_at(second.offset, at_most=3)) is None
        assert await log.read(lambda reading: reading.event_at(99)) is None
        assert await log.read(lambda reading: reading.body_at(99)) is None

    async def test_a_refused_command_undoes_only_itself(self, log_under_test: LogUnderTest) -> None:
        """Of commands that run together, one that raises leaves no trace and disturbs none."""
        log = log_under_test.log

        def refused(writing: Writing[Any]) -> None:
            writing.append([draft("lost")])
            raise NotFound("no")

        outcomes = await asyncio.gather(
            append(log, draft("a")),
            log.write(refused, size=1),
            append(log, draft("b")),
            return_exceptions=True,
        )
        assert [isinstance(outcome, NotFound) for outcome in outcomes] == [False, True, False]
        events = await every_event(log)
        assert sorted(r.event.key for r in events) == ["a", "b"]
        assert [r.event.seq for r in events] == [1, 2]
        assert await log.read(log_under_test.applied) == [1, 2]

    async def test_projections_follow_in_the_same_write(self, log_under_test: LogUnderTest) -> None:
        """Invariant 3: whoever sees an event sees its effect on the projections."""
        log = log_under_test.log
        for n in range(5):
            await append(log, draft(f"k{n}"), draft(f"l{n}"))
            head, applied = await log.read(lambda reading: (reading.head(), log_under_test.applied(reading)))
            assert applied == list(range(1, head + 1))

    async def test_a_read_sees_what_was_acknowledged_before(self, log_under_test: LogUnderTest) -> None:
        """A read that starts after a write was answered holds that write."""
        log = log_under_test.log

        async def write_and_look(n: int) -> None:
            (recorded,) = await append(log, draft(f"k{n}"))
            assert await log.read(lambda reading: reading.event_at(recorded.offset)) == recorded

        await asyncio.gather(*(write_and_look(n) for n in range(20)))

    async def test_winner_is_the_greatest_stamp_a_cut_covers(self, log_under_test: LogUnderTest) -> None:
        """The winner as of a cut ignores later events, and of earlier ones takes the greatest stamp."""
        log = log_under_test.log
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for _ in range(30):
            log_under_test.clock.now += chance.randrange(-5, 20)
            await append(log, draft(chance.choice("ab")))
        events = await every_event(log)
        for upto in range(len(events) + 1):
            for key in "abc":
                candidates = [r for r in events[:upto] if r.event.key == key]
                expected = max(candidates, key=lambda r: r.event.precedence, default=None)
                cut = cut_covering(events[:upto])
                found = await log.read(lambda reading, k=key, c=cut: reading.winner("prod", k, c))  # type: ignore[misc]
                assert found == expected

    async def test_a_position_covers_exactly_what_was_there(self, log_under_test: LogUnderTest) -> None:
        """A position is covered by the log it came from for ever, and not before its events are there."""
        log = log_under_test.log
        positions = [await log.read(lambda reading: reading.position())]
        for n in range(3):
            await append(log, draft(f"k{n}"))
            positions.append(await log.read(lambda reading: reading.position()))
        for position in positions:
            assert await log.read(lambda reading, p=position: covers(reading, p))  # type: ignore[misc]
        incarnation, mark = next(iter(positions[-1].marks.items()))
        ahead = Position({incarnation: Mark(mark.seq + 1, mark.check)})
        forged = Position({incarnation: Mark(mark.seq, b"\0\0\0\0")})
        foreign = Position({"ffffffffffffffff": mark})
        for unreachable in (ahead, forged, foreign):
            assert not await log.read(lambda reading, p=unreachable: covers(reading, p))  # type: ignore[misc]

    async def test_cuts_cover_whole_writes_by_stamp(self, log_under_test: LogUnderTest) -> None:
        """A cut covers what is stamped up to a time, or stands before an event, in whole writes of whichever log.

        Positions of both cuts lead back to the same cuts; positions that this log does not hold lead to none.
        """
        log, clock = log_under_test.log, log_under_test.clock
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for _ in range(12):
            clock.now += chance.randrange(3)
            keys = chance.sample("abcd", chance.randrange(1, 4))
            if chance.random() < 0.5:
                await append(log, *map(draft, keys))
            else:
                # Taken in late, so that stamps do not rise with offsets.
                late = clock.now + chance.randrange(-3, 4)
                await log_under_test.append_elsewhere([draft(key, stamp=late) for key in keys])
        events = await every_event(log)
        ends = {(r.event.origin, r.event.seq): r.event for r in events}
        end_of = {r.offset: ends[r.event.origin, r.event.last_seq] for r in events}
        stamps = sorted({r.event.stamp + step for r in events for step in (-1, 0)})
        for stamp in stamps:
            expected = cut_covering([r for r in events if end_of[r.offset].stamp <= stamp])
            assert await log.read(lambda reading, s=stamp: reading.cut_upto(s)) == expected  # type: ignore[misc]
        for named in events:
            event = named.event
            cut = await log.read(lambda reading, e=event: reading.cut_naming(e))  # type: ignore[misc]
            assert cut == cut_covering(
                [
                    r
                    for r in events
                    if (r.event.origin, r.event.last_seq) == (event.origin, event.last_seq)
                    or end_of[r.offset].precedence < event.precedence
                ]
            )
            assert await log.read(lambda reading, e=event, c=cut: reading.winner("prod", e.key, c)) == named  # type: ignore[misc]
            assert await log.read(lambda reading, c=cut: reading.cut_of(c.position)) == cut  # type: ignore[misc]
            if event.seq != event.last_seq:
                within = Position(
                    {**cut.position.marks, event.origin.incarnation: Mark(event.seq, named.digest[:4])}
                )
                assert await log.read(lambda reading, p=within: reading.cut_of(p)) is None  # type: ignore[misc]
        head = await log.read(lambda reading: reading.cut_at_head())
        assert head == cut_covering(events)
        incarnation, mark = next(iter(head.position.marks.items()))
        for strange in (Mark(mark.seq + 1000, mark.check), Mark(mark.seq, b"\0\0\0\0")):
            position = Position({incarnation: strange})
            assert await log.read(lambda reading, p=position: reading.cut_of(p)) is None  # type: ignore[misc]

    async def test_versions_are_read_backwards_page_by_page(self, log_under_test: LogUnderTest) -> None:
        """The events of an entry that a cut covers come greatest first, and go on before any of them."""
        log = log_under_test.log
        for n in range(8):
            await append(log, draft("a"), draft("b"))
            await log_under_test.append_elsewhere([draft("a", stamp=log_under_test.clock.now - 5 + n)])
        events = await every_event(log)
        for upto in (len(events), 9):
            cut = cut_covering(events[:upto])
            expected = sorted(
                (r for r in events[:upto] if r.event.key == "a"),
                key=lambda r: r.event.precedence,
                reverse=True,
            )
            found: list[tuple[int, Event]] = []
            while True:
                before = found[-1][1] if found else None
                page = await log.read(lambda reading, c=cut, b=before: reading.versions("prod", "a", c, b, 3))  # type: ignore[misc]
                if not page:
                    break
                found += page
            assert found == [(r.offset, r.event) for r in expected]

    async def test_lives_of_an_entry_are_numbered(self, log_under_test: LogUnderTest) -> None:
        """An entry keeps its number through updates, loses it with a delete, and gets a new one after that."""
        log = log_under_test.log
        kinds = [
            draft("a"),
            draft("b"),
            draft("a", EventType.UPDATED),
            draft("a", EventType.DELETED, ciphertext=None),
            draft("a"),
            draft("c", entry_id=40),
            draft("d"),
        ]
        for one in kinds:
            await append(log, one)
        assert [r.entry_id for r in await every_event(log)] == [1, 2, 1, None, 3, 40, 41]

    async def test_an_unknown_type_is_kept_and_not_numbered(self, log_under_test: LogUnderTest) -> None:
        """An event of no entry takes its place in the chain, and no entry's number; none comes before it."""
        log = log_under_test.log
        nameless = replace(draft(""), type="of another version", environment="")
        for one in (nameless, nameless, draft("a")):
            await append(log, one)
        events = await every_event(log)
        assert [(r.event.type, r.entry_id, r.previous) for r in events] == [
            ("of another version", None, None),
            ("of another version", None, None),
            ("created", 1, None),
        ]

    async def test_pages_join_without_gap_or_repeat(self, log_under_test: LogUnderTest) -> None:
        """Reading page by page gives every event once, whatever the page size."""
        log = log_under_test.log
        for n in range(10):
            await append(log, draft(f"k{n}"))
        for page in (1, 3, 10, 1000):
            events = await log.read(lambda reading, p=page: list(scan(reading, page=p)))  # type: ignore[misc]
            assert [r.offset for r in events] == list(range(1, 11))
        assert await log.read(lambda reading: reading.events(10, 5)) == []

    @pytest.mark.parametrize("writers", [2, 16])
    async def test_concurrent_writes_are_all_kept_once(
        self, log_under_test: LogUnderTest, writers: int
    ) -> None:
        """Writes that run at once each get numbers of their own, and each is in the log exactly once."""
        log = log_under_test.log
        await asyncio.gather(*(append(log, draft(f"w{w}-{n}")) for w in range(writers) for n in range(10)))
        keys = [r.event.key for r in await every_event(log)]
        assert sorted(keys) == sorted(f"w{w}-{n}" for w in range(writers) for n in range(10))

    async def test_an_event_is_found_by_its_number(self, log_under_test: LogUnderTest) -> None:
        """Each event of each origin is found where it stands; no other number and no other origin is."""
        events = await _two_origins(log_under_test)
        for recorded in events:
            origin, seq = recorded.event.origin.incarnation, recorded.event.seq
            found = await log_under_test.log.read(lambda reading, o=origin, s=seq: reading.find(o, s))  # type: ignore[misc]
            assert found == Found(recorded.offset, recorded.digest)
        last = {r.event.origin.incarnation: r.event.seq for r in events}
        assert len(last) == 2
        absent = [(origin, seq) for origin, end in last.items() for seq in (0, end + 1, 2**63 - 1)]
        for origin, seq in [*absent, ("f" * 16, 1)]:
            assert await log_under_test.log.read(lambda reading, o=origin, s=seq: reading.find(o, s)) is None  # type: ignore[misc]

    async def test_changes_are_the_events_with_what_each_met(self, log_under_test: LogUnderTest) -> None:
        """From any offset on, in pages of any size: each header, its digest, and the winner it came upon."""
        events = await _two_origins(log_under_test)
        expected = [Change(r.offset, r.event, r.digest, _winner(events[: r.offset - 1], r)) for r in events]
        assert any(
            change.previous is not None and change.previous.stamp > change.event.stamp for change in expected
        ), "no event of this history loses, so the test shows less than it says"
        for after in range(len(events) + 2):
            for limit in (1, 3, 100):
                changes = await log_under_test.log.read(
                    lambda reading, a=after, n=limit: reading.changes(a, n)  # type: ignore[misc]
                )
                assert list(changes) == expected[after : after + limit]

    async def test_met_is_the_winner_among_what_a_reader_was_told(self, log_under_test: LogUnderTest) -> None:
        """What counts is everything below an offset and, of the origins that are ahead, up to their seq."""
        events = await _two_origins(log_under_test)
        here, there = (events[0].event.origin.incarnation, ELSEWHERE.incarnation)
        for before in range(1, len(events) + 2):
            for ahead in ({}, {there: 3}, {here: 4}, {here: 2, there: 5}, {"f" * 16: 9}):
                for key in "abc":
                    told = [
                        r.event
                        for r in events
                        if r.event.key == key
                        and (r.offset < before or r.event.seq <= ahead.get(r.event.origin.incarnation, 0))
                    ]
                    expected = max(told, key=lambda event: event.precedence, default=None)
                    met = await log_under_test.log.read(
                        lambda reading, k=key, b=before, a=ahead: reading.met("prod", k, b, a)  # type: ignore[misc]
                    )
                    assert met == expected

    async def test_what_comes_from_elsewhere_keeps_its_numbers_and_gets_an_offset(
        self, log_under_test: LogUnderTest
    ) -> None:
        """Invariants 1, 2 and 8: ingest stores the very bytes, chained as their origin chained them."""
        log = log_under_test.log
        (own,) = await append(log, draft("a"))
        shipped = await log.read(
            lambda reading: written_elsewhere(
                reading, [draft("a", EventType.UPDATED), draft("b")], log_under_test.clock
            )
        )
        assert await log.write(lambda writing: writing.ingest(iter(shipped)), size=1) == 2
        taken = (await every_event(log))[1:]
        assert [r.offset for r in taken] == [2, 3]
        assert [(r.event, r.digest) for r in taken] == [(f.event, f.digest) for f in shipped]
        assert [r.previous for r in taken] == [own.offset, None]
        assert [r.entry_id for r in taken] == [1, 2]
        raw = await log.read(lambda reading: reading.raw(1, 10))
        assert raw == [
            Raw(offset, ELSEWHERE.incarnation, f.event.seq, f.digest, f.header, f.body)
            for offset, f in enumerate(shipped, 2)
        ]
        assert await log.read(log_under_test.applied) == [1, 2, 3]

    async def test_an_event_out_of_turn_is_not_taken_in(self, log_under_test: LogUnderTest) -> None:
        """Invariant 2: a gap, a number held already and a stamp that does not rise leave nothing behind."""
        log = log_under_test.log
        await log_under_test.append_elsewhere([draft("a")])
        first, second = await log.read(
            lambda reading: written_elsewhere(reading, [draft("b"), draft("c")], log_under_test.clock)
        )
        stale = first._replace(event=first.event._replace(stamp=1))
        again = first._replace(event=first.event._replace(seq=1))
        for wrong in ([second], [first, first], [again], [stale]):
            with pytest.raises(ValueError, match="taken in after"):
                await log.write(lambda writing: writing.ingest(wrong), size=1)  # noqa: B023 - awaited here
        assert await log.read(lambda reading: reading.head()) == 1
        await log.write(lambda writing: writing.ingest([first, second]), size=1)
        assert await log.read(lambda reading: reading.head()) == 3

    async def test_own_events_are_stamped_after_those_from_elsewhere(
        self, log_under_test: LogUnderTest
    ) -> None:
        """The hybrid clock: a node whose clock is behind wins over what it has seen, in the same transaction too."""
        log, clock = log_under_test.log, log_under_test.clock
        shipped = await log.read(
            lambda reading: written_elsewhere(reading, [draft("a", stamp=clock.now + 3_600_000_000)], clock)
        )

        def take_then_append(writing: Writing[Any]) -> tuple[Recorded, Position]:
            before = writing.position()
            writing.ingest(shipped)
            (recorded,) = writing.append([draft("a", EventType.UPDATED)])
            assert before != writing.position()
            return recorded, writing.position()

        recorded, position = await log.write(take_then_append, size=1)
        assert recorded.event.stamp == shipped[0].event.stamp + 1
        assert recorded.previous == 1
        assert position == await log.read(lambda reading: reading.position())
        assert position.marks == {
            ELSEWHERE.incarnation: mark(1, shipped[0].digest),
            log_under_test.origin.incarnation: mark(1, recorded.digest),
        }

    async def test_writes_taken_in_together_meet_each_other(self, log_under_test: LogUnderTest) -> None:
        """Each meets the greatest-stamped event of its entry before it, whether that came long ago or just now."""
        now, third = log_under_test.clock.now, Origin("node-c", "00112233445566cc")
        await log_under_test.append_elsewhere([draft("b", stamp=now + 9)])

        def run(writing: Writing[Any]) -> list[Recorded]:
            drafts = {
                ELSEWHERE: [draft("a", stamp=now + 10), draft("b", stamp=now + 11)],
                third: [draft("a", stamp=now + 5), draft("b", stamp=now + 6), draft("a", stamp=now + 20)],
                Origin("node-d", "00112233445566dd"): [draft("a", stamp=now + 15)],
            }
            clock = log_under_test.clock
            writing.ingest(
                [
                    one
                    for origin, some in drafts.items()
                    for one in written_elsewhere(writing, some, clock, origin)
                ]
            )
            return list(writing.events(1, 10))

        met = [(r.previous, r.entry_id) for r in await log_under_test.log.write(run, size=1)]
        assert met == [(None, 2), (1, 1), (2, 2), (3, 1), (2, 2), (6, 2)]

    async def test_the_tip_of_an_origin_is_its_last_event_here(self, log_under_test: LogUnderTest) -> None:
        """None for an origin that this log has never heard of."""
        log = log_under_test.log
        assert await log.read(lambda reading: reading.tip_of(ELSEWHERE.incarnation)) is None
        assert await log.read(lambda reading: reading.origin_count()) == 1
        *_, last = await log_under_test.append_elsewhere([draft("a"), draft("b")])
        assert await log.read(lambda reading: reading.tip_of(ELSEWHERE.incarnation)) == OriginTip(
            ELSEWHERE, 2, last.digest, last.event.stamp
        )
        assert await log.read(lambda reading: reading.origin_count()) == 2

    async def test_nothing_is_appended_while_peers_are_asked(self, log_under_test: LogUnderTest) -> None:
        """Invariant 9: before its first append a node knows where it had ended; its old tail can be taken back."""
        log, origin = log_under_test.log, log_under_test.origin
        await append(log, draft("a"))
        await log.write(lambda writing: writing.settle(Standing.ASKING), size=1)
        with pytest.raises(Unavailable, match="asks"):
            await append(log, draft("b"))
        with pytest.raises(Unavailable, match="asks"):
            await log.write(lambda writing: writing.append_many([draft("b")], 1), size=1)
        await log_under_test.append_elsewhere([draft("b"), draft("c")], origin)
        await log.write(lambda writing: writing.settle(Standing.CONTINUES), size=1)
        (recorded,) = await append(log, draft("d"))
        assert (recorded.event.origin, recorded.event.seq, recorded.offset) == (origin, 4, 4)
        assert await log.read(lambda reading: reading.own()) == Own(origin, 4, Standing.CONTINUES)

    async def test_where_not_all_peers_answered_a_new_incarnation_begins(
        self, log_under_test: LogUnderTest
    ) -> None:
        """Invariant 9: its first event names where the old one ended; what is taken in meanwhile begins none."""
        log, origin = log_under_test.log, log_under_test.origin
        (old,) = await append(log, draft("a"))
        await log.write(lambda writing: writing.settle(Standing.BEGINS), size=1)
        await log_under_test.append_elsewhere([draft("x")])
        assert (await log.read(lambda reading: reading.own())).standing is Standing.BEGINS
        await append(log, draft("b"), draft("c"))
        began, *written = (await every_event(log))[2:]
        assert (began.event.type, began.event.replaces) == (ORIGIN_BEGAN, old.event.ref)
        assert began.event.origin.node_id == origin.node_id
        assert began.event.origin.incarnation != origin.incarnation
        assert [(r.event.origin, r.event.seq, r.event.last_seq) for r in written] == [
            (began.event.origin, 2, 3),
            (began.event.origin, 3, 3),
        ]
        assert await log.read(lambda reading: reading.own()) == Own(began.event.origin, 3, Standing.CONTINUES)
        covered = await log.read(lambda reading: reading.position())
        assert set(covered.marks) == {r.event.origin.incarnation for r in await every_event(log)}

    async def test_a_refused_write_begins_no_incarnation(self, log_under_test: LogUnderTest) -> None:
        """What a function raises undoes the beginning as well, and the next write begins another."""
        log = log_under_test.log
        await append(log, draft("a"))
        await log.write(lambda writing: writing.settle(Standing.BEGINS), size=1)

        def refuse(writing: Writing[Any]) -> None:
            writing.append([draft("b")])
            raise NotFound("k")

        outcomes = await asyncio.gather(
            log.write(refuse, size=1), append(log, draft("c")), return_exceptions=True
        )
        assert isinstance(outcomes[0], NotFound)
        events = [r.event for r in await every_event(log)]
        assert [(e.type, e.seq) for e in events] == [("created", 1), (ORIGIN_BEGAN, 1), ("created", 2)]
        assert len({e.origin for e in events}) == 2

    async def test_no_incarnation_begins_that_other_nodes_would_not_take(
        self, log_under_test: LogUnderTest
    ) -> None:
        """Nothing is acknowledged under one origin too many; the log goes on once it need not begin any."""
        log, origin = log_under_test.log, log_under_test.origin
        await append(log, draft("a"))
        await log_under_test.know_origins(MAX_ORIGINS_TO_BEGIN - 2)
        await log.write(lambda writing: writing.settle(Standing.BEGINS), size=1)
        await append(log, draft("b"))
        assert await log.read(lambda reading: reading.origin_count()) == MAX_ORIGINS_TO_BEGIN
        assert len((await log.read(lambda reading: reading.position())).encode()) <= MAX_ENCODED
        before = await every_event(log)
        await log.write(lambda writing: writing.settle(Standing.BEGINS), size=1)
        for write in (
            lambda writing: writing.append([draft("c")]),
            lambda writing: writing.append_many([draft("c")], 1),
        ):
            with pytest.raises(Unavailable, match="start those"):
                await log.write(write, size=1)
        assert await every_event(log) == before
        assert (await log.read(lambda reading: reading.own())).standing is Standing.BEGINS
        await log.write(lambda writing: writing.settle(Standing.CONTINUES), size=1)
        (recorded,) = await append(log, draft("c"))
        assert recorded.event.origin.node_id == origin.node_id

    async def test_a_first_event_is_not_written_where_other_nodes_would_not_take_it(
        self, log_under_test: LogUnderTest
    ) -> None:
        """A log without an event of its own that has taken in those of too many others appends nothing to them."""
        log = log_under_test.log
        await log_under_test.know_origins(MAX_ORIGINS_TO_BEGIN)
        with pytest.raises(Unavailable, match="begin an origin"):
            await append(log, draft("a"))
        assert await log.read(lambda reading: reading.head()) == MAX_ORIGINS_TO_BEGIN

    async def test_held_writes_are_refused_with_the_reason(self, log_under_test: LogUnderTest) -> None:
        """Until the hold is lifted; what other logs wrote is taken in all the same."""
        log = log_under_test.log
        await log.write(lambda writing: writing.hold_writes("the clock is ahead"), size=1)
        assert await log.read(lambda reading: reading.writes_held()) == "the clock is ahead"
        with pytest.raises(Unavailable, match="the clock is ahead"):
            await append(log, draft("a"))
        await log_under_test.append_elsewhere([draft("b")])
        await log.write(lambda writing: writing.hold_writes(None), size=1)
        assert await log.read(lambda reading: reading.writes_held()) is None
        await append(log, draft("a"))
        assert await log.read(lambda reading: reading.head()) == 2

    async def test_the_latest_run_of_a_node_is_remembered(self, log_under_test: LogUnderTest) -> None:
        """Of each node the last one that was noted."""
        log = log_under_test.log
        assert await log.read(lambda reading: reading.runs()) == {}
        for node_id, run in (("node-b", "1"), ("node-c", "2"), ("node-b", "3")):
            await log.write(lambda writing: writing.fence(node_id, run), size=1)  # noqa: B023 - awaited here
        assert await log.read(lambda reading: reading.runs()) == {"node-b": "3", "node-c": "2"}

    async def test_invented_names_keep_no_node_out(self, log_under_test: LogUnderTest) -> None:
        """Invariant 10: the oldest are forgotten, but for members and those whose events are here."""
        log = log_under_test.log
        await log_under_test.append_elsewhere([draft("a")])
        names = [ELSEWHERE.node_id, "member", "again", *(f"x{number}" for number in range(MAX_RUNS + 44))]

        def flood(writing: Writing[Any]) -> None:
            for name in names:
                writing.fence(name, f"run of {name}", {"member"})
                if name == f"x{MAX_RUNS - 4}":
                    writing.fence("again", "run 2", {"member"})
            writing.fence("node-c", "run of c", {"member"})

        await log.write(flood, size=1)
        runs = await log.read(lambda reading: reading.runs())
        assert len(runs) == MAX_RUNS
        assert (runs[ELSEWHERE.node_id], runs["again"], runs["node-c"]) == (
            f"run of {ELSEWHERE.node_id}",
            "run 2",
            "run of c",
        )
        newest = [name for name in names if name.startswith("x")][-(MAX_RUNS - 4) :]
        assert set(runs) == {ELSEWHERE.node_id, "member", "again", "node-c", *newest}

    async def test_where_every_node_is_known_no_other_is_noted(self, log_under_test: LogUnderTest) -> None:
        """None of them is forgotten for it; a new run of one of them is noted."""
        log = log_under_test.log
        members = {f"m{number}" for number in range(MAX_RUNS)}

        def flood(writing: Writing[Any]) -> None:
            for name in members:
                writing.fence(name, "1", members)

        await log.write(flood, size=1)
        with pytest.raises(Unavailable, match="too many others"):
            await log.write(lambda writing: writing.fence("x", "1", members), size=1)
        await log.write(lambda writing: writing.fence("m0", "2", members), size=1)
        assert await log.read(lambda reading: reading.runs()) == dict.fromkeys(members, "1") | {"m0": "2"}


async def _two_origins(log_under_test: LogUnderTest) -> list[Recorded]:
    """A log that holds random writes of two origins, some of which lose; as it stands."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stamp = log_under_test.clock.now
    for number in range(24):
        drafts = [draft(key) for key in chance.sample("ab", chance.randint(1, 2))]
        # The first writes make both origins known, and a loser sure; what follows is left to chance.
        if number == 0 or (number > 1 and chance.random() < 0.5):
            await append(log_under_test.log, *drafts)
        else:
            stamp += chance.randrange(-3, 12) if number > 1 else -1000
            await log_under_test.append_elsewhere([replace(one, stamp=stamp) for one in drafts])
    return await every_event(log_under_test.log)


def _winner(events: Sequence[Recorded], recorded: Recorded) -> Event | None:
    """The greatest-stamped event of the same entry among these."""
    same = [r.event for r in events if r.event.key == recorded.event.key]
    return max(same, key=lambda event: event.precedence, default=None)
