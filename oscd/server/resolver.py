"""Owns how a worker looks up names: in threads that nothing waits for.

The system's resolver cannot be interrupted and may hang for a minute when there is no name server. uvloop's threads,
and those of asyncio's default executor, are waited for when the loop closes, and are so few that some names which
hang keep all others from being looked up. Must not remember an answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any, Final

MOST_LOOKUPS: Final = 64
"""Under way at one time: two for each peer a node may have, each of which is a thread while it hangs."""

Found = list[tuple[Any, ...]]
_Question = tuple[Any, ...]


class Resolver:
    """Looks up names for one event loop. All its methods belong to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[_Question, asyncio.Future[Found | Exception]] = {}

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Found:
        """As the method of an event loop; who asks the same at the same time shares a look-up.

        Raises:
            OSError: There is no such name, or no answer (`socket.gaierror`).
            UnicodeError: This cannot be a name.
        """
        question = (host, port, family, type, proto, flags)
        answer = self._asked.get(question) or self._ask(question)
        # Shielded: of those who share it one may give up.
        found = await asyncio.shield(answer)
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def _ask(self, question: _Question) -> asyncio.Future[Found | Exception]:
        if len(self._asked) >= MOST_LOOKUPS:
            raise socket.gaierror(socket.EAI_AGAIN, "the system's resolver does not answer")

        def ask() -> None:
            found: Found | Exception
            try:
                found = socket.getaddrinfo(*question)
            except Exception as error:
                found = error
            with suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(self._answered, question, found)

        # A daemon: the end of the process does not wait for it.
        threading.Thread(target=ask, name="resolver", daemon=True).start()
        answer: asyncio.Future[Found | Exception] = self._loop.create_future()
        self._asked[question] = answer
        return answer

    def _answered(self, question: _Question, found: Found | Exception) -> None:
        # A value even where it is an error: all who asked may have given up, and nobody would retrieve that.
        self._asked.pop(question).set_result(found)
