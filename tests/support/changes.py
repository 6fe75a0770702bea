"""Owns a load of creates, updates, moves between categories and deletes that knows what it was answered.

Keys are one writer's own, so each knows the effect of what it does. Must not retry, or read what it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from random import Random
from typing import Any
from urllib.parse import urlencode

from tests.support.node import key_headers
from tests.support.truth import Effect, EntryName, Held, Write
from tests.support.waiting import PATIENCE

ENVIRONMENTS = ("blue", "green")
CATEGORIES = ("red", "yellow", "")
"""The last one is none."""

KEYS_EACH = 6


def key_of(writer: int, number: int) -> str:
    """The name of a writer's key; it has an entry of that name in each environment."""
    return f"k{writer}/{number}"


class Load:
    """Many writers at once, on a node of which nothing else is asked meanwhile.

    Args:
        port: Where the node serves; it holds no entry.
        seed: Decides what the writers do.
        writes: How many writes they do, together.

    Attributes:
        start: A position before the first of its writes, when the node still holds nothing.
        writes: What was acknowledged, in no order.
        end: The position of the last write; empty until `run` has ended.
    """

    def __init__(self, port: int, seed: str, *, writers: int, writes: int) -> None:
        self._port = port
        self._writers = [Changer(number, Random(f"{seed}-{number}")) for number in range(writers)]
        self._each = writes // writers
        self.end = ""
        first = Changer(writers, Random(seed))
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        first.create(connection, ("before", "first"), "")
        first.delete(connection, ("before", "first"))
        connection.close()
        self.start = first.writes[-1].position
        self._last = Changer(writers + 1, Random(seed))

    @property
    def writes(self) -> list[Write]:
        return [write for writer in (*self._writers, self._last) for write in writer.writes]

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(len(writer.writes) for writer in self._writers)

    def run(self) -> None:
        """Write all of it, and then one entry that matches few.

        Raises:
            AssertionError: A write was not acknowledged.
        """
        with ThreadPoolExecutor(len(self._writers)) as pool:
            for end in [pool.submit(writer.run, self._port, self._each) for writer in self._writers]:
                end.result()
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        self._last.create(connection, ("after", "last"), "")
        connection.close()
        self.end = self._last.writes[-1].position


class Changer:
    """One writer.

    Attributes:
        writes: What was acknowledged, in order.
    """

    def __init__(self, number: int, random: Random) -> None:
        self.writes: list[Write] = []
        self._number = number
        self._random = random
        self._held: dict[EntryName, Held] = {}

    def run(self, port: int, writes: int) -> None:
        """Do so many writes, one after the other.

        Raises:
            AssertionError: One was not acknowledged.
        """
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for _ in range(writes):
            name = (
                self._random.choice(ENVIRONMENTS),
                key_of(self._number, self._random.randrange(KEYS_EACH)),
            )
            if name not in self._held:
                self.create(connection, name, self._random.choice(CATEGORIES))
            elif self._random.random() < 0.25:
                self.delete(connection, name)
            else:
                self.update(connection, name, self._random.choice([None, *CATEGORIES]))
        connection.close()

    def create(self, connection: HTTPConnection, name: EntryName, category: str) -> None:
        """Make an entry."""
        environment, key = name
        body = {"environment": environment, "key": key, "value": self._value(), "category": category}
        answer, position = _ask(connection, "POST", "/configs", body)
        self._done(position, "created", name, answer)

    def update(self, connection: HTTPConnection, name: EntryName, category: str | None) -> None:
        """Give an entry another value, and another category unless that is None."""
        body = {"value": self._value()} | ({} if category is None else {"category": category})
        answer, position = _ask(connection, "PUT", _path(name), body)
        self._done(position, "updated", name, answer)

    def delete(self, connection: HTTPConnection, name: EntryName) -> None:
        """End an entry. The version of a delete is the next one of its life."""
        _, position = _ask(connection, "DELETE", _path(name), None)
        self._done(position, "deleted", name, {"version": self._held[name].version + 1, "category": None})

    def _done(self, position: str, event: str, name: EntryName, answer: Mapping[str, Any]) -> None:
        before = self._held.pop(name, None)
        after = Held(answer["version"], answer["category"])
        if event != "deleted":
            self._held[name] = after
        had = None if before is None else before.category
        self.writes.append(Write(position, (Effect(event, *name, after.version, had, after.category),)))

    def _value(self) -> str:
        return "x" * self._random.randrange(200)


def _path(name: EntryName) -> str:
    environment, key = name
    return f"/configs/{key}?{urlencode({'environment': environment})}"


def _ask(
    connection: HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """What was answered, and the position."""
    headers = key_headers()
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    told = answer.read()
    assert answer.status in {200, 201}, f"{method} {path}: {answer.status} {told.decode()}"
    position = answer.getheader("X-OSC-Position")
    assert position, f"{method} {path}: no position"
    document: dict[str, Any] = json.loads(told)
    return document, position
