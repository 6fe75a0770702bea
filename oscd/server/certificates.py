"""Owns the TLS contexts in force in one worker, and their renewal (SIGHUP).

A context is made anew from all of its files and then takes the place of the one before as a whole: a handshake meets
the old files or the new ones, never a certificate with another's key. Connections go on as they began. A worker that
takes a dead one's place while the files will not do goes by those that were in force there.
Must not end a connection, nor let go of a context for files that will not do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from oscd.errors import StartRefused
from oscd.server.in_force import PLACE, InForce, memory
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
        in_force: What was in force in this worker's place before; takes what is from now on.

    Raises:
        StartRefused: A file will not do, and none was in force in this place before.
    """

    def __init__(self, settings: Settings, index: int, in_force: InForce) -> None:
        self._is_first = index == 0
        self._in_force = in_force
        loaded = {use: self._made_or_kept(use, settings) for use in _MAKERS}
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
                made = await asyncio.to_thread(self._made, use, settings)
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

    def _made(self, use: str, settings: Settings) -> _Loaded | None:
        """What the files of one use make, and note them for this worker's successor."""
        made = _MAKERS[use](settings)
        if made is not None:
            with suppress(OSError):  # A file went away since: what was noted before still fits together.
                self._in_force.keep(_contents(use, settings))
        return made

    def _made_or_kept(self, use: str, settings: Settings) -> _Loaded | None:
        """What the files of one use make, or else those that were in force in this place.

        A worker that crashes in the middle of a rotation shall not leave its place empty until that is mended.
        """
        try:
            return self._made(use, settings)
        except StartRefused as refused:
            try:
                with _earlier(use, settings, self._in_force.kept()) as earlier:
                    made = _MAKERS[use](earlier)
            except (StartRefused, OSError):
                raise refused from None
            _log.error("the certificate for %s is the one of the worker before: %s", use, refused)
            return made

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

_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    SERVING: ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"),
    PEERS: ("cluster_certfile", "cluster_keyfile", "cluster_ca_certs"),
}
"""The settings that name the files of each use."""

_PASSWORD: Final = f"{SERVING} password"


def _contents(use: str, settings: Settings) -> dict[str, bytes]:
    """What the files of one use hold, by setting, and the password that goes with them.

    Raises:
        OSError: One cannot be read.
    """
    paths = {name: getattr(settings, name) for name in _FILES[use]}
    contents = {name: Path(path).read_bytes() for name, path in paths.items() if path is not None}
    if use == SERVING:
        contents[_PASSWORD] = (settings.ssl_keyfile_password or "").encode()
    return contents


@contextmanager
def _earlier(use: str, settings: Settings, kept: Mapping[str, bytes]) -> Iterator[Settings]:
    """The settings, with files in memory that hold what was kept in place of those of one use.

    Raises:
        StartRefused: Nothing was kept of it.
        OSError: The system has no more descriptors, or no room.
    """
    contents = {name: kept[name] for name in _FILES[use] if name in kept}
    if not contents:
        raise StartRefused("no certificate was in force here before")
    with ExitStack() as held:
        paths = {}
        for name, content in contents.items():
            descriptor = memory("oscd-certificate", content)
            assert descriptor is not None  # something was kept, so the system has such files
            held.callback(os.close, descriptor)
            paths[name] = Path(f"{PLACE}/{descriptor}")
        earlier = replace(settings, **paths)  # type: ignore[arg-type]
        if use == SERVING:
            earlier = replace(earlier, ssl_keyfile_password=kept[_PASSWORD].decode() or None)
        yield earlier
