"""The effective settings of a node: read, checked against each other, warned about.

Owns: which settings contradict each other, and what a contradiction costs. Must not: touch the process (its
environment is an argument), open anything but `.env` and secret files, or let a secret into a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oscd.errors import StartRefused
from oscd.replication.peers import Peer, peers_of
from oscd.server.binding import is_loopback
from oscd.server.settings_sources import Given, given_texts, secret_from_file, unknown_name_warnings
from oscd.server.settings_table import TABLE, Row, Settings, known_names

__all__ = ["Renewed", "Settings", "load_settings", "renew_keys"]

# The example in the original's documentation; many deployments never changed it.
PLACEHOLDER_API_KEY = b"your-super-secret-api-key-here"

_CLUSTER_KEY = "OSC_CLUSTER_KEY"
_API_KEY = "OSC_API_KEY"
_RENEWABLE = frozenset({_API_KEY, _CLUSTER_KEY, "OSC_SSL_KEYFILE_PASSWORD"})


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a node that runs goes on with once its keys were read again.

    Attributes:
        warnings: What the operator should see.
    """

    settings: Settings
    warnings: tuple[str, ...]


def load_settings(environ: Mapping[str, str], directory: Path) -> tuple[Settings, list[str]]:
    """Read the settings of a node that runs in `directory`, and the warnings its operator should see.

    Relative secret files and `.env` are looked up in `directory`.

    Raises:
        StartRefused: A value cannot be parsed, a secret is given twice or cannot be read, or settings
            contradict each other in a way that would leave the node open.
    """
    texts = given_texts(environ, directory)
    settings = _read(texts, directory)
    _refuse_open_doors(settings)
    warnings = [
        *unknown_name_warnings(texts, known_names()),
        *_warnings(settings),
        *_cluster_warnings(settings),
    ]
    return _with_cluster_key(_without_wildcard_origin(settings)), warnings


def renew_keys(kept: Settings, environ: Mapping[str, str], directory: Path) -> Renewed:
    """Read API keys, cluster keys and the password of the TLS key again for a node that runs.

    All else stays as it was decided at its start.

    Args:
        kept: What it runs with.

    Raises:
        StartRefused: As of `load_settings`, or one of the keys is gone: all of them stay as they are then.
    """
    read = _read(given_texts(environ, directory), directory)
    sources = {name: source for name, source in kept.sources.items() if name not in _RENEWABLE}
    sources |= {name: source for name, source in read.sources.items() if name in _RENEWABLE}
    renewed = dataclasses.replace(
        kept,
        api_keys=read.api_keys,
        cluster_keys=read.cluster_keys,
        ssl_keyfile_password=read.ssl_keyfile_password,
        sources=sources,
    )
    _refuse_open_doors(renewed)
    was_own = kept.sources.get(_CLUSTER_KEY, _API_KEY) != _API_KEY
    if kept.cluster_enabled and was_own and not renewed.cluster_keys:
        # Nodes would show each other an API key from now on, and whoever holds that could read the whole log.
        raise StartRefused(f"{_CLUSTER_KEY} ({kept.sources[_CLUSTER_KEY]}): there is no key in it any more")
    renewed = _with_cluster_key(renewed)
    changed = ", ".join(_changed(kept, read))
    late = [f"changed, but not before the node is started again: {changed}"] if changed else []
    return Renewed(renewed, (*late, *_key_warnings(renewed)))


def _changed(kept: Settings, read: Settings) -> Iterator[str]:
    """Names of settings other than keys that differ from those a node was started with."""
    # As the start makes them what the node runs with.
    read = dataclasses.replace(
        _without_wildcard_origin(read),
        host_port=read.host_port or kept.host_port,
        database_path=read.database_path.resolve(),
    )
    for attribute, row in TABLE.items():
        if row.name not in _RENEWABLE and getattr(kept, attribute) != getattr(read, attribute):
            yield row.name


def _read(texts: Mapping[str, Given], directory: Path) -> Settings:
    """What is written down, whether it goes together or not.

    Raises:
        StartRefused: A value cannot be parsed, or a secret is given twice or cannot be read.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for attribute, row in TABLE.items():
        given = _given(row, texts, directory)
        if given is not None:
            values[attribute] = _parsed(row, given)
            sources[row.name] = given.source
    return Settings(**values, sources=sources)


def _given(row: Row, texts: Mapping[str, Given], directory: Path) -> Given | None:
    direct = texts.get(row.name) or (texts.get(row.alias) if row.alias else None)
    filed = secret_from_file(row.name, texts, directory) if row.secret else None
    if direct is None or filed is None:
        return direct or filed
    if not row.additive:
        raise StartRefused(f"{row.name} and {row.name}_FILE are both set; accepted is one of them")
    return Given(f"{direct.text}\n{filed.text}", f"{direct.source} and {filed.source}")


def _parsed(row: Row, given: Given) -> object:
    try:
        return row.parse(given.text.strip() if not row.secret else given.text)
    except ValueError as accepted:
        shown = "" if row.secret else f"={given.text[:80]!r}"
        # `from None`: a secret must not ride along in the chain of a traceback.
        raise StartRefused(f"{row.name}{shown} ({given.source}): accepted is {accepted}") from None


def _refuse_open_doors(settings: Settings) -> None:
    if settings.api_key_required and not settings.api_keys:
        raise StartRefused("OSC_API_KEY_REQUIRED=true: set OSC_API_KEY or OSC_API_KEY_FILE")
    if settings.api_key_required and PLACEHOLDER_API_KEY in settings.api_keys:
        raise StartRefused("OSC_API_KEY is the example everybody knows; choose a secret one")
    if settings.cluster_enabled and not settings.api_key_required:
        raise StartRefused(
            "OSC_CLUSTER_ENABLED=true: peers must be authenticated; set OSC_API_KEY_REQUIRED=true"
        )


def _warnings(settings: Settings) -> Iterator[str]:
    if settings.api_keys and not settings.api_key_required:
        yield "OSC_API_KEY is set but not asked for: set OSC_API_KEY_REQUIRED=true"
    if settings.ssl_ca_certs is not None and not settings.https_enabled:
        yield "OSC_SSL_CA_CERTS is set, but nobody is asked for a certificate: set OSC_HTTPS_ENABLED=true"
    if "*" in settings.cors_origins and not settings.api_key_required:
        yield "OSC_CORS_ORIGINS=* is ignored, because no API key is required"


def _cluster_warnings(settings: Settings) -> Iterator[str]:
    if not settings.cluster_enabled:
        if settings.cluster_nodes:
            yield "OSC_CLUSTER_NODES is set, but nothing is replicated: set OSC_CLUSTER_ENABLED=true"
        return
    if not settings.cluster_keys:
        yield (
            "OSC_CLUSTER_KEY is not set: nodes show each other the first API key, so whoever holds that can read"
            " the salt and the whole log"
        )
    yield from _key_warnings(settings)
    if settings.cluster_node_id is None:
        yield (
            f"OSC_CLUSTER_NODE_ID is not set: this node is called {settings.node_id} after its port, and two nodes"
            " with one name refuse each other"
        )
    if not settings.cluster_nodes:
        yield "OSC_CLUSTER_NODES names no other node: this one takes in nothing"
    clear = [peer.name for peer in _peers_in_clear(settings)]
    if clear:
        yield f"OSC_CLUSTER_NODES: the cluster key and the log travel in clear to {', '.join(clear)}; use https://"


def _key_warnings(settings: Settings) -> Iterator[str]:
    """What is unwise about the cluster keys that were chosen."""
    if not settings.cluster_enabled:
        return
    if PLACEHOLDER_API_KEY in settings.cluster_keys:
        yield "OSC_CLUSTER_KEY is the example everybody knows: choose a secret one"
    if settings.sources.get(_CLUSTER_KEY) != _API_KEY and set(settings.cluster_keys) & set(settings.api_keys):
        yield (
            "OSC_CLUSTER_KEY is an API key as well: whoever holds that can read the salt and the whole log; choose"
            " another one"
        )


def _peers_in_clear(settings: Settings) -> Iterator[Peer]:
    for peer in peers_of(settings.cluster_nodes, tls=settings.https_enabled):
        if not peer.is_encrypted and not is_loopback(peer.host):
            yield peer


def _with_cluster_key(settings: Settings) -> Settings:
    """Where none is set, nodes show each other the first API key."""
    if not settings.cluster_enabled or settings.cluster_keys:
        return settings
    sources = {**settings.sources, _CLUSTER_KEY: _API_KEY}
    return dataclasses.replace(settings, cluster_keys=settings.api_keys[:1], sources=sources)


def _without_wildcard_origin(settings: Settings) -> Settings:
    if settings.api_key_required or "*" not in settings.cors_origins:
        return settings
    return dataclasses.replace(settings, cors_origins=tuple(o for o in settings.cors_origins if o != "*"))
