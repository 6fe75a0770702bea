"""Owns who subscribes: the streams of this worker, their limit and their end, and the sight of all workers' streams.

Counts go to the counters, and a list of this worker's streams to a file for the other workers, at most
`REPORT_SECONDS` after something changed; nothing happens while nothing does. Must not know what a stream sends.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from oscd.errors import Unavailable
from oscd.feed.board import Board
from oscd.streams import sse
from oscd.streams.subscription import Feed, Subscription
from oscd.streams.terms import End, Wanted
from oscd.times import microseconds_now

_log = logging.getLogger("oscd.streams")

REPORT_SECONDS: Final = 0.5
"""How old what other workers and the counters know of this one may become; contract §6 allows 1 s."""


class StreamCounters(Protocol):
    """Where streams are counted, for the whole node."""

    def subscribed(self) -> None:
        """A stream was opened."""

    def unsubscribed(self, seconds: float, *, by_client: bool) -> None:
        """One ended after so long; `by_client` says that this node had not ended it."""

    def abandoned(self, count: int) -> None:
        """So many ended with the worker that had them."""

    def sent(self, kind: str, count: int = 1) -> None:
        """Frames of this kind went out."""

    def kept_alive(self, count: int = 1) -> None:
        """Keep-alives went out."""

    def lagging(self, events: int) -> None:
        """How far the reader that stands furthest back is behind."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One stream as anybody may see it.

    Attributes:
        created_at: µs since 1970.
        lag: Events of the log it has not passed.
    """

    subscription_id: str
    filters: dict[str, str | None]
    created_at: int
    lag: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells the others of its streams. Times are µs since 1970, None where there is none yet."""

    streams: list[Seen]
    last_created_at: int | None
    last_sent_at: int | None
    greatest_lag: int


class Registry:
    """The streams of one worker.

    Args:
        board: How many streams each worker has.
        most: Streams the node may have.
        reports: Directory of the workers' reports; None where this process is alone.
        index: Which worker this is.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        counters: StreamCounters,
        board: Board,
        most: int,
        reports: Path | None = None,
        index: int = 0,
    ) -> None:
        self._feed = feed
        self._counters = counters
        self._board = board
        self._most = most
        self._reports = reports
        self._own_report = None if reports is None else reports / _report_name(index)
        self._streams: dict[asyncio.Task[Any], Subscription] = {}
        self._sent: Counter[str] = Counter()
        self._kept_alive = 0
        self._is_closing = False
        self._reporting: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._written: object = None
        # What the worker before this one told outlives it, but for its streams.
        before = None if self._own_report is None else _read(self._own_report)
        if before is None:
            before = Report([], None, None, 0)
        self._last_created_at = before.last_created_at
        self._last_sent_at = before.last_sent_at
        self._greatest_lag = before.greatest_lag
        counters.abandoned(board.abandoned)
        self.report()

    @property
    def active(self) -> int:
        """Streams that all workers have open now."""
        return self._board.total()

    def require_room(self) -> None:
        """Refuse one more stream where there is no room for it.

        Raises:
            Unavailable: The node has as many as it may, or is shutting down.
        """
        if self._is_closing:
            raise Unavailable("The node is shutting down.", retry_after=2)
        if self.active >= self._most:
            raise Unavailable(
                f"This node has as many streams as it takes ({self._most}, OSC_SSE_MAX_SUBSCRIPTIONS)."
            )

    async def open(self, wanted: Wanted, proved: Callable[[], None] | None = None) -> Subscription:
        """Begin a stream, which lasts as long as the task this is called from.

        Args:
            proved: As `Subscription`.

        Raises:
            Unavailable: The node has as many as it may, is shutting down, or its log cannot be read.
        """
        self.require_room()
        task = asyncio.current_task()
        assert task is not None
        subscription = Subscription(self._feed, wanted, self, proved)
        self._board.own += 1
        self._streams[task] = subscription
        task.add_done_callback(self._forget)
        await subscription.begin()
        self._last_created_at = subscription.created_at
        self._counters.subscribed()
        self.moved()
        return subscription

    def end_all(self) -> None:
        """Say goodbye to every stream, as the node shuts down, and take no more."""
        self._is_closing = True
        for subscription in tuple(self._streams.values()):
            subscription.end(End.SHUTDOWN)

    def revoke(self, accepted: Collection[bytes]) -> None:
        """End the streams whose API key is none of the accepted ones.

        Args:
            accepted: Their credentials (`ticket.credential`).
        """
        for subscription in tuple(self._streams.values()):
            held = subscription.wanted.credential
            if held is not None and held not in accepted:
                subscription.end(End.API_KEY_REMOVED)

    def sent(self, kind: str) -> None:
        """An event went out that is counted by its type."""
        self._sent[kind] += 1
        self.moved()

    def kept_alive(self) -> None:
        """A keep-alive went out."""
        self._kept_alive += 1
        self.moved()

    def moved(self) -> None:
        """Something is to be told."""
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(REPORT_SECONDS, self.report)

    def report(self) -> None:
        """Tell counters and other workers what has changed since the last time."""
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        if self._sent:
            self._last_sent_at = microseconds_now()
        for kind, count in self._sent.items():
            self._counters.sent(kind, count)
        self._counters.kept_alive(self._kept_alive)
        self._sent.clear()
        self._kept_alive = 0
        lag = max((subscription.lag for subscription in self._streams.values()), default=0)
        self._greatest_lag = max(self._greatest_lag, lag)
        self._counters.lagging(lag)
        if self._own_report is not None:
            self._write(self._own_report)

    def _write(self, path: Path) -> None:
        """Have the other workers told, on a thread, unless they know it all or are being told just now."""
        if self._writing is not None and not self._writing.done():
            self.moved()
            return
        own = self._own()
        if own != self._written:
            self._written = own
            self._writing = asyncio.get_running_loop().run_in_executor(None, _write, path, own)

    async def seen(self) -> Report:
        """All streams of the node; those of other workers as they were at most `REPORT_SECONDS` ago."""
        own = self._own()
        if self._reports is None:
            return own
        return _joined([own, *await asyncio.to_thread(_read_others, self._reports, self._own_report)])

    def _own(self) -> Report:
        return Report(
            [
                Seen(one.id, sse.filters(one.wanted.filter), one.created_at, one.lag)
                for one in self._streams.values()
            ],
            self._last_created_at,
            self._last_sent_at,
            self._greatest_lag,
        )

    def _forget(self, task: asyncio.Task[Any]) -> None:
        subscription = self._streams.pop(task)
        subscription.close()
        self._board.own -= 1
        if subscription.has_begun:
            by_client = subscription.ending is None and not _has_failed(task)
            self._counters.unsubscribed(subscription.age, by_client=by_client)
        self.moved()


def _report_name(index: int | str) -> str:
    return f"streams-{index}.json"


def _write(path: Path, report: Report) -> None:
    """Put a report where the others look, whole or not at all."""
    try:
        new = path.with_suffix(".new")
        new.write_bytes(orjson.dumps(report))
        os.replace(new, path)
    except OSError as error:
        _log.warning("other workers cannot be told of this one's streams: %s", error.strerror)


def _read_others(directory: Path, own: Path | None) -> list[Report]:
    reports = (_read(path) for path in directory.glob(_report_name("*")) if path != own)
    return [report for report in reports if report is not None]


def _read(path: Path) -> Report | None:
    """What a worker has told; None where it has not yet."""
    try:
        document = orjson.loads(path.read_bytes())
    except OSError:
        return None
    return Report(**{**document, "streams": [Seen(**stream) for stream in document["streams"]]})


def _has_failed(task: asyncio.Task[Any]) -> bool:
    """Whether a stream ended by a fault of ours, and not because its client left or takes nothing."""
    error = None if task.cancelled() else task.exception()
    return error is not None and not isinstance(error, ConnectionError)


def _joined(reports: Iterable[Report]) -> Report:
    all_of_them = list(reports)
    return Report(
        [stream for report in all_of_them for stream in report.streams],
        _latest(report.last_created_at for report in all_of_them),
        _latest(report.last_sent_at for report in all_of_them),
        max(report.greatest_lag for report in all_of_them),
    )


def _latest(times: Iterable[int | None]) -> int | None:
    return max((time for time in times if time is not None), default=None)
