"""Owns a client that writes until its node is gone, and knows what the node owes it afterwards.

Keys are one writer's own, so what a key may hold follows from its answers alone: exactly what was last
acknowledged, or, where a request was never answered, that or what was asked for. Must not retry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from random import Random

from tests.support.node import key_headers
from tests.support.waiting import PATIENCE

ENVIRONMENT = "written"
LONGEST_VALUE = 6000
"""Some values take more than one page of the file, so that a write could be half there at all."""

State = str | None
"""The value of an entry, None where it does not exist."""


class Writer:
    """One writer over all the lives of its node.

    Args:
        keys: Its own; no entry of theirs exists yet.
        random: Decides what it does.

    Attributes:
        acknowledged: Writes that were answered with 2xx.
        unexpected: Answers that no writer should ever get.
    """

    def __init__(self, keys: Sequence[str], random: Random) -> None:
        self.acknowledged = 0
        self.unexpected: list[str] = []
        self._random = random
        self._possible: dict[str, set[State]] = {key: {None} for key in keys}
        self._written = 0

    def run(self, port: int) -> None:
        """Write, one request after the other, until the connection breaks."""
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            while True:
                self._write(connection, self._random.choice(list(self._possible)))
        except (HTTPException, ConnectionError):
            pass
        finally:
            connection.close()

    def settle(self, found: Mapping[str, State]) -> None:
        """Compare what the node holds with what it owes, and go on from there.

        Raises:
            AssertionError: An acknowledged write is lost, or something nobody asked for is there.
        """
        assert not self.unexpected, self.unexpected
        for key, possible in self._possible.items():
            state = found.get(key)
            assert state in possible, (
                f"{key} is {_brief(state)}, not one of {[_brief(one) for one in possible]}"
            )
            self._possible[key] = {state}

    def _write(self, connection: HTTPConnection, key: str) -> None:
        (before,) = self._possible[key]
        path = f"/configs/{key}?environment={ENVIRONMENT}"
        after: State = self._new_value(key)
        if before is None:
            method, path = "POST", "/configs"
            body = json.dumps({"key": key, "environment": ENVIRONMENT, "value": after})
        elif self._random.random() < 0.3:
            method, after, body = "DELETE", None, ""
        else:
            method, body = "PUT", json.dumps({"value": after})
        self._possible[key] = {before, after}
        connection.request(method, path, body, key_headers())
        answer = connection.getresponse()
        told = answer.read()
        self._possible[key] = {after if answer.status < 300 else before}
        if answer.status < 300:
            self.acknowledged += 1
        elif answer.status != 503:
            self.unexpected.append(f"{method} {path}: {answer.status} {told.decode()}")

    def _new_value(self, key: str) -> str:
        self._written += 1
        return f"{key} {self._written} " + "x" * self._random.randrange(LONGEST_VALUE)


def _brief(state: State) -> str:
    return "absent" if state is None else state[:40]
