"""Owns load that goes on while nodes are restarted: writers, readers and listeners, and what each of them met.

Calls that are idempotent are made again as a careful client does; others are not. Must not restart anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Final

import httpx

from compose.shipped import NODES
from tests.compose.through_nginx import Caller, Listener
from tests.support.waiting import PATIENCE, wait_until

ENVIRONMENT: Final = "rolling"
STEADY: Final = "steady"
"""An entry that is there from before the load, and that readers read."""

LAST: Final = "last"
"""A key that is written once every node has everything else: who hears of it has heard all, as a log is causal."""

WRITERS: Final = 2
LISTENERS: Final = 2
_PAUSE_SECONDS: Final = 0.05
"""Between two calls of one caller: load, and not a flood that has no processor left for the nodes."""

_TRY_SECONDS: Final = 10.0
_PASSING: Final = frozenset({502, 503, 504})


class Load:
    """What goes on until it is stopped, and what came of it.

    Attributes:
        acknowledged: Keys whose create was answered with success, in no order.
        refused: Sentences on calls that a retry did not save.
        tries: How many calls took so many tries.
        reads: How many reads were answered as they must be.
        heard: Of each listener, how often it was told that a key was created.
        resets: How often a listener was told that it cannot resume.
    """

    def __init__(self, caller: Caller, listeners: list[Listener]) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.tries: Counter[int] = Counter()
        self.reads = 0
        self.heard: list[Counter[str]] = [Counter() for _ in listeners]
        self.resets = 0
        self._caller = caller
        self._listeners = listeners
        self._stop = Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Go on for as long as the block does; then write the last key, and wait until everybody has heard of it."""
        with self._caller.client() as client:
            body = {"key": STEADY, "environment": ENVIRONMENT, "value": STEADY}
            assert client.post("/configs", json=body).status_code == 201
            connected = [Event() for _ in self._listeners]
            with ThreadPoolExecutor(WRITERS + 1 + len(self._listeners)) as pool:
                listening = [pool.submit(self._listen, n, there) for n, there in enumerate(connected)]
                assert all(there.wait(PATIENCE) for there in connected)
                calling = [pool.submit(self._write, number) for number in range(WRITERS)]
                calling.append(pool.submit(self._read))
                try:
                    yield
                finally:
                    self._stop.set()
                    _await(calling)
                    self.await_everywhere()
                    self._create(client, LAST)
                    _await(listening)

    def await_everywhere(self) -> None:
        """Wait until every node has each key that was acknowledged."""
        for node in NODES:
            wait_until(lambda: self._keys_on(node) >= {*self.acknowledged}, what=f"{node} to have it all")  # noqa: B023

    def _keys_on(self, node: str) -> set[str]:
        """The keys of the load that a node has."""
        with self._caller.client(node) as client:
            listed = client.get(f"/configs?environment={ENVIRONMENT}").raise_for_status().json()
        return {entry["key"] for entry in listed}

    def _write(self, writer: int) -> None:
        with self._caller.client() as client:
            number = 0
            while not self._stop.wait(_PAUSE_SECONDS):
                self._create(client, f"w{writer}/{number}")
                number += 1

    def _create(self, client: httpx.Client, key: str) -> None:
        """A PUT that creates: made again it says 412 where the first one came through after all."""
        until, tries = time.monotonic() + _TRY_SECONDS, 0
        while True:
            tries += 1
            met = self._put(client, key)
            if met in (201, 200) or (met == 412 and self._is_there(client, key)):
                self.tries[tries] += 1
                self.acknowledged.append(key)
                return
            if met not in _PASSING | {None} or time.monotonic() > until:
                self.refused.append(f"PUT {key}: {met} at try {tries}")
                return

    def _put(self, client: httpx.Client, key: str) -> int | None:
        """The status; None where there is no answer."""
        try:
            answer = client.put(
                f"/configs/{key}?environment={ENVIRONMENT}",
                json={"value": key},
                headers={"If-None-Match": "*"},
            )
        except httpx.TransportError:
            return None
        self._heed(answer)
        return answer.status_code

    def _is_there(self, client: httpx.Client, key: str) -> bool:
        return self._get(client, key) == key

    def _read(self) -> None:
        with self._caller.client() as client:
            while not self._stop.wait(_PAUSE_SECONDS):
                if self._get(client, STEADY) == STEADY:
                    self.reads += 1
                else:
                    self.refused.append(f"GET {STEADY}: nothing at all")

    def _get(self, client: httpx.Client, key: str) -> object:
        """The value; None where a retry did not help."""
        until, tries = time.monotonic() + _TRY_SECONDS, 0
        while time.monotonic() < until:
            tries += 1
            try:
                answer = client.get(f"/configs/{key}?environment={ENVIRONMENT}")
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                self.tries[tries] += 1
                value: object = answer.json()["value"]
                return value
            if answer.status_code not in _PASSING:
                return None
            self._heed(answer)
        return None

    def _heed(self, answer: httpx.Response) -> None:
        """Wait for as long as a refusal asks for."""
        if answer.status_code in _PASSING:
            self._stop.wait(float(answer.headers.get("Retry-After", "0")))

    def _listen(self, number: int, there: Event) -> None:
        """Listen, over as many connections as it takes, until the last key is heard of."""
        until = time.monotonic() + 4 * PATIENCE
        while time.monotonic() < until:
            try:
                with self._listeners[number].connected() as frames:
                    for event, data in frames:
                        there.set()
                        self.resets += event == "reset"
                        if event != "created":
                            continue
                        self.heard[number][data["key"]] += 1
                        if data["key"] == LAST:
                            return
            except httpx.HTTPError:
                time.sleep(_PAUSE_SECONDS)  # as EventSource does, though for longer
        raise AssertionError(f"listener {number} never heard of {LAST!r}")


def _await(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result(5 * PATIENCE)
