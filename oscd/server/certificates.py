"""Owns the TLS contexts in force in one worker, and their renewal (SIGHUP).

A context is made anew from all of its files and then takes the place of the one before as a whole: a handshake meets
the old files or the new ones, never a certificate with another's key. Connections go on as they began.
Must not end a connection, nor let go of a context for files that will not do.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from oscd.errors import StartRefused
from oscd.server.settings import Settings
from oscd.server.tls import peer_tls_context, served_end, shown_end, tls_context, validity_warning

_log = logging.getLogger("oscd.worker")

SERVING: Final = "serving"
PEERS: Final = "peers"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was made of files.

    Attributes:
        end: When its certificate ends; None where there is none, or its dates cannot be told.
        warning: What to tell of a certificate that does not count now.
    """

    context: ssl.SSLContext
    end: datetime | None
    warning: str | None = None


class Certificates:
    """What this worker serves with, and what it asks peers with. Blocks while it loads, for a tenth of a second.

    Args:
        index: Which worker this is: the first one says what is true of all.

    Raises:
        StartRefused: A file will not do.
    """

    def __init__(self, settings: Settings, index: int) -> None:
        self._is_first = index == 0
        loaded = {use: make(settings) for use, make in _MAKERS.items()}
        self._loaded = {use: one for use, one in loaded.items() if one is not None}

    @property
    def serves_tls(self) -> bool:
        """Whether TLS is on; decided at the start of the node."""
        return SERVING in self._loaded

    def serving(self) -> ssl.SSLContext:
        """The context for the next connection of a client; where TLS is on there is one."""
        return self._loaded[SERVING].context

    def peers(self) -> ssl.SSLContext:
        """The context for the next connection to a peer; where clustering is on there is one."""
        return self._loaded[PEERS].context

    def ends(self) -> Mapping[str, float]:
        """When each certificate in force ends, in seconds since 1970, by use: `serving`, `peers`."""
        return {use: one.end.timestamp() for use, one in self._loaded.items() if one.end is not None}

    async def reload(self, settings: Settings) -> None:
        """Load all files again; where those of one use will not do, what was made of them before stays in force.

        Args:
            settings: Those of the start, but for the password of the key.
        """
        for use in tuple(self._loaded):
            try:
                made = await asyncio.to_thread(_MAKERS[use], settings)
            except StartRefused as refused:
                self._say(logging.ERROR, "the certificate for %s stays the one before: %s", use, refused)
                continue
            assert made is not None  # the settings that decide it are those of the start
            self._loaded[use] = made
            if made.warning is not None:
                self._say(logging.WARNING, "%s", made.warning)
            elif made.end is not None:
                when = f"{made.end:%Y-%m-%dT%H:%M:%SZ}"
                self._say(logging.INFO, "the certificate for %s was read again; it ends at %s", use, when)

    def _say(self, level: int, message: str, *words: object) -> None:
        if self._is_first:
            _log.log(level, message, *words)


def _serving(settings: Settings) -> _Loaded | None:
    context = tls_context(settings)
    if context is None:
        return None
    warning = validity_warning(context, settings.ssl_certfile, datetime.now(UTC))
    return _Loaded(context, served_end(settings), warning)


def _peers(settings: Settings) -> _Loaded | None:
    if not settings.cluster_enabled:
        return None
    return _Loaded(peer_tls_context(settings), shown_end(settings))


_MAKERS: Final[Mapping[str, Callable[[Settings], _Loaded | None]]] = {SERVING: _serving, PEERS: _peers}
