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
        "        return max(self._clock(), self.tip.greatest_stamp + 1)\n",
        "        return max(self._clock(), self.tip.origin_stamp + 1)\n",
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
)
"""In the order of the data: from the disk to the reader, then between nodes."""
