"""Owns the keys in force in one worker: what the edge takes, what nodes show each other, and their renewal (SIGHUP).

A renewal takes all that was read or nothing: no door opens, and none closes, by a file that was half written, not
even where a worker takes a dead one's place meanwhile. Must not renew anything else; what was decided at the start of
the node stays until the next one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from oscd.api.guard import Guard
from oscd.errors import StartRefused
from oscd.replication.source import Source
from oscd.server.binding import is_loopback
from oscd.server.in_force import InForce
from oscd.server.settings import Settings, renew_keys
from oscd.server.spec import WorkerSpec
from oscd.streams.registry import Registry
from oscd.streams.ticket import credential

_log = logging.getLogger("oscd.worker")

_API_KEYS: Final = "api keys"
_CLUSTER_KEYS: Final = "cluster keys"


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
        self._in_force: InForce = spec.in_force[index]
        # A worker that replaces another starts after keys may have been rotated: those of the start would let in
        # again who was shut out.
        if self._renew() is None:
            self._as_before()

    @property
    def settings(self) -> Settings:
        """Those of the start of the node, with the keys and the password of the TLS key as they are now."""
        return self._settings

    @property
    def cluster_key(self) -> bytes:
        """What this node shows its peers; where clustering is on there is one."""
        return self.guard.cluster_keys[0]

    def reload(self) -> None:
        """Read API keys and cluster keys again; where they will not do, those before stay."""
        warnings = self._renew()
        if warnings is None:
            return
        for warning in warnings if self._is_first else ():
            _log.warning(warning)
        accepted = len(self.guard.api_keys), len(self.guard.cluster_keys)
        _log.info("the keys were read again: %d API keys and %d cluster keys are accepted now", *accepted)

    def _renew(self) -> Sequence[str] | None:
        """Take the keys there are now; gives what the operator should see, None where they will not do."""
        try:
            renewed = renew_keys(self._settings, os.environ, self._directory)
        except StartRefused as error:
            _log.error("the keys were not read again, and all stay as they were: %s", error)
            return None
        self._settings = renewed.settings
        self.guard = guard_of(renewed.settings)
        self._registry.revoke({credential(api_key) for api_key in self.guard.api_keys})
        if self._source is not None:
            self._source.revoke({credential(cluster_key) for cluster_key in self.guard.cluster_keys})
        self._in_force.keep(
            {
                _API_KEYS: b"\n".join(self._settings.api_keys),
                _CLUSTER_KEYS: b"\n".join(self._settings.cluster_keys),
            }
        )
        return renewed.warnings

    def _as_before(self) -> None:
        """Go by the keys that were in force in this place; where there was nobody, by those of the start."""
        kept = self._in_force.kept()
        if _API_KEYS not in kept:
            return
        api_keys, cluster_keys = (
            tuple(filter(None, kept[name].split(b"\n"))) for name in (_API_KEYS, _CLUSTER_KEYS)
        )
        self._settings = replace(self._settings, api_keys=api_keys, cluster_keys=cluster_keys)
        self.guard = guard_of(self._settings)


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
        cluster_keys=settings.cluster_keys if settings.cluster_enabled else (),
    )
