"""Owns the keys in force in one worker: what the edge takes, what nodes show each other, and their renewal (SIGHUP).

A renewal takes all that was read or nothing: no door opens, and none closes, by a file that was half written. Must
not renew anything else; what was decided at the start of the node stays until the next one.
"""

from __future__ import annotations

import logging
import os

from oscd.api.guard import Guard
from oscd.errors import StartRefused
from oscd.replication.source import Source
from oscd.server.binding import is_loopback
from oscd.server.settings import Settings, renew_keys
from oscd.server.spec import WorkerSpec
from oscd.streams.registry import Registry
from oscd.streams.ticket import credential

_log = logging.getLogger("oscd.worker")


class Keys:
    """The guard in force, and its renewal when the operator has rotated keys.

    Args:
        index: Which worker this is: the first one says what is true of all.
        registry: Ends streams of callers whose key is gone …
        source: … and this those of nodes; None where clustering is off.
    """

    def __init__(self, spec: WorkerSpec, index: int, registry: Registry, source: Source | None) -> None:
        self._directory = spec.directory
        self._settings = spec.settings
        self._is_first = index == 0
        self._registry = registry
        self._source = source
        self.guard = guard_of(spec.settings)
        # A worker that replaces another starts after keys may have been rotated.
        self.reload()

    @property
    def cluster_key(self) -> bytes:
        """What this node shows its peers; where clustering is on there is one."""
        assert self.guard.cluster_key is not None
        return self.guard.cluster_key

    def reload(self) -> None:
        """Read API keys and cluster key again; where they will not do, those before stay."""
        try:
            renewed = renew_keys(self._settings, os.environ, self._directory)
        except StartRefused as error:
            _log.error("the keys were not read again, and all stay as they were: %s", error)
            return
        if renewed.changed and self._is_first:
            _log.warning("changed, but not before the node is started again: %s", ", ".join(renewed.changed))
        self._settings = renewed.settings
        self.guard = guard_of(renewed.settings)
        self._registry.revoke({credential(api_key) for api_key in self.guard.api_keys})
        if self._source is not None:
            self._source.revoke(credential(self.cluster_key))


def guard_of(settings: Settings) -> Guard:
    """The edge's rules, as the settings have them.

    Only a keyless node on loopback checks host names: there a web page that rebinds its own name to 127.0.0.1
    would otherwise be let in by whoever sits before the browser.
    """
    keyless = not settings.api_key_required
    return Guard(
        api_keys=() if keyless else settings.api_keys,
        hosts=frozenset(settings.allowed_hosts) if keyless and is_loopback(settings.host) else None,
        origins=frozenset(settings.cors_origins),
        cluster_key=settings.cluster_key if settings.cluster_enabled else None,
    )
