"""Owns following a node's stream on a thread: the newest entries, for whoever asks, and a ring when they change.

Must not decide what a change is for, or raise: a stream that fails is told once, and tried for ever.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from oscd.client.entries import Json
from oscd.client.errors import ClientError
from oscd.client.mirror import Mirror
from oscd.client.service import Filters, Service
from oscd.client.subscription import changes

PAUSE_SECONDS: Final = 10.0
"""Before a node is asked again that would not have us at all, about so long."""


class Follower:
    """A thread that follows a node's stream until the process ends.

    Args:
        tell: Called with a line for a person: when the node is lost, and when it is back.

    Attributes:
        latest: Key → value of the entries; None until they were told whole.
    """

    def __init__(
        self,
        service: Service,
        filters: Filters,
        tell: Callable[[str], None],
    ) -> None:
        self.latest: dict[str, Json] | None = None
        self._service = service
        self._filters = filters
        self._tell = tell
        self._is_lost = False

    def start(self, ring: Callable[[], None]) -> None:
        """Begin. The thread holds nobody up who wants to end.

        Args:
            ring: Called after `latest` has changed, on the thread.
        """
        threading.Thread(target=self._run, args=[ring], name="follower", daemon=True).start()

    def _run(self, ring: Callable[[], None]) -> None:
        while True:
            try:
                self._follow(ring)
            except ClientError as error:
                self._lost(str(error))
                time.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    def _follow(self, ring: Callable[[], None]) -> None:
        """Follow one mirror until it is broken."""
        mirror = Mirror(self._filters)
        for frame in changes(self._service, mirror.wanted(), on_loss=self._lost):
            if frame.event == "connected":
                self._found()
            entries = mirror.take(frame)
            if mirror.is_broken:
                return
            if entries is not None:
                self.latest = entries
                ring()

    def _lost(self, why: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._tell(f"{why}; the command goes on as it is")

    def _found(self) -> None:
        if self._is_lost:
            self._is_lost = False
            self._tell("the node tells of changes again")
