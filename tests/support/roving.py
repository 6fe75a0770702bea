"""Owns clients that go from node to node of a cluster, as behind a load balancer: writers and subscribers.

Writers know what was acknowledged to them; subscribers do what contract §6 asks of a careful client. Must not know
which node is up.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from random import Random
from urllib.parse import urlencode

from tests.support.changes import CATEGORIES, ENVIRONMENTS
from tests.support.guarantees import brief
from tests.support.history import Filters, History, Received
from tests.support.log_file import EntryName
from tests.support.node import key_headers
from tests.support.subscriber import Condition, Subscriber, Wanted

ANSWER_SECONDS = 2.0
"""How long a writer waits for a node that may have been stopped."""
LONGEST_THOUGHT_SECONDS = 0.03
_ACKNOWLEDGED = (200, 201)
_EXPECTED = (400, 404, 503)
"""Somebody else was faster, here or on another node; or the node cannot write yet."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that a node has promised to keep.

    Attributes:
        position: As it was answered.
        tag: The `ETag` without its quotes, the id of the event; None for a delete.
    """

    port: int
    name: EntryName
    position: str
    tag: str | None


class RovingWriter:
    """Writes to random entries on random nodes, among others who do the same.

    Args:
        ports: Of the nodes.
        keys: Names of the entries, in each of `ENVIRONMENTS`.

    Attributes:
        acknowledged: Everything that was.
        answers: How many there were, by status; 0 for none.
        unexpected: Answers that no writer should ever get.
        asked: Port of the node that it is asking now; None between two calls.
    """

    def __init__(self, ports: Sequence[int], keys: Sequence[str], random: Random, api_key: str) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.answers: Counter[int] = Counter()
        self.unexpected: list[str] = []
        self.asked: int | None = None
        self._ports = ports
        self._keys = keys
        self._random = random
        self._headers = key_headers(api_key=api_key)
        self._connections: dict[int, HTTPConnection] = {}

    def run(self, stop: threading.Event) -> None:
        """Write until it is told to stop."""
        while not stop.is_set():
            self.asked = self._random.choice(self._ports)
            try:
                # Whoever takes a port from the list and then sees nobody ask there is sure that nobody does.
                if self.asked in self._ports:
                    self._write(self.asked)
            except (OSError, HTTPException):
                self.answers[0] += 1
            self.asked = None
            stop.wait(self._random.uniform(0, LONGEST_THOUGHT_SECONDS))
        for connection in self._connections.values():
            connection.close()

    def _write(self, port: int) -> None:
        name = (self._random.choice(ENVIRONMENTS), self._random.choice(self._keys))
        method, path, body = self._request(name)
        connection = self._connections.pop(port, None) or HTTPConnection(
            "127.0.0.1", port, timeout=ANSWER_SECONDS
        )
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            told = answer.read()
        except BaseException:
            connection.close()
            raise
        self._connections[port] = connection
        self.answers[answer.status] += 1
        if answer.status in _ACKNOWLEDGED:
            tag = answer.getheader("ETag")
            position = answer.getheader("X-OSC-Position", "")
            self.acknowledged.append(Acknowledged(port, name, position, tag and tag.strip('"')))
        elif answer.status not in _EXPECTED:
            self.unexpected.append(f"{method} {path}: {answer.status} {told.decode()}")

    def _request(self, name: EntryName) -> tuple[str, str, str]:
        environment, key = name
        path = f"/configs/{key}?{urlencode({'environment': environment})}"
        value = "x" * self._random.randrange(200)
        lot = self._random.random()
        if lot < 0.15:
            return "DELETE", path, ""
        category = self._random.choice([None, *CATEGORIES])
        if lot < 0.4:
            document = {"environment": environment, "key": key, "value": value, "category": category}
            return "POST", "/configs", json.dumps(document)
        return (
            "PUT",
            path,
            json.dumps({"value": value} | ({} if category is None else {"category": category})),
        )


class RovingSubscriber:
    """One logical subscriber that moves between nodes with `Last-Event-ID`, and starts over where it must.

    Attributes:
        moves: Connections beyond the first that resumed.
        resets: How often it was told to start over.
        unreached: Connections that nobody took, or that fell silent.
    """

    SILENCE_SECONDS = 2.5
    """Longer than a keep-alive takes; a node that says nothing for so long is stopped."""

    def __init__(self, ports: Sequence[int], filters: Filters, random: Random, api_key: str) -> None:
        self._ports = ports
        self._random = random
        wanted = Wanted(filters, key_headers(api_key=api_key), snapshot=True)
        self._subscriber = Subscriber(ports[0], wanted, silence=self.SILENCE_SECONDS)
        self._starts_over = True
        self.moves = self.resets = self.unreached = 0

    @property
    def history(self) -> History:
        """What it was told, over all its connections."""
        return self._subscriber.history

    def run(self, stop: threading.Event, longest_stay: float) -> None:
        """Move from node to node, staying for so many seconds at most, until it is told to stop."""
        while not stop.is_set():
            self._stay(self._random.choice(self._ports), self._random.uniform(0, longest_stay))

    def finish(self, told: Condition, seconds: float) -> None:
        """Go on at any node until a condition holds.

        Raises:
            AssertionError: The time is over.
        """
        deadline = time.monotonic() + seconds
        while not (self._is_whole() and told(self._subscriber.history)):
            assert time.monotonic() < deadline, f"not told within {seconds:g} s: {self._last_frames()}"
            self._stay(self._random.choice(self._ports), 1.0, told)
        self._subscriber.close()

    def _stay(self, port: int, seconds: float, told: Condition | None = None) -> None:
        until = time.monotonic() + seconds
        if not self._connect(port):
            return
        try:
            while time.monotonic() < until and self._subscriber.read():
                if any(frame.event == "reset" for frame in self._frames()):
                    self.resets += 1
                    self._starts_over = True
                    break
                if told is not None and self._is_whole() and told(self._subscriber.history):
                    break
        except TimeoutError:
            self.unreached += 1
        self._random.choice([self._subscriber.close, self._subscriber.cut])()

    def _connect(self, port: int) -> bool:
        subscriber = self._subscriber
        subscriber.port = port
        starts_over = self._starts_over or not self._is_whole()
        subscriber.wanted = replace(subscriber.wanted, snapshot=starts_over)
        try:
            subscriber.open(None if starts_over else subscriber.history.last_id)
        except OSError:
            self.unreached += 1
            time.sleep(self._random.uniform(0, 0.1))
            return False
        self.moves += not starts_over
        self._starts_over = False
        return True

    def _is_whole(self) -> bool:
        """Whether what it holds has a place to resume from: a snapshot that was cut off has none."""
        attempts = self._subscriber.history.attempts
        if not attempts or self._starts_over:
            return False
        return not attempts[-1].began_with_snapshot or any(
            frame.event == "bookmark" for frame in attempts[-1].frames
        )

    def _frames(self) -> list[Received]:
        return self._subscriber.history.attempts[-1].frames

    def _last_frames(self) -> list[Received]:
        attempts = self._subscriber.history.attempts
        return attempts[-1].frames[-3:] if attempts else []


def steps_back(history: History) -> list[str]:
    """Where a subscriber was told of an entry what is not later than what it had been told, in one run; in words.

    A stamp is the time of the write in all that these writers do. Two nodes may give the same: their origins decide.
    """
    found = []
    for run in history.runs():
        last: dict[EntryName, tuple[str, str]] = {}
        for frame in run.frames():
            if not (frame.is_change or frame.event == "snapshot"):
                continue
            stamp = (frame.data["timestamp"], frame.data["node_id"])
            if frame.entry in last and stamp <= last[frame.entry]:
                found.append(f"{brief(frame)} of {stamp} was told after that of {last[frame.entry]}")
            last[frame.entry] = stamp
    return found
