"""Owns who calls and listens through the nginx of compose.yaml, with keys of a trial. Must not judge an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from compose.stack import Stack
from tests.support.node import key_headers
from tests.support.sse import Frame, SseParser
from tests.support.waiting import PATIENCE

Heard = tuple[str, dict[str, Any]]
"""A named frame: its event and its data."""


class Caller:
    """Who has the keys of the trial.

    Attributes:
        headers: Both keys.
    """

    def __init__(self, stack: Stack, trial: Path) -> None:
        user, api = ((trial / name).read_text().strip() for name in ("user-key", "api-key"))
        self.headers = key_headers(user, api)
        self._stack = stack

    def client(self, service: str = "nginx") -> httpx.Client:
        """Asks through nginx, or one node; the caller closes it."""
        return httpx.Client(
            base_url=self._stack.url(service),
            headers=self.headers,
            verify=self._stack.trust,
            timeout=PATIENCE,
            trust_env=False,
        )


class Listener:
    """A subscriber that knows where it stands, so that each connection goes on where the last one ended.

    Attributes:
        position: The last id it was told; None before the first.
        connections: How often it has been let in.
    """

    def __init__(self, stack: Stack, query: str, headers: Mapping[str, str]) -> None:
        self.position: str | None = None
        self.connections = 0
        self._stack = stack
        self._query = query
        self._headers = dict(headers)

    @contextmanager
    def connected(self) -> Iterator[Iterator[Heard]]:
        """The named frames of one connection, until it ends, however it does.

        Raises:
            httpx.HTTPError: There is none, or it is refused.
        """
        where = {} if self.position is None else {"Last-Event-ID": self.position}
        url = f"{self._stack.url('nginx')}/sse/subscribe?{self._query}"
        with (
            httpx.Client(verify=self._stack.trust, timeout=PATIENCE, trust_env=False) as client,
            client.stream("GET", url, headers=self._headers | where) as response,
        ):
            response.raise_for_status()
            self.connections += 1
            yield self._frames(response)

    def _frames(self, response: httpx.Response) -> Iterator[Heard]:
        parser = SseParser()
        try:
            for part in response.iter_raw():
                for item in parser.feed(part):
                    if not isinstance(item, Frame):
                        continue
                    if item.id is not None:
                        self.position = item.id
                    if item.data is not None:
                        yield item.event, orjson.loads(item.data)
        except httpx.TransportError:
            return
