"""Owns the salt as one worker has it: from its start on, or, in a new cluster, from when the steward has kept it.

Must not make a salt or ask for one, nor take a file that the log has not noted: what is sealed under a salt that is
then not kept can never be opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused, Unavailable
from oscd.events.salt import load_salt, salt_digest

_log = logging.getLogger("oscd.worker")

LOOK_SECONDS: Final = 0.5
"""How often a worker without a salt looks for the file."""

NO_SALT: Final = "This node has no salt yet: it takes its cluster's; GET /ready says for whom it waits."


class LateSalt:
    """The salt, once there is one; a `SaltSource`.

    Args:
        path: Where the steward keeps it.
        salt: What was there at the start of the node; None where nothing was.
        noted: Asks the log for the digest of its salt; None where it has noted none.
    """

    def __init__(self, path: Path, salt: bytes | None, noted: Callable[[], Awaitable[bytes | None]]) -> None:
        self._path = path
        self._salt = salt
        self._noted = noted
        self._watch: asyncio.Task[None] | None = None

    def __call__(self) -> bytes:
        """The salt.

        Raises:
            Unavailable: There is none yet.
        """
        if self._salt is None:
            raise Unavailable(NO_SALT, retry_after=1)
        return self._salt

    @property
    def trouble(self) -> str | None:
        """Why nothing can be sealed or opened; None where it can."""
        return NO_SALT if self._salt is None else None

    def start(self) -> None:
        """Begin to look for the file, on the running loop, where the salt is not known yet."""
        if self._salt is None:
            self._watch = asyncio.get_running_loop().create_task(self._look(), name="late salt")

    async def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})

    async def _look(self) -> None:
        is_failing = False
        while self._salt is None:
            try:
                self._salt = await self._kept()
            except (StartRefused, Unavailable) as trouble:
                if not is_failing:
                    _log.warning("the salt cannot be taken yet: %s", trouble)
                is_failing = True
            await asyncio.sleep(LOOK_SECONDS)

    async def _kept(self) -> bytes | None:
        """The salt of the file, where there is one and the log knows it."""
        if not await asyncio.to_thread(os.path.lexists, self._path):
            return None
        salt = await asyncio.to_thread(load_salt, self._path)
        return salt if await self._noted() == salt_digest(salt) else None
