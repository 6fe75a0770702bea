"""Owns the faults that the tests must be able to see: each one edit of oscd, and the tests that it turns red.

A test that cannot fail proves nothing. Whoever changes a line named here changes it here as well; a test of the suite
says so. Must not run anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that somebody might break.

    Attributes:
        name: What is broken, in words.
        path: The file it is in.
        old: Text that stands in it exactly once …
        new: … and what it becomes.
        tests: What must turn red, each of them; ids as pytest takes them.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, tree: Path) -> None:
        """Break a copy of the tree.

        Raises:
            ValueError: The text does not stand there exactly once.
        """
        file = tree / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text stands {text.count(self.old)} times in {self.path}")
        file.write_text(text.replace(self.old, self.new))


FAULTS: Final = (
    Fault(
        "skip the fsync",
        "oscd/events/sqlite/file.py",
        '"synchronous = FULL",',
        '"synchronous = OFF",',
        ("tests/end_to_end/test_durability.py::test_no_answer_leaves_before_its_commit_is_synced",),
    ),
    Fault(
        "answer before commit",
        "oscd/events/sqlite/log.py",
        "                finish(connection)\n",
        "                for job in jobs:\n"
        "                    if job.future is not None:\n"
        "                        job.future.get_loop().call_soon_threadsafe(job.deliver)\n"
        "                finish(connection)\n",
        ("tests/end_to_end/test_durability.py::test_a_write_whose_sync_fails_is_not_acknowledged",),
    ),
    Fault(
        "announce before commit",
        "oscd/events/sqlite/log.py",
        "        events, seconds = await self._run(self._writer, partial(self._commit_on_thread, jobs))\n",
        "        if self._committed is not None:\n"
        "            self._committed(len(jobs), 0.001)\n"
        "        events, seconds = await self._run(self._writer, partial(self._commit_on_thread, jobs))\n",
        ("tests/events/test_log_sqlite.py::test_each_commit_that_appended_is_told_before_its_answers",),
    ),
    Fault(
        "drop an event on a slow reader",
        "oscd/feed/tail.py",
        "        if wanted > held:\n            return None\n",
        "        wanted = min(wanted, held)\n",
        ("tests/feed/test_tail.py::test_the_window_is_bounded_and_who_falls_out_rereads",),
    ),
    Fault(
        "compare wall clocks",
        "oscd/events/sqlite/transaction.py",
        "        return max(self._clock(), page.greatest_stamp + 1)\n",
        "        return max(self._clock(), end.stamp + 1)\n",
        (
            "tests/events/test_log_sqlite.py::TestSqliteLog"
            "::test_own_events_are_stamped_after_those_from_elsewhere",
        ),
    ),
    Fault(
        "forget a tombstone",
        "oscd/projections/entry.py",
        "    if current is not None and recorded.event.precedence <= current.precedence:\n",
        "    if current is not None and not current.deleted and recorded.event.precedence <= current.precedence:\n",
        (
            "tests/projections/test_projections.py::test_the_order_of_arrival_does_not_matter",
            "tests/projections/test_projections.py::test_the_winner_is_the_greatest_stamp_then_origin",
        ),
    ),
    Fault(
        "tell a change that lost its merge",
        "oscd/feed/frame.py",
        "    if not event.is_of_entry or (previous is not None and event.precedence <= previous.precedence):\n",
        "    if not event.is_of_entry:\n",
        (
            "tests/feed/test_frame.py::test_an_event_that_loses_is_not_told",
            "tests/feed/test_frame.py::test_frames_in_any_causal_order_leave_the_winner",
        ),
    ),
    Fault(
        "let a reader resume within a write",
        "oscd/feed/tail.py",
        "        ends_write = event.seq == event.last_seq\n",
        "        ends_write = True\n",
        ("tests/feed/test_tail.py::test_a_place_inside_a_write_resumes_before_it",),
    ),
    Fault(
        "open the shipped log to anybody",
        "oscd/api/guard.py",
        '        shown = _accepted(exchange.headers.get(b"x-api-key", b""), self.cluster_keys)\n',
        '        shown = exchange.headers.get(b"x-api-key", b"") or None\n',
        ("tests/api/test_guard.py::test_salt_and_log_open_to_the_cluster_key_only",),
    ),
    Fault(
        "ingest without the chain check",
        "oscd/replication/verify.py",
        "    if codec.chain_digest(tip.digest, candidate.header) != candidate.digest:\n",
        "    if len(candidate.digest) != codec.DIGEST_BYTES:\n",
        (
            "tests/replication/test_verify.py::test_another_history_of_an_origin_is_a_fork",
            "tests/cluster/test_hostile_peers.py::test_an_origin_that_may_not_be_taken_is_held",
        ),
    ),
    Fault(
        "take a stamp of the year 9999",
        "oscd/replication/verify.py",
        "    if event.stamp > terms.now + MAX_AHEAD:\n",
        "    if event.stamp < terms.now - MAX_AHEAD * 365_000:\n",
        (
            "tests/replication/test_verify.py::test_the_year_9999_is_held_and_an_hour_ahead_is_not",
            "tests/replication/test_take.py::test_clocks_are_unharmed_by_what_is_held",
        ),
    ),
    Fault(
        "believe a body that was changed",
        "oscd/replication/verify.py",
        "    if frame.body is None or codec.body_digest(frame.body) != event.body_digest:\n",
        "    if frame.body is None:\n",
        ("tests/replication/test_verify.py::test_what_was_changed_on_the_way_condemns_the_stream",),
    ),
    Fault(
        "believe the length of a frame",
        "oscd/replication/wire.py",
        "            if header > MAX_HEADER_BYTES or body > self._max_body_bytes:\n",
        "            if header < 0:\n",
        ("tests/replication/test_wire.py::test_a_giant_frame_is_refused_before_it_is_read",),
    ),
    Fault(
        "pass over an event that is another one here",
        "oscd/replication/take.py",
        "        if here is None or here.digest != candidate.digest:\n",
        "        if here is None:\n",
        ("tests/replication/test_take.py::test_a_held_origin_does_not_hold_the_others",),
    ),
    Fault(
        "take part of a write",
        "oscd/replication/reception.py",
        "        return event.seq == event.last_seq\n",
        "        return event.seq <= event.last_seq\n",
        ("tests/replication/test_reception.py::test_writes_come_whole_and_in_order",),
    ),
    Fault(
        "ignore that a peer has started anew",
        "oscd/replication/take.py",
        "    if writing.runs().get(sender.node_id) != sender.run:\n",
        "    if not sender.run:\n",
        ("tests/replication/test_take.py::test_what_an_older_run_had_on_its_way_is_refused",),
    ),
    Fault(
        "take what claims to be this node's own",
        "oscd/replication/take.py",
        "        if incarnation == self._own:\n",
        "        if incarnation == self._own + self._own:\n",
        ("tests/replication/test_take.py::test_nobody_writes_under_the_origin_of_a_running_node",),
    ),
    Fault(
        "never try again what was held",
        "oscd/replication/cluster.py",
        "                if link.state is LinkState.LIVE and link.again.is_due(link.sight.held):\n",
        "                if link.state is LinkState.REFUSED and link.again.is_due(link.sight.held):\n",
        ("tests/cluster/test_hostile_peers.py::test_what_was_held_is_taken_once_it_is_sound",),
    ),
    Fault(
        "re-issue a sequence number after restore",
        "oscd/replication/continuation.py",
        "    if own.standing is Standing.CONTINUES:\n",
        "    if own.standing is not Standing.BEGINS:\n",
        (
            "tests/replication/test_continuation.py::test_the_rule",
            "tests/cluster/test_restored_copy.py::test_no_number_is_issued_twice",
        ),
    ),
)
"""In the order of the data: from the disk to the reader, then between nodes."""
